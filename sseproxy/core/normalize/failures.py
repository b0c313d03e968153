"""Failures as upstreams spell them, read into one :class:`Failure`.

Whatever names an error wins over whatever looks like an answer; the message is always a non-empty string.
Shapes and sources: OpenAI's error object, vLLM and SGLang (``object: error``), OpenRouter (``choices[].error``),
FastAPI (``detail``), Cloudflare (``errors``), Mistral (an object as message), AWS (``Message``, ``__type``), Tencent
and Volcengine (``Error`` in an envelope), Bedrock's streams (``throttlingException``), Apigee (``fault``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from sseproxy.core.chunk import read_json, write_json
from sseproxy.core.failure import Failure, UpstreamFailure
from sseproxy.core.normalize.finish import fails
from sseproxy.core.sse import Decoder, Event
from sseproxy.core.usage import Usage, read_usage

__all__ = [
    "choices_of",
    "doubt_in",
    "failure_ending",
    "failure_in",
    "failure_of",
    "invalid_answer",
    "invalid_stream",
    "is_error",
    "truncated",
]

_MESSAGES: Final = ("message", "msg", "detail", "error_msg", "errmsg", "error_message", "reason", "error_description",
                    "faultstring", "title")  # fmt: skip
# Those that by themselves say that something went wrong.
_ALARMS: Final = _MESSAGES[:6]
_READ: Final = frozenset(("message", "type", "code", "param"))
# Ends of the names under which an error stands as an object, beside `error` itself.
_KIND: Final = re.compile(r"(?:exception|(?<!de)fault|error_msg)$", re.I)
# Of the objects that gateways put it in, where these are no event of some type.
_ENVELOPE: Final = re.compile(r"response(?:_?metadata)?|result|data|body|payload", re.I)
_FURTHER_LIMIT: Final = 16 * 1024
# Codes and words by which vendors say of a chunk that all is well, in lower case; Python's for nothing.
_FINE: Final = frozenset(("", "0", "200", "ok", "success", "none", "null", "false"))
_EMPTY: Final = ("", "{}", "[]", "null")
_STATUSES: Final = ("code", "status", "status_code", "http_status", "original_status_code")
# The names that are looked for, by what is left of them in every writing.
_NAMES: Final = {
    name.replace("_", ""): name
    for name in (*_MESSAGES, *_READ, *_STATUSES, "error", "errors", "error_code", "error_type", "request_id", "success")
} | {"err": "error"}


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


def failure_in(body: Mapping[str, Any], type: str = "") -> Failure | None:
    """Return the error that a chunk or an answer reports, or None.

    :param type: the ``event:`` field it came with.
    """
    if "choices" not in body:
        body = _plainly(body)
    error = body["error"] if is_error(body.get("error")) else None
    if isinstance(error, str):  # beside it may stand what the word means, and a code (xAI)
        said = _said(body) or error
        code = body.get("code", body.get("error_code") if said == error else error)
        return _read({"message": said, "code": code}, body)
    if error:
        return _read(_innermost(error), body)
    base = body.get("base_resp")  # MiniMax, on every chunk; 0 is success
    if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
        return _read({"message": base.get("status_msg"), "code": base["status_code"]}, body)
    groq = body.get("x_groq")  # why a stream was stopped early
    if isinstance(groq, dict) and is_error(groq.get("error")):
        return _read(_innermost(groq["error"]), body)
    choices = choices_of(body)
    for choice in choices or ():
        if is_error(choice.get("error")):
            return _read(_innermost(choice["error"]), body)
        delta = choice.get("delta")
        if fails(reason := choice.get("finish_reason") or (isinstance(delta, dict) and delta.get("finish_reason"))):
            return _read({"message": f"The upstream ended the answer with finish_reason '{reason}'."}, body)
    if choices:
        return None
    if choices is not None:  # what iFlytek says of every chunk is an error where the code is another
        return None if _is_fine(body.get("code")) or not _said(body) else _read(body, body)
    errors = body.get("errors")
    if isinstance(errors, list) and is_error(errors):
        return _read(errors[0] if isinstance(errors[0], dict) else {"message": errors[0]}, body)
    if type == "error" or "error" in (body.get("object"), body.get("type")) or body.get("success") is False:
        return _read(body, body)
    if (inside := _inside(body)) is not None:
        return _read(*inside)
    all_is_well = isinstance(body.get("done"), bool) or (body.get("code") not in (None, "") and _is_fine(body["code"]))
    return None if all_is_well or _said(body) is None else _read(body, body)


def _plainly(body: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object with the names that are looked for, however they are written."""
    return {_name(name): value for name, value in body.items()}


