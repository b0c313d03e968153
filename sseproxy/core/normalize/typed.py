"""Typed streams: OpenAI Responses and Anthropic Messages pass through, each event with its type, and end for certain.

Nothing is translated. Repaired are the framing, the ``event:`` line and the end; read are text, usage and errors. An
error the client's SDK would not notice also gets the ``error`` member that makes it raise (tests/wire: R03, R04).
Specifications: https://platform.openai.com/docs/api-reference/responses-streaming,
https://docs.anthropic.com/en/api/messages-streaming
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sseproxy.core.chunk import Chunk, error_event, rewrite, write_json
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import IDLE, Lost
from sseproxy.core.normalize.failures import failure_in, invalid_stream, truncated
from sseproxy.core.normalize.reading import Reader, reader_of
from sseproxy.core.normalize.whole import replay
from sseproxy.core.possible_end import LAST
from sseproxy.core.sse import DONE, Event

__all__ = ["failure_event", "normalize_typed"]


def normalize_typed(events: Iterator[Event], api: str) -> Iterator[Event]:
    """Pass the events of a typed stream on, up to the one that ends it or an error event.

    :param events: after framing repair.
    :param api: ``responses`` or ``messages``.
    """
    events = _adopt_whole(events, api)
    events = _restore_types(events)
    return _conclude(events, api, reader_of(api))


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
    """Make the ``event:`` line and ``type`` agree; the JSON's own type wins."""
    for event in events:
        if type(event) is Chunk:
            body = event.body
            kind = body.get("type")
            if not isinstance(kind, str) or not kind:
                kind = event.type or ("error" if failure_in(body) is not None else "")
                if not kind:
                    continue
                event.body = {**body, "type": kind}
            event.type = kind
        yield event


def _conclude(events: Iterator[Event], api: str, reader: Reader) -> Iterator[Event]:
    begun = stopped = False
    ticks = 0
    for event in events:
        if type(event) is Chunk:
            begun, ticks = True, 0
            stopped = stopped or (event.type == "message_delta" and _stops(event.body))
            failure = _failure(event.body)
            sealed = _seal(event, failure)
            reader.read(event.body, sealed)
            yield sealed
            if failure is not None or event.type in LAST:
                return
        elif stopped and type(event) is Lost:
            break
        elif event.error is not None:
            failed = failure_event(event.error, api)
            failed.usage = reader.usage
            yield failed
            return
        elif event.data == DONE:  # not of this protocol; the end of the body says the same
            continue
        elif event is not IDLE:
            yield event
        elif stopped:
            ticks += 1
            if ticks > 1:
                break
    if stopped:  # all was said but that it is all
        yield Event(b'{"type":"message_stop"}', "message_stop", read=True)
        return
    failed = failure_event(truncated() if begun else invalid_stream("no event of this API"), api)
    failed.usage = reader.usage
    yield failed


def _stops(body: dict[str, Any]) -> bool:
    delta = body.get("delta")
    return isinstance(delta, dict) and bool(delta.get("stop_reason"))


def _failure(body: dict[str, Any]) -> Failure | None:
    kind = body["type"]
    if kind == "response.failed":
        response = body.get("response")
        inner = response.get("error") if isinstance(response, dict) else None
        return failure_in({"error": inner or {"message": "The upstream's response failed."}})
    if kind == "error" or body.get("error"):
        return failure_in(body, "error")
    return None


def _seal(event: Chunk, failure: Failure | None) -> Event:
    body = event.body
    if failure is not None:
        given = body.get("error")
        error: dict[str, Any] = {**failure.as_json()["error"], **(given if isinstance(given, dict) else {})}
        body = {**body, "error": {**error, "message": failure.message}}
    data = rewrite(event.data, body)
    sealed = Event(data, event.type, read=True)
    sealed.error = failure
    return sealed


def failure_event(failure: Failure, api: str) -> Event:
    """The event that tells a client of this API, in the middle of a stream, of a failure."""
    if api == "messages":
        return _messages_error(failure)
    return _responses_error(failure) if api == "responses" else error_event(failure)


def _responses_error(failure: Failure) -> Event:
    body = {"type": "error", "code": failure.code, "message": failure.message, "param": failure.param,
            "sequence_number": 0, **failure.as_json()}  # fmt: skip
    return Event(write_json(body), "error", read=True, error=failure)


def _messages_error(failure: Failure) -> Event:
    body = {"type": "error", **failure.as_json()}
    return Event(write_json(body), "error", read=True, error=failure)
