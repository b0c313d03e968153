"""Typed streams: OpenAI Responses and Anthropic Messages pass through, each event with its type, and end for certain.

Nothing is translated. Repaired are the framing, the ``event:`` line, the beginning (:mod:`.typed_message`), the end and
(:mod:`.places`) what says where an event belongs; read are text, usage and errors.
Specifications: https://platform.openai.com/docs/api-reference/responses-streaming (its end: :mod:`.responses`),
https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, error_event, rewrite, write_json
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import IDLE, Doubt, Lost
from sseproxy.core.normalize.end import HEARTBEATS
from sseproxy.core.normalize.failures import doubt_in, failure_in
from sseproxy.core.normalize.places import number_places
from sseproxy.core.normalize.reading import reader_of, told_failure
from sseproxy.core.normalize.responses import Course, conclude_response
from sseproxy.core.normalize.suspicion import SuspicionOfTyped
from sseproxy.core.normalize.typed_message import complete_message
from sseproxy.core.normalize.whole import replay
from sseproxy.core.possible_end import LAST
from sseproxy.core.refusal import error_of_messages
from sseproxy.core.sse import DONE, HEARTBEAT, Event

__all__ = ["failure_events", "normalize_typed"]


def normalize_typed(
    events: Iterator[Event], api: str, *, model: str, make_id: Callable[[], str], now: Callable[[], float]
) -> Iterator[Event]:
    """Pass the events of a typed stream on, up to the one that ends it.

    :param events: after framing repair.
    :param api: ``responses`` or ``messages``.
    :param model: of an answer of which the upstream did not say that it begins, as are `make_id` and `now`.
    """
    events = _restore_types(_adopt_whole(events, api))
    if api == "responses":
        return conclude_response(number_places(events), Course(make_id, now, model))
    return _conclude_message(complete_message(events, make_id, model))


def _adopt_whole(events: Iterator[Event], api: str) -> Iterator[Event]:
    """Replay an answer that came as one JSON document as the stream it would have been; drop repetitions of it."""
    kind = "message" if api == "messages" else "response"
    begun = False
    for event in events:
        if type(event) is Chunk and kind in (event.body.get("type"), event.body.get("object")):
            if not begun and (kind == "response" or not failure_in(event.body)):
                yield from replay(api, event.body)
            continue  # MiniMax repeats the message as a whole (one-api#2406)
        begun = begun or type(event) is Chunk
        yield event


def _restore_types(events: Iterator[Event]) -> Iterator[Event]:
    """Make the ``event:`` line and ``type`` agree; the JSON's own type wins, unless it is that of an error."""
    for event in events:
        if type(event) is Chunk:
            body = event.body
            kind = body.get("type")
            if not isinstance(kind, str):
                kind = ""
            if event.type == "error" and kind not in ("", "error", *LAST):  # llama.cpp's `event: error`
                body, kind = body if "error" in body else {"error": body}, ""
            if not kind:
                kind = event.type or ("error" if failure_in(body) is not None else "")
                if not kind:
                    if (doubt := doubt_in(body)) is not None:
                        yield Doubt(read=True, failure=doubt)
                    continue
                event.body = {**body, "type": kind}
            event.type = kind
        yield event


def _conclude_message(events: Iterator[Event]) -> Iterator[Event]:
    reader = reader_of("messages")
    suspicion = SuspicionOfTyped()
    stopped = False
    ticks = beats = 0
    for event in events:
        if type(event) is Chunk:
            suspicion.has_begun, ticks = True, 0
            if event.type != "ping":
                suspicion.clear()
            beats += stopped and event.type == "ping"
            stopped = stopped or (event.type == "message_delta" and _stops(event.body))
            sealed = _seal(event, told_failure(event.body, event.type))
            reader.read(event.body, sealed)
            if sealed.error is not None:
                sealed.usage = reader.usage
            yield sealed
            if sealed.error is not None or event.type in LAST:
                return
        elif stopped and type(event) is Lost:
            break
        elif event.error is not None:
            failed = _messages_error(event.error)
            failed.usage = reader.usage
            yield failed
            return
        elif event.data == DONE:  # not of this protocol; the end of the body says the same
            continue
        elif event is IDLE:
            ticks += stopped
        elif event is HEARTBEAT or type(event) is Doubt:
            beats += stopped
            if type(event) is Doubt:
                suspicion.take(event)
        else:
            yield event
        if ticks > 1 or beats >= HEARTBEATS:
            break
    if stopped:  # all was said but that it is all
        yield Event(b'{"type":"message_stop"}', "message_stop", read=True)
        return
    failed = _messages_error(suspicion.broken_off())
    failed.usage = reader.usage
    yield failed


def _stops(body: dict[str, Any]) -> bool:
    delta = body.get("delta")
    return isinstance(delta, dict) and bool(delta.get("stop_reason"))


def _seal(event: Chunk, failure: Failure | None) -> Event:
    """Add the ``error`` member that makes an SDK raise to what would not."""
    body = event.body
    if failure is not None:
        given = body.get("error")
        error: dict[str, Any] = {**failure.as_json()["error"], **(given if isinstance(given, dict) else {})}
        body = {**body, "error": {**error, "message": failure.message}}
    return Event(rewrite(event.data, body), event.type, read=True, error=failure)


def failure_events(failure: Failure, api: str) -> list[Event]:
    """What tells a client of this API, in the middle of a stream, of a failure."""
    if api == "messages":
        return [_messages_error(failure)]
    if api == "responses":
        return Course().failure_events(failure)
    return [error_event(failure)]


def _messages_error(failure: Failure) -> Event:
    return Event(write_json(error_of_messages(failure)), "error", read=True, error=failure)
