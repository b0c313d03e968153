"""Failures lifted out of streams: what a chunk still says beside one, then one error event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from sseproxy.core.chunk import Chunk, error_event, read_json, write_json
from sseproxy.core.normalize.bodies import Doubt
from sseproxy.core.normalize.failures import choices_of, doubt_in, failure_in
from sseproxy.core.redact import redact_failure, redact_json
from sseproxy.core.sse import Event
from sseproxy.core.usage import find_usage

__all__ = ["lift_failures", "redact_failures"]


def lift_failures(events: Iterator[Event], redact: Callable[[str], str] = str) -> Iterator[Event]:
    """Turn every chunk that reports an error into the text it still carries and an error event.

    :param redact: goes over a chunk that may be an error and passes, for it may quote a key as any does.
    """
    for event in events:
        if type(event) is not Chunk:
            yield event
            continue
        failure = failure_in(event.body, event.type)
        if failure is None and (doubt := doubt_in(event.body)) is not None:
            event.body = read_json(redact_json(write_json(event.body).decode(), redact))
            yield event
            yield Doubt(read=True, failure=doubt)
            continue
        if failure is None:
            yield event
            continue
        rest = _without_failure(event.body)
        if rest is not None:
            yield Chunk(body=rest, steady=False)
        yield error_event(failure)


def redact_failures(events: Iterator[Event], redact: Callable[[str], str]) -> Iterator[Event]:
    """Let `redact` cut what is no client's business out of the words of every failure, and of an `error` before it."""
    for event in events:
        if event.error is not None:
            redact_failure(event.error, redact)
        if event.error is not None or event.type == "error":
            event.data = redact_json(event.data.decode(), redact).encode()
        yield event


def _without_failure(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chunk without its error and its bogus finish: its usage alone if it says nothing, None without any."""
    kept = [
        {name: value for name, value in choice.items() if name not in ("error", "finish_reason")}
        for choice in choices_of(body) or ()
    ]
    if not any(map(_says_something, kept)):
        usage: dict[str, Any] = {name: body[name] for name in ("usage", "cost") if name in body}
        return {**usage, "choices": []} if find_usage(usage) is not None else None
    rest = {name: value for name, value in body.items() if name not in ("error", "base_resp")}
    if isinstance(groq := rest.get("x_groq"), dict):
        rest["x_groq"] = {name: value for name, value in groq.items() if name != "error"}
    return {**rest, "choices": kept}


def _says_something(choice: Mapping[str, Any]) -> bool:
    if choice.get("text"):
        return True
    delta = choice.get("delta") or choice.get("message")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name != "role")
