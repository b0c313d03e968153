"""The first events of a Responses stream, with a whole response, and the last: the answer, or ``response.failed``.

The AI SDK and openai-node's ``responses.stream()`` raise at what llama.cpp's first ones lack. Of a failure tell
``error`` and ``response.failed``, as OpenAI's do: Codex passes over ``error``, the AI SDK up to version 5 over
``response.failed``. Their member ``error`` makes openai-python and openai-node raise (tests/wire: R03, R04, R16).
Specification: https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Generator, Iterator
from typing import Any, Final

from sseproxy.core.chunk import Chunk, read_json, rewrite, write_json
from sseproxy.core.failure import Failure
from sseproxy.core.normalize.bodies import BODY_LIMIT, IDLE, Doubt
from sseproxy.core.normalize.end import HEARTBEATS_FOR_USAGE
from sseproxy.core.normalize.gather import Response
from sseproxy.core.normalize.reading import reader_of, told_failure
from sseproxy.core.normalize.suspicion import SuspicionOfTyped
from sseproxy.core.possible_end import LAST, TERMINAL
from sseproxy.core.sse import DONE, FLUSH, HEARTBEAT, Event

__all__ = ["Course", "conclude_response", "continue_response"]

_BEGINNINGS: Final = frozenset(["response.created", "response.queued", "response.in_progress"])
_NEEDED: Final = ("id", "object", "created_at", "status", "model", "output")
_FAILED: Final = "response.failed"
# Events after an `error` among which its `response.failed` is waited for.
_PATIENCE: Final = 100


def conclude_response(events: Iterator[Event], course: Course) -> Iterator[Event]:
    """Seal the events of a stream, up to the one that ends it.

    :param events: each with its type.
    :param course: of a stream that has not begun.
    """
    reader, answer = reader_of("responses"), Response()
    begun, size = False, 0
    for event in _end(events):
        if type(event) is not Chunk:
            yield event
            continue
        body = event.body
        if event.error is not None:
            body = course.failed(event.error, body)
            if begun:  # one that fails at once is refused instead, by the one event that says so
                yield _error_before(body)
        begun = True
        body = course.note(body)
        size += len(event.data)
        if size > BODY_LIMIT:  # its output is gathered no longer, for a terminal event that lacks it
            answer = Response()
        answer.add(body)
        told = body
        if event.type in TERMINAL and isinstance(body.get("response"), dict):
            told = {**body, "response": answer.body()}
        sealed = Event(rewrite(event.data, told), event.type, read=True, error=event.error)
        reader.read(body, sealed)
        yield sealed


class OwnFailure(Event):
    """Tells of a failure of the proxy's own, made where nobody knows what the stream has told."""


def continue_response(events: Iterator[Event]) -> Iterator[Event]:
    """Let a failure of the proxy's own have the next number, and be of the response that was begun.

    :param events: of a stream that is concluded.
    """
    first: Event | None = None
    last: Event | None = None
    for event in events:
        if type(event) is not OwnFailure:
            if event is not FLUSH:
                first, last = first or event, event
            yield event
        elif event.error is not None:
            course = Course()
            for told in filter(None, (first, last)):
                course.note(read_json(told.data))
            yield from course.failure_events(event.error)


