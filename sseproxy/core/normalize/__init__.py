"""Normalisation: whatever an upstream emits, one clean stream comes out.

* :func:`events_of` reads any body into raw events; :func:`normalize` makes them canonical: the transforms below, each
  events to events, in this order, none knowing of the others; :func:`annotate` only reads, and changes nothing.
* :func:`completion_of` gathers a normalised stream into one JSON answer, which :func:`read_gathered` reads, too;
  :func:`read_completion` reads, repairs and meters an answer that came as one, :func:`read_canonical` one that needs no
  repair; :func:`failure_of` a refusal.

framing -> failures -> messages -> foreign shapes -> envelope -> deltas -> (cumulative, thinking) -> tool calls ->
finish -> usage -> end -> (first) -> seal; plain chunks of a known shape go around them all, and a stream that is
canonical needs none of them. Sans-IO; no switch on a vendor's name, only shapes.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Literal

from sseproxy.core.chat import Api
from sseproxy.core.normalize.bodies import events_of
from sseproxy.core.normalize.canonical import read_canonical
from sseproxy.core.normalize.completion import Completion, completion_of, read_completion, read_gathered
from sseproxy.core.normalize.counts import separate_usage
from sseproxy.core.normalize.cumulative import strip_repetition
from sseproxy.core.normalize.deltas import tidy_deltas, tidy_texts
from sseproxy.core.normalize.dialect import STANDARD, Dialect
from sseproxy.core.normalize.end import conclude
from sseproxy.core.normalize.envelope import Identity, unify_envelope
from sseproxy.core.normalize.failures import failure_ending, failure_of
from sseproxy.core.normalize.finish import tidy_finish
from sseproxy.core.normalize.first import lead_with_first
from sseproxy.core.normalize.foreign import adopt_foreign
from sseproxy.core.normalize.framing import repair_framing
from sseproxy.core.normalize.function_call import tidy_function_calls
from sseproxy.core.normalize.lifting import lift_failures, redact_failures
from sseproxy.core.normalize.messages import settle_messages
from sseproxy.core.normalize.plain import Plain
from sseproxy.core.normalize.reading import annotate
from sseproxy.core.normalize.responses import continue_response
from sseproxy.core.normalize.seal import seal
from sseproxy.core.normalize.shortcut import shorten
from sseproxy.core.normalize.straight import go_straight
from sseproxy.core.normalize.thinking import split_thinking
from sseproxy.core.normalize.tool_calls import tidy_calls
from sseproxy.core.normalize.typed import failure_events, normalize_typed
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import Event

__all__ = [
    "STANDARD",
    "Completion",
    "Dialect",
    "Plain",
    "annotate",
    "completion_of",
    "continue_response",
    "events_of",
    "failure_ending",
    "failure_events",
    "failure_of",
    "normalize",
    "read_canonical",
    "read_completion",
    "read_gathered",
]

# Fields that repeat together; each group is watched for itself.
_CHAT_TEXTS = (("delta.content", "delta.refusal"), ("delta.reasoning_content", "delta.reasoning"))


def normalize(
    events: Iterator[Event],
    *,
    api: Api,
    model: str = "",
    choices: int = 1,
    tools: Collection[str] = (),
    dialect: Dialect = STANDARD,
    make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    now: Callable[[], float] = time.time,
    plain: Plain | None = None,
    redact: Callable[[str], str] = str,
) -> Iterator[Event]:
    """Return the canonical stream of raw `events`; ends after exactly one ``[DONE]`` or one error event.

    :param events: from :func:`events_of` or :func:`sseproxy.core.sse.decode`.
    :param api: what was asked; chat and completions become canonical, typed streams are repaired and passed on.
    :param model: the model's name where the upstream gives none.
    :param choices: the request's ``n``.
    :param tools: the names of the request's functions.
    :param dialect: what the operator knows of the upstream.
    :param make_id: random part of an id the upstream did not give.
    :param now: seconds since 1970, for a ``created`` the upstream did not give.
    :param plain: is told what plain chunks look like.
    :param redact: goes over what is said of failures.
    """
    shapes = Shapes()
    if plain is not None:
        plain.shapes = shapes
    if api in ("responses", "messages"):
        events = repair_framing(events, shapes, pings=api == "messages")
        events = normalize_typed(events, api, model=model, make_id=make_id, now=now)
        return redact_failures(events, redact)

    def transforms(events: Iterator[Event]) -> Iterator[Event]:
        identity = Identity(api, model, make_id=make_id, now=now)
        events = repair_framing(events, shapes)
        events = lift_failures(events, redact)
        if api == "chat":
            events = settle_messages(events, shapes, choices)
        events = adopt_foreign(events)
        events = unify_envelope(events, identity)
        if api == "completions":
            events = _tidy_texts(events, choices, dialect)
        else:
            cumulative = dialect.cumulative == "always"
            events = tidy_function_calls(_tidy_chat(events, choices, dialect), tools, cumulative=cumulative)
            events = tidy_calls(events, make_id, tools, cumulative=cumulative)
        events = tidy_finish(events)
        events = separate_usage(events, fold=dialect.reasoning_in_total, as_told=shapes.as_told)
        events = conclude(events, identity, choices, text=api == "completions")
        if choices > 1 and api == "chat":
            events = lead_with_first(events)
        return redact_failures(seal(events, shapes), redact)

    if api == "chat" and choices == 1 and dialect.cumulative == "auto" and not dialect.think_tags:
        return go_straight(events, shapes, transforms, fold=dialect.reasoning_in_total)
    return shorten(events, shapes, transforms)


def _tidy_chat(events: Iterator[Event], choices: int, dialect: Dialect) -> Iterator[Event]:
    events = tidy_deltas(events, choices)
    for names in _CHAT_TEXTS:
        events = strip_repetition(events, _cumulative(dialect, choices), names)
    return split_thinking(events) if dialect.think_tags else events


def _tidy_texts(events: Iterator[Event], choices: int, dialect: Dialect) -> Iterator[Event]:
    return strip_repetition(tidy_texts(events, choices), _cumulative(dialect, choices), ("text",))


def _cumulative(dialect: Dialect, choices: int) -> Literal["auto", "always", "never"]:
    """The evidence that `auto` asks for is only told apart where there is one answer."""
    return "never" if dialect.cumulative == "auto" and choices > 1 else dialect.cumulative
