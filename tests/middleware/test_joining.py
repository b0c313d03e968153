"""middleware/joining: when the connection of a reader begins to say something."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.core.sse import PING
from sseproxy.middleware import joining
from sseproxy.middleware.joining import Joining
from sseproxy.streams.protocol import Head


class Silent:
    """A stream of which nothing comes, and the clock while it is waited for."""

    id, user, position = "0" * 32, "alice", 0

    def __init__(self) -> None:
        self.now = 0.0

    def join(self, after: int = 0) -> Silent:
        return self

    def head(self, timeout: float) -> Head | None:
        self.now += timeout
        return None

    def read(self, timeout: float) -> list[bytes]:
        self.now += timeout
        return []

    def close(self) -> None:
        pass


def test_who_waits_for_a_head_gets_the_first_keep_alive_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = Silent()
    streams: Any = None  # it is not asked for
    monkeypatch.setattr(joining, "monotonic", lambda: stream.now)
    environ = create_environ(headers={"Accept": "text/event-stream"})

    answer = Joining(streams, keepalive=15.0).answer(environ, stream)

    assert next(iter(answer.body)) == PING
    assert stream.now <= 15.0 + joining.TICK
