"""middleware/awake: a client whose answer a keep-alive has begun reads in an event what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.core.failure import Failure
from sseproxy.core.sse import PING
from sseproxy.middleware.awake import AwakeMiddleware
from sseproxy.middleware.log import LogMiddleware
from sseproxy.wsgi.call import close_body
from sseproxy.wsgi.client import GONE_KEY
from sseproxy.wsgi.errors import refuse
from sseproxy.wsgi.exchange import Exchange

from .apps import CHAT


def read(path: str, reason: Exception) -> tuple[list[str], bytes]:
    """What a client gets of an application that is silent, and then refuses or raises for this reason."""

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        assert not environ[GONE_KEY]()
        if isinstance(reason, Failure):
            return refuse(reason, environ)(environ, start_response)
        raise reason

    def reading(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).read_request(environ)
        return AwakeMiddleware(app, keepalive=0.0)(environ, start_response)

    statuses: list[str] = []
    written: list[bytes] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        statuses.append(status)
        return written.append

    environ = create_environ(path, method="POST", json={**CHAT, "stream": True, "max_tokens": 1})
    body = LogMiddleware(reading)(environ, start_response)
    written += body
    close_body(body)
    return statuses, b"".join(written)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
@pytest.mark.parametrize("reason", [Failure("No such thing."), ValueError("nobody has thought of it")])
def test_what_goes_wrong_after_a_keep_alive_is_an_event(path: str, reason: Exception) -> None:
    statuses, told = read(path, reason)

    assert statuses == ["200 OK"]
    assert told.startswith(PING)
    event = told.removeprefix(PING).splitlines()
    data = json.loads(event[-2].removeprefix(b"data: "))
    assert data["error"]["message"] == (
        reason.message if isinstance(reason, Failure) else "The server failed; its log tells why."
    )
    assert event[:-2] == ([b"event: error"] if path == "/v1/messages" else [])


def test_who_did_not_take_a_keep_alive_has_left_for_good() -> None:
    heard: list[bool] = []
    failures = iter([BrokenPipeError()])

    def app(environ: Any, start_response: Any) -> Iterable[bytes]:
        heard.extend(environ[GONE_KEY]() for _ in range(3))
        return refuse(Failure("No such thing."), environ)(environ, start_response)

    def reading(environ: Any, start_response: Any) -> Iterable[bytes]:
        Exchange.of(environ).read_request(environ)
        return AwakeMiddleware(app, keepalive=0.0)(environ, start_response)

    def write(_: bytes) -> None:
        for failure in failures:
            raise failure

    environ = create_environ("/v1/chat/completions", method="POST", json={**CHAT, "stream": True})
    close_body(LogMiddleware(reading)(environ, lambda *_: write))

    assert heard == [True, True, True]
