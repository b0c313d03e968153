"""Answers that are one JSON document: gathered from a stream, or read and repaired as they came."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from msgspec.structs import replace

from sseproxy.core.chunk import read_json, text_of, texts_by_choice, write_json
from sseproxy.core.normalize.bodies import BODY_LIMIT
from sseproxy.core.normalize.canonical import OBJECTS, Completion, read_canonical
from sseproxy.core.normalize.deltas import adopt_message, tidy_message
from sseproxy.core.normalize.envelope import Identity
from sseproxy.core.normalize.executed_tools import ExecutedTools
from sseproxy.core.normalize.failures import (
    doubt_in,
    failure_ending,
    failure_in,
    invalid_answer,
    invalid_stream,
    truncated,
)
from sseproxy.core.normalize.finish import finish_of
from sseproxy.core.normalize.foreign import adopt_whole, put_in_place, unwrap
from sseproxy.core.normalize.gather import Answer, Message, Response
from sseproxy.core.normalize.reading import reader_of, told_failure
from sseproxy.core.normalize.tool_calls import tidy_tool_calls
from sseproxy.core.possible_end import TERMINAL
from sseproxy.core.sse import DONE, Event
from sseproxy.core.usage import Usage, find_usage, usage_of

__all__ = ["Completion", "completion_of", "read_completion", "read_gathered"]


def completion_of(events: Iterable[Event], api: str, *, limit: int = BODY_LIMIT) -> bytes:
    """Gather a normalised stream into the JSON answer that a client with ``stream: false`` expects.

    :param limit: bytes of events at most.
    :raises Failure: the stream's error, or that it is too long.
    """
    answer = Response() if api == "responses" else Message() if api == "messages" else Answer(api)
    size = 0
    complete = False
    for event in events:
        if (failure := failure_ending(event)) is not None:
            raise failure
        if event.data == DONE:
            complete = True
        elif event.data:
            size += len(event.data)
            if size > limit:
                raise invalid_answer(f"an answer of more than {limit} bytes")
            answer.add(read_json(event.data))
            complete = complete or event.type in TERMINAL
    if not complete:
        raise truncated()
    return write_json(answer.body())


def read_gathered(events: Iterable[Event], api: str, *, model: str = "") -> Completion:
    """Gather a normalised stream, and read the answer.

    :raises Failure: as :func:`completion_of` and :func:`read_completion`.
    """
    course: list[Event] = []
    completion = read_completion(api, completion_of(_noted(events, course), api), model=model)
    return replace(completion, course=tuple(course))


def _noted(events: Iterable[Event], course: list[Event]) -> Iterator[Event]:
    """Pass events on; what the meter needs to know of them is added to `course`."""
    for event in events:
        if event.content or event.hidden or event.usage is not None or event.finish is not None:
            course.append(replace(event, data=b"", type=""))
        yield event


def read_completion(
    api: str,
    body: bytes,
    *,
    answer: Any = None,
    model: str = "",
    fold: bool = True,
    make_id: Callable[[], str] = lambda: uuid.uuid4().hex,
    now: Callable[[], float] = time.time,
) -> Completion:
    """Read, and where needed repair, an answer that is one JSON document.

    Bytes that need no repair are returned as they came.

    :param answer: what `body` says, if it has been parsed already, being not canonical.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    :raises Failure: it is no answer, or reports an error.
    """
    if answer is None and (canonical := read_canonical(api, body)) is not None:
        return canonical
    try:
        answer = read_json(body) if answer is None else answer
    except ValueError:
        raise invalid_answer("what is neither JSON nor an event stream") from None
    if not isinstance(answer, dict):
        raise invalid_stream("JSON that is no answer of this API")
    inner = unwrap(answer)
    if inner is not answer:
        answer, body = inner, write_json(inner)
    failure = failure_in(answer)
    if failure is not None:
        raise failure
    if api not in ("chat", "completions"):
        return _read_typed(api, body, answer)
    identity = Identity(api, model, make_id=make_id, now=now)
    answer, body, found = repair(api, answer, body, identity, fold=fold)
    choices = answer["choices"]
    said = {"choices": [_said(api, index, choice) for index, choice in enumerate(choices)]}
    said = ExecutedTools().new_in(said)
    content, hidden = text_of(said)
    return Completion(
        body, content, hidden, _usage(found), choices[0]["finish_reason"], by_choice=texts_by_choice(said)
    )


def repair(
    api: str, answer: dict[str, Any], body: bytes, identity: Identity, *, fold: bool = True
) -> tuple[dict[str, Any], bytes, dict[str, Any] | None]:
    """Return an answer with choices as a client expects it, its bytes and its usage.

    :param answer: what `body` says; it may be changed.
    :param identity: tells what the answer leaves out.
    :param fold: see :func:`~sseproxy.core.usage.tidy_usage`.
    :raises Failure: it has no choices.
    """
    before = write_json(answer)
    answer = adopt_whole(answer)
    choices = [*map(put_in_place, _dicts(answer.get("choices")))]
    if not choices:
        raise doubt_in(answer) or invalid_stream("an answer without any choices")
    identity.learn(answer)
    identity.stamp(answer)
    answer["object"] = OBJECTS[api]
    answer["choices"] = choices
    for index, choice in enumerate(choices):
        if not isinstance(choice.get("index"), int):
            choice["index"] = index
        _repair_choice(choice, api, identity.make_id)
    found = find_usage(answer, fold=fold)
    _place_usage(answer, found)
    after = write_json(answer)
    return answer, body if after == before else after, found


def _said(api: str, index: int, choice: dict[str, Any]) -> dict[str, Any]:
    """A choice as the only chunk of a stream would have it; of a chat its message alone counts."""
    return {"index": index, "delta": choice["message"]} if api == "chat" else {**choice, "index": index}


def _usage(found: dict[str, Any] | None) -> Usage | None:
    return None if found is None else usage_of(found)


def _repair_choice(choice: dict[str, Any], api: str, make_id: Callable[[], str]) -> None:
    calls = False
    if api == "chat":
        given = choice.pop("delta", None)
        message = choice.get("message") if isinstance(choice.get("message"), dict) else given
        if not message and isinstance(choice.get("text"), str):
            message = {"content": choice["text"]}
        tidy = tidy_message(message)
        calls = bool(tidy.get("tool_calls"))
        if calls:
            tidy["tool_calls"] = tidy_tool_calls(tidy["tool_calls"], make_id)
        nulls = {name: None for name, value in (message or {}).items() if value is None and name not in tidy}
        kept = {name: tidy.get(name) for name in message or {} if name in tidy or name in nulls}
        choice["message"] = {**kept, **tidy}
        choice["message"].setdefault("role", "assistant")
        choice["message"].setdefault("content", None)
    else:
        given, message = choice.pop("delta", None), choice.pop("message", None)
        if not isinstance(choice.get("text"), str):
            adopt_message(choice, message or given)
    given = choice.get("finish_reason")
    finish = finish_of(given, calls=calls) or ("tool_calls" if calls else "stop")
    choice["finish_reason"] = finish
    if given and given != finish:
        choice.setdefault("native_finish_reason", given)


def _place_usage(answer: dict[str, Any], found: dict[str, Any] | None) -> None:
    for choice in answer["choices"]:
        choice.pop("usage", None)
    if found is not None:
        answer["usage"] = found
    else:
        answer.pop("usage", None)


def _read_typed(api: str, body: bytes, answer: dict[str, Any]) -> Completion:
    if api == "embeddings":
        return Completion(body, usage=_usage(find_usage(answer)))
    reader, event = reader_of(api), Event()
    if api == "messages":
        reader.read({"type": "message_start", "message": answer}, event)
        reader.read({"type": "message_delta", "delta": {"stop_reason": answer.get("stop_reason")}}, event)
    else:
        if (status := answer.get("status")) in ("queued", "in_progress"):
            raise invalid_stream(f"a response that is still '{status}'")
        ending: dict[str, Any] = {"type": f"response.{status or 'completed'}", "response": answer}
        reader.read(ending, event)
        if (failure := told_failure(ending, ending["type"])) is not None:
            failure.usage = reader.usage
            raise failure
    if "content" not in answer and "output" not in answer:
        raise invalid_stream("JSON that is no answer of this API")
    return Completion(body, event.content, event.hidden, reader.usage, event.finish)


def _dicts(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
