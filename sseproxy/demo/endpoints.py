"""The WSGI face of the demo: paths, bodies, status codes. The JSON stands in openai and typed, the clock in pace."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from http.client import responses as PHRASES
from typing import TYPE_CHECKING, Any

from sseproxy.core.failure import Failure
from sseproxy.demo import openai, pace, typed
from sseproxy.demo.answer import answer
from sseproxy.demo.faults import bad_request, read_script
from sseproxy.demo.question import Body, Question, read_chat, read_completion, read_message, read_response
from sseproxy.demo.wire import Format, Reply, dump

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

MAX_BODY = 32 * 1024 * 1024

_STREAMED: dict[str, tuple[Callable[[Body], Question], Callable[[Reply], Format]]] = {
    "/v1/chat/completions": (read_chat, openai.Chat),
    "/v1/completions": (read_completion, openai.Completion),
    "/v1/responses": (read_response, typed.Response),
    "/v1/messages": (read_message, typed.Message),
}


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """``GET /v1/models``; ``POST`` to ``/v1/`` chat/completions, completions, responses, messages, embeddings.

    Credentials are not looked at; any model name is served. See :mod:`sseproxy.demo.faults` for the field ``demo``.
    """
    path = environ.get("PATH_INFO", "")
    try:
        return _answer(environ, start_response, path)
    except Failure as failure:
        body = typed.refusal(failure) if path == "/v1/messages" else failure.as_json()
        extra = [] if failure.retry_after is None else [("Retry-After", str(failure.retry_after))]
        return _send_json(start_response, body, failure.status, extra)


def _answer(environ: WSGIEnvironment, start_response: StartResponse, path: str) -> Iterable[bytes]:
    if path == "/v1/models" or path.startswith("/v1/models/"):
        _require_method(environ, "GET")
        name = path[len("/v1/models/") :]
        return _send_json(start_response, openai.model(name) if name else openai.models())
    if path not in _STREAMED and path != "/v1/embeddings":
        raise Failure(f"unknown path: {path}", status=404, type="invalid_request_error", code="unknown_url")
    _require_method(environ, "POST")
    body, stamp = _read_body(environ)
    script = read_script(body)
    if script.fault == "status":
        failure = pace.failure_of(script)
        failure.retry_after = script.retry_after
        raise failure
    if path == "/v1/embeddings":
        return _send_json(start_response, openai.embeddings(body))
    read, format = _STREAMED[path]
    question = read(body)
    return _send_reply(start_response, format(Reply(question, answer(question), stamp, int(time.time()))), question)


def _send_reply(start_response: StartResponse, format: Format, question: Question) -> Iterable[bytes]:
    if question.stream:
        headers = [("Content-Type", "text/event-stream; charset=utf-8"), ("Cache-Control", "no-cache")]
        start_response("200 OK", headers)
        return pace.play(format, question.script)
    if question.script.fault == "error":
        raise pace.failure_of(question.script)
    body = dump(format.whole())
    start_response("200 OK", _json_headers(body))
    return pace.deliver(body, question.script)


def _send_json(
    start_response: StartResponse, value: dict[str, Any], status: int = 200, extra: Iterable[tuple[str, str]] = ()
) -> Iterable[bytes]:
    body = dump(value)
    start_response(f"{status} {PHRASES.get(status, 'Unknown')}", [*_json_headers(body), *extra])
    return [body]


def _json_headers(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]


def _require_method(environ: WSGIEnvironment, method: str) -> None:
    if environ["REQUEST_METHOD"] != method:
        raise Failure(f"only {method} is allowed here", status=405, type="invalid_request_error")


def _read_body(environ: WSGIEnvironment) -> tuple[Body, str]:
    """The parsed body, and a stamp made from its bytes: the same request gets the same id."""
    length = environ.get("CONTENT_LENGTH") or ""
    # Without a length a body may be read to its end only where the server says that it has one (chunked bodies).
    until_end = MAX_BODY if environ.get("wsgi.input_terminated") else 0
    raw = environ["wsgi.input"].read(min(int(length), MAX_BODY) if length.isdigit() else until_end)
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        raise bad_request("the body is not valid JSON", None) from None
    if not isinstance(body, dict):
        raise bad_request("the body must be a JSON object", None)
    return body, sha256(raw).hexdigest()[:16]
