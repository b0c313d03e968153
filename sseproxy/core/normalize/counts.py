"""Usage in a stream: taken out of wherever it came with, and sent on as chunks with ``choices: []``.

The last one wins, nothing is summed here and nothing erases; a later transform lets only one of them through.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from sseproxy.core.chunk import REPEATED, Chunk
from sseproxy.core.plain_usage import PLAIN, plain_counts, timed_counts, timed_fields
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage, find_usage, tidy_usage, usage_of
from sseproxy.core.usage_of_choices import Reports
from sseproxy.core.usage_so_far import merge_usage

__all__ = ["read_again", "separate_usage"]

_OF_REASONING: Final = "completion_tokens_details"


def separate_usage(
    events: Iterator[Event], *, fold: bool = True, as_told: Callable[[Usage], Usage] = lambda usage: usage
) -> Iterator[Event]:
    """Move usage to chunks of its own; :attr:`Event.usage` says on both what is known by then.

    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    :param as_told: see :class:`~sseproxy.core.shapes.Shapes`.
    """
    known: dict[str, Any] | None = None
    reports = Reports()
    for event in events:
        if type(event) is not Chunk:
            yield event
            continue
        body = event.body
        found = find_usage(body, fold=fold)
        if found is None and not body["choices"] and known is not None and body.get("cost") is not None:
            # A bill that comes by itself (opencode#39606).
            found = tidy_usage({**known, "cost": body["cost"]}, fold=fold)
        _remove(body)
        reports.see(body["choices"])
        if found is None:
            if body["choices"]:
                yield event
            continue
        known = merge_usage(known, found)
        assert known is not None
        told = usage_of(found)
        usage = as_told(reports.add(told, told if known is found else usage_of(known)))
        if body["choices"]:
            event.usage = usage
            event.reads = partial(read_again, like=found, fold=fold)
            event.steady = event.steady and [*known] == [*found]
            yield event
            body = {name: body[name] for name in REPEATED if name in body}
        yield Chunk(body={**body, "choices": [], "usage": known}, usage=usage, steady=False)


def read_again(fields: Mapping[str, Any], like: Mapping[str, Any], *, fold: bool) -> Usage | None:
    """Return what is known after usage of these fields, if all before it had the same, of which then nothing stays.

    :param like: such a usage, in OpenAI's shape.
    """
    given = fields.get("usage")
    if given and given.keys() <= like.keys() <= PLAIN and (known := plain_counts(given, fold=fold)) is not None:
        found = {**given, _OF_REASONING: None} if known.reasoning_tokens else given
        return known if known.input_tokens and known.output_tokens and found.keys() == like.keys() else None
    timings = fields.get("timings")
    if timings and given is None and (known := timed_counts(timings)) is not None:
        is_alike = known.input_tokens and known.output_tokens and timed_fields(timings) == [*like]
        return known if is_alike else None
    tidy = find_usage(fields, fold=fold)
    if tidy is None or [*tidy] != [*like] or not (tidy["prompt_tokens"] and tidy["completion_tokens"]):
        return None
    return usage_of(tidy)


def _remove(body: dict[str, Any]) -> None:
    body.pop("usage", None)
    for choice in body["choices"]:
        choice.pop("usage", None)
    groq = body.get("x_groq")
    if isinstance(groq, dict) and "usage" in groq:
        body["x_groq"] = {name: value for name, value in groq.items() if name != "usage"}