def _name(name: str) -> str:
    """What others call ``Message``, ``__type`` or ``errorCode``."""
    return _NAMES.get(name.replace("_", "").lower(), name)


def doubt_in(body: Mapping[str, Any]) -> Failure | None:
    """Return the error of any object in what has no choices, at any depth: perhaps of the answer, perhaps a tool's."""
    if "choices" in body:
        return None
    objects = [body]
    for around in objects:
        for value in around.values():
            if isinstance(value, dict):
                if (error := _error_in(value)) is not None:
                    return _read(error, {**body, **_plainly(value)})
                objects.append(value)
    return None


def is_error(error: Any) -> bool:
    """Whether what stands in the place of an error is one: neither empty, nor a word or code for none, nor an object
    or list of nothing else.
    """
    if isinstance(error, (dict, list)):
        return not all(map(_is_fine, error.values() if isinstance(error, dict) else error))
    return not _is_fine(error)


def _is_fine(value: Any) -> bool:
    return not value or (isinstance(value, (str, int)) and str(value).lower() in _FINE)


def _said(body: Mapping[str, Any]) -> Any:
    """Return what a message of `body` says that names an error; None if there is none."""
    return next((body[name] for name in _ALARMS if _is_alarm(body.get(name))), None)


def _inside(body: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """Return the error that stands in an object of `body`, an envelope or one that is called after it; what is around
    it; None if none does.
    """
    for name, value in body.items():
        if isinstance(value, dict):
            if "type" not in body and _ENVELOPE.fullmatch(name) and (error := _error_in(value)) is not None:
                return error, {**body, **_plainly(value)}
            if _KIND.search(name) and _explains(_plainly(value)):
                return {"type": name, **value}, body
    return None


def _error_in(value: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error of an object that is around it, if it says what went wrong."""
    error = _plainly(value).get("error")
    if isinstance(error, str) and is_error(error):
        return {"message": error}
    return error if isinstance(error, dict) and _explains(_plainly(error)) else None


def _explains(error: Mapping[str, Any]) -> bool:
    return any(isinstance(text := error.get(name), str) and is_error(text) for name in _MESSAGES)


def _innermost(error: Any) -> Mapping[str, Any]:
    """Return the object that describes an error; relays put one inside another."""
    while isinstance(error, dict) and error.get("error") and _said(error) is None:
        error = error["error"]
    return error if isinstance(error, dict) else {"message": error}


def _is_alarm(value: Any) -> bool:
    """Tell whether the value of a message names an error: a text, a list of them (FastAPI), no message of a chat."""
    if isinstance(value, dict) and {"role", "content"} & value.keys():
        return False
    return isinstance(value, (str, list, dict)) and is_error(value)


def choices_of(body: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return the choices that are objects; None if the body has no place for any."""
    choices = body.get("choices")
    if isinstance(choices, list):
        return [choice for choice in choices if isinstance(choice, dict)]
    return [choices] if isinstance(choices, dict) else None


def failure_of(status: int, body: bytes, content_type: str = "") -> Failure:
    """Return what a refusal says: the body of an answer with a status of 400 or more, whatever it is made of."""
    value = _json_in(body)
    if isinstance(value, dict) and value:
        failure = failure_in(value) or doubt_in(value) or _read(named := _plainly(value), named)
        if status >= 400:
            failure.status = status
            # Free but for what it is said to cost.
            failure.usage = Usage(cost=failure.usage.cost or 0) if failure.usage is not None else None
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