class Course:
    """What a stream has told of its response so far, for the event that says that it failed.

    :param make_id: random part of the id of a response that was not told of; `now`: seconds since 1970, of when it was
        created; `model`: the model's name.
    """

    _response: dict[str, Any] | None = None
    _empty: dict[str, Any] | None = None
    _number = -1

    def __init__(
        self,
        make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
        now: Callable[[], float] = time.time,
        model: str = "",
    ) -> None:
        self._make_id, self._now, self._model = make_id, now, model

    def note(self, body: dict[str, Any]) -> dict[str, Any]:
        """Take one event in, and return it; one that tells of the beginning with what its response lacks."""
        if isinstance(body.get("response"), dict):
            if body.get("type") in _BEGINNINGS:
                body = self._begun(body, body["response"])
            self._response = body["response"]
        if isinstance(body.get("sequence_number"), int):
            self._number = body["sequence_number"]
        return body

    def failed(self, failure: Failure, given: dict[str, Any]) -> dict[str, Any]:
        """Return the ``response.failed`` that tells of `failure`, with what an upstream said in its own, `given`."""
        response, error = given.get("response"), given.get("error")
        known = self._made_up() if self._response is None else self._response
        response = {**known, **(response if isinstance(response, dict) else {}), "status": "failed"}
        reason = response.get("error")
        said = {"code": str(failure.code or failure.type), "message": failure.message}
        response["error"] = {**reason, **said} if isinstance(reason, dict) else said
        told = {**failure.as_json()["error"], **(error if isinstance(error, dict) else {})}
        return {
            "type": _FAILED,
            **given,
            "sequence_number": self._number + 1,
            "response": response,
            "error": {**told, "message": failure.message},
        }

    def failure_events(self, failure: Failure) -> list[Event]:
        """Return the events that tell of a failure of the proxy's own."""
        body = self.failed(failure, {})
        error = _error_before(body)
        return [
            OwnFailure(error.data, error.type, read=True),
            OwnFailure(write_json(body), _FAILED, read=True, error=failure),
        ]

    def _begun(self, body: dict[str, Any], response: dict[str, Any]) -> dict[str, Any]:
        missing = [name for name in _NEEDED if response.get(name) is None]
        if not missing:
            return body
        empty = self._made_up()
        return {**body, "response": {**response, **{name: empty[name] for name in missing}}}

    def _made_up(self) -> dict[str, Any]:
        self._empty = self._empty or {
            "id": f"resp_{self._make_id()}",
            "object": "response",
            "created_at": int(self._now()),
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": self._model,
            "output": [],
            "usage": None,
        }
        return self._empty


def _error_before(failed: dict[str, Any]) -> Event:
    """The same as an ``error``, which takes its number: flat, as specified, and nested, as OpenAI sends it."""
    number = failed["sequence_number"]
    failed["sequence_number"] = number + 1
    reason = failed["response"]["error"]
    said = {"code": reason["code"], "message": reason["message"], "param": failed["error"].get("param")}
    error = {**failed["error"], **said}
    body = {"type": "error", **said, "sequence_number": number, "error": error}
    return Event(write_json(body), "error", read=True)


def _end(events: Iterator[Event]) -> Iterator[Event]:
    """Pass the events on, up to the last; a chunk with an error is a ``response.failed``, whatever it was."""
    suspicion = SuspicionOfTyped()
    for event in events:
        if type(event) is Chunk:
            suspicion.has_begun = True
            suspicion.clear()
            event.error = told_failure(event.body, event.type)
            if event.error is not None and event.type != _FAILED:
                event = yield from _failed_after(event, event.error, events)
            yield event
            if event.type in LAST:
                return
        elif event.error is not None:
            yield Chunk(type=_FAILED, error=event.error)
            return
        elif type(event) is Doubt:
            suspicion.take(event)
        elif event is FLUSH:  # `[DONE]` is not of this protocol; the end of the body says it
            yield event
    yield Chunk(type=_FAILED, error=suspicion.broken_off())


def _failed_after(event: Chunk, failure: Failure, events: Iterator[Event]) -> Generator[Event, None, Chunk]:
    """Make one ``response.failed`` of an event that tells of `failure` and of the last event, if there is one."""
    last = event.body if event.type in LAST else (yield from _last_of(events))
    if last.get("type") == _FAILED and isinstance(last.get("error"), dict):  # as written here, with all that is known
        return Chunk(type=_FAILED, body=last, error=told_failure(last, _FAILED))
    given = event.body.get("error")
    error = {**failure.as_json()["error"], **(given if isinstance(given, dict) else {})}
    body = {**last, "type": _FAILED, "error": error}
    return Chunk(type=_FAILED, body=body, error=failure)


def _last_of(events: Iterator[Event]) -> Generator[Event, None, dict[str, Any]]:
    """Drop what comes before the last event. Empty if that does not come before the end, two ticks, or as many
    heartbeats as leave no room for these, or too much else.
    """
    ticks = beats = others = 0
    for event in events:
        if event is FLUSH:
            yield event
        elif type(event) is Chunk and event.type in LAST:
            return event.body
        elif event.error is not None or event.data == DONE:
            break
        elif event is IDLE:
            ticks += 1
        elif event is HEARTBEAT or type(event) is Doubt:
            beats += 1
        else:
            ticks = beats = 0
            others += 1
        if ticks > 1 or beats >= HEARTBEATS_FOR_USAGE or others > _PATIENCE:
            break
    return {}
