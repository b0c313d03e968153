"""Failures as upstreams spell them, read into one :class:`Failure`, and lifted out of streams.

Whatever names an error wins over whatever looks like an answer; the message is always a non-empty string.
Shapes and sources: OpenAI's error object, vLLM and SGLang (``object: error``), OpenRouter (``choices[].error``),
FastAPI (``detail``), Cloudflare (``errors``), Mistral (an object as message), AWS (``Message``, ``__type``), Tencent
and Volcengine (``Error`` in an envelope), Bedrock's streams (``throttlingException``), Apigee (``fault``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from sseproxy.core.chunk import Chunk, error_event, read_json, write_json
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize.finish import fails
from sseproxy.core.redact import redact_failure, redact_json
from sseproxy.core.sse import Decoder, Event
from sseproxy.core.usage import find_usage, read_usage

__all__ = [
    "failure_ending",
    "failure_in",
    "failure_of",
    "invalid_answer",
    "invalid_stream",
    "lift_failures",
    "redact_failures",
    "truncated",
]

_MESSAGES: Final = ("message", "msg", "detail", "error_msg", "errmsg", "error_message", "reason", "error_description",
                    "faultstring", "title")  # fmt: skip
# Those that by themselves say that something went wrong.
_ALARMS: Final = _MESSAGES[:6]
_READ: Final = frozenset(("message", "type", "code", "param"))
# Ends of the names under which an error stands as an object, beside `error` itself.
_KIND: Final = re.compile(r"(?:exception|(?<!de)fault|error_msg)$", re.I)
_FURTHER_LIMIT: Final = 16 * 1024
# Codes by which vendors say of a chunk that all is well, in lower case.
_FINE: Final = frozenset(("", "0", "200", "ok", "success"))
_EMPTY: Final = ("", "{}", "[]", "null")
_STATUSES: Final = ("code", "status", "status_code", "http_status", "original_status_code")
# The names that are looked for, by what is left of them in every writing.
_NAMES: Final = {
    name.replace("_", ""): name
    for name in (*_MESSAGES, *_READ, *_STATUSES, "error", "errors", "error_code", "error_type", "request_id", "success")
}


def truncated() -> UpstreamFailure:
    """The upstream's stream ended before its answer did."""
    return UpstreamFailure(
        "The upstream closed the stream before the answer was complete.",
        type="upstream_truncated",
        code="upstream_truncated",
    )


def invalid_answer(what: str) -> UpstreamFailure:
    """The upstream sent what is no answer at all; `what` completes "The upstream sent"."""
    return UpstreamFailure(
        f"The upstream sent {what}.", type="upstream_invalid_response", code="upstream_invalid_response"
    )


def invalid_stream(what: str) -> UpstreamFailure:
    """The upstream streams in no dialect of the API that was asked; `what` completes "The upstream sent"."""
    return UpstreamFailure(f"The upstream sent {what}.", type="upstream_invalid_stream", code="upstream_invalid_stream")


def failure_ending(event: Event) -> Failure | None:
    """Return the failure that an event tells of, with the usage that it came with; None if it tells of none."""
    failure = event.error
    if failure is not None:
        failure.usage = event.usage or failure.usage
    return failure


def lift_failures(events: Iterator[Event]) -> Iterator[Event]:
    """Turn every chunk that reports an error into the text it still carries and an error event."""
    for event in events:
        if type(event) is not Chunk:
            yield event
            continue
        failure = failure_in(event.body, event.type)
        if failure is None:
            yield event
            continue
        rest = _without_failure(event.body)
        if rest is not None:
            yield Chunk(body=rest, steady=False)
        yield error_event(failure)


def redact_failures(events: Iterator[Event], redact: Callable[[str], str]) -> Iterator[Event]:
    """Let `redact` cut what is no client's business out of the words of every failure."""
    for event in events:
        if event.error is not None:
            redact_failure(event.error, redact)
            event.data = redact_json(event.data.decode(), redact).encode()
        yield event


def failure_in(body: Mapping[str, Any], type: str = "") -> Failure | None:
    """Return the error that a chunk or an answer reports, or None.

    :param type: the ``event:`` field it came with.
    """
    if "choices" not in body:
        body = _plainly(body)
    error = body.get("error")
    if isinstance(error, str) and (said := _said(body)) and said != error:  # a word, and what it means beside it
        return _read({"message": said, "code": body.get("code", error)}, body)
    if error:
        return _read(_innermost(error), body)
    base = body.get("base_resp")  # MiniMax, on every chunk; 0 is success
    if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
        return _read({"message": base.get("status_msg"), "code": base["status_code"]}, body)
    groq = body.get("x_groq")  # why a stream was stopped early
    if isinstance(groq, dict) and groq.get("error"):
        return _read(_innermost(groq["error"]), body)
    choices = _choices(body)
    for choice in choices or ():
        if choice.get("error"):
            return _read(_innermost(choice["error"]), body)
        if fails(reason := choice.get("finish_reason")):
            return _read({"message": f"The upstream ended the answer with finish_reason '{reason}'."}, body)
    if choices:
        return None
    if choices is not None:  # what iFlytek says of every chunk is an error where the code is another
        is_fine = str(body.get("code") or 0).lower() in _FINE
        return None if is_fine or not _said(body) else _read(body, body)
    errors = body.get("errors")
    if isinstance(errors, list) and errors:
        return _read(errors[0] if isinstance(errors[0], dict) else {"message": errors[0]}, body)
    if type == "error" or "error" in (body.get("object"), body.get("type")) or body.get("success") is False:
        return _read(body, body)
    if (inside := _inside(body)) is not None:
        return _read(*inside)
    alarms = not isinstance(body.get("done"), bool) and _said(body) is not None
    return _read(body, body) if alarms else None


