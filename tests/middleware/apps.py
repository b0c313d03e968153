"""Small WSGI applications and calls for the tests of single middlewares."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from werkzeug.test import create_environ

from sseproxy.wsgi.call import Answer, call_app

CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


class Echo:
    """An application that keeps what it was called with and answers its own request body."""

    def __init__(self) -> None:
        self.environ: dict[str, Any] | None = None
        self.body = b""

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        self.environ = environ
        self.body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(self.body)))])
        return [self.body]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def post(app: Any, path: str = "/v1/chat/completions", body: Any = CHAT, **headers: str) -> Answer:
    """POST JSON (or bytes as they are); header names with underscores."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return request(app, "POST", path, data, **headers)


def request(app: Any, method: str, path: str, data: bytes = b"", **headers: str) -> Answer:
    """One request to an application, no server."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    return call_app(
        app, create_environ(path, method=method, data=data, headers=fields, content_type="application/json")
    )


def error_of(answer: Answer) -> dict[str, Any]:
    """The ``error`` object of a refusal."""
    error: dict[str, Any] = json.loads(b"".join(answer.body))["error"]
    return error