def _plainly(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the names that are looked for, however they are written."""
    return {_name(name): value for name, value in body.items()}


def _name(name: str) -> str:
    """What others call ``Message``, ``__type`` or ``errorCode``."""
    return _NAMES.get(name.replace("_", "").lower(), name)


def _said(body: Mapping[str, Any]) -> Any:
    """Return what a message of `body` says that names an error; None if there is none."""
    return next((body[name] for name in _ALARMS if _is_alarm(body.get(name))), None)


def _inside(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the error that stands in an object of `body`, an envelope or one that is called after it; what is around
    it; None if none does.
    """
    for name, value in body.items():
        if isinstance(value, dict):
            inner = _plainly(value)
            error = inner.get("error")
            if isinstance(error, dict) and any(isinstance(_plainly(error).get(each), str) for each in _MESSAGES):
                return error, {**body, **inner}
            if _KIND.search(name) and any(isinstance(inner.get(each), str) for each in _MESSAGES):
                return {"type": name, **value}, body
    return None


def _innermost(error: Any) -> Mapping[str, Any]:
    """Return the object that describes an error; relays put one inside another."""
    while isinstance(error, dict) and error.get("error") and _said(error) is None:
        error = error["error"]
    return error if isinstance(error, dict) else {"message": error}


def _is_alarm(value: Any) -> bool:
    """Tell whether the value of a message names an error: a text, a list of them (FastAPI), no message of a chat."""
    if isinstance(value, dict):
        return bool(value) and not {"role", "content"} & value.keys()
    return isinstance(value, str) or (isinstance(value, list) and bool(value))


def _choices(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the choices that are objects; None if the body has no place for any."""
    choices = body.get("choices")
    if isinstance(choices, list):
        return [choice for choice in choices if isinstance(choice, dict)]
    return [choices] if isinstance(choices, dict) else None


def failure_of(status: int, body: bytes, content_type: str = "") -> Failure:
    """Return what a refusal says: the body of an answer with a status of 400 or more, whatever it is made of."""
    value = _json_in(body)
    if isinstance(value, dict) and value:
        failure = failure_in(value) or _read(named := _plainly(value), named)
        if status >= 400:
            failure.status = status
        return failure
    text = body.decode("utf-8", "replace").strip()
    readable = "".join(text.split()).isprintable()  # what nobody could decompress is not
    if text in _EMPTY or text[:1] == "<" or "html" in content_type or len(text) > 500 or not readable:
        return UpstreamFailure(f"The upstream answered {status} without an error message.", status=status)
    return UpstreamFailure(text, status=status)


def _json_in(body: bytes) -> Any:
    """Return the first JSON value of a refusal; some come as an event of a stream, some inside an array."""
    decoder = Decoder(len(body) + 1, lenient=True)
    events = [*decoder.feed(body), decoder.finish()]
    for data in (body, *(event.data for event in events if event is not None)):
        try:
            value = read_json(data.decode("utf-8", "replace").lstrip("\ufeff"))
        except ValueError:
            continue
        return value[0] if isinstance(value, list) and value else value
    return None


def _read(given: Mapping[str, Any], body: Mapping[str, Any]) -> UpstreamFailure:
    error = _plainly(given)
    kind = error.get("type") or body.get("error_type")
    if not isinstance(kind, str) or not kind or kind == "error":
        kind = "upstream_error"
    code = error.get("code", body.get("error_code"))
    if isinstance(code, bool) or not isinstance(code, (int, str)):
        code = None
    param = error.get("param")
    failure = UpstreamFailure(
        _whole(_message(error, body)),
        status=_status(error) or _status(body) or 502,
        type=_whole(kind),
        code=_whole(code) if isinstance(code, str) else code,
        param=_whole(param) if isinstance(param, str) else None,
    )
    failure.usage = read_usage(body)
    if isinstance(request_id := body.get("request_id"), str):
        failure.request_id = _whole(request_id)
    if given is not body:
        further = {name: value for name, value in given.items() if _name(name) not in _READ}
        if len(write_json(further)) <= _FURTHER_LIMIT:
            failure.further = further
    return failure


def _whole(text: str) -> str:
    """Without halves of surrogate pairs, which JSON can carry, and no header, log or database."""
    return text.encode("utf-8", "replace").decode()


def _message(error: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    for source in (error, body):
        for name in _MESSAGES:
            value = source.get(name)
            if isinstance(value, str) and value.strip():
                return value
    value = next((error[name] for name in _MESSAGES if error.get(name)), error)
    return write_json(value).decode() if value else "The upstream reported an error without a message."


def _status(error: Mapping[str, Any]) -> int | None:
    for name in _STATUSES:
        value = error.get(name)
        if isinstance(value, str) and value.isdecimal() and len(value) == 3:
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 400 <= value <= 599:
            return value
    return None


def _without_failure(body: dict[str, Any]) -> dict[str, Any] | None:
    """Return the chunk without its error and its bogus finish: its usage alone if it says nothing, None without any."""
    kept = [
        {name: value for name, value in choice.items() if name not in ("error", "finish_reason")}
        for choice in _choices(body) or ()
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
