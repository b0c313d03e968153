"""middleware/joining: when the connection of a reader begins to say something."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.test import create_environ

from sseproxy.core.sse import PING
from sseproxy.middleware import joining
from sseproxy.middleware.joining import Joining
from sseproxy.streams.protocol import Broken, Head, Lost
from sseproxy.wsgi.call import Answer
from sseproxy.wsgi.errors import STREAM_HEADERS

EVENTS = Head("200 OK", STREAM_HEADERS)


class Silent:
    """A stream of which nothing comes, and the clock while it is waited for."""

    id, user, position = "0" * 32, "alice", 0

    def __init__(self, head: Head | None = None, *, breaks: bool = False) -> None:
        self.now = 0.0
        self._head = head
        self._breaks = breaks

    def join(self, after: int = 0) -> Silent:
        return self

    def head(self, timeout: float) -> Head | None:
        self.now += timeout if self._head is None else 0
        return self._head

    def read(self, timeout: float) -> list[bytes]:
        self.now += timeout
        if self._breaks:
            raise Broken
        return []

    def close(self) -> None:
        pass


def join(stream: Any, monkeypatch: pytest.MonkeyPatch) -> Answer:
    streams: Any = None  # it is not asked for
    monkeypatch.setattr(joining, "monotonic", lambda: stream.now)
    return Joining(streams, keepalive=15.0).answer(create_environ(headers={"Accept": "text/event-stream"}), stream)


def test_who_waits_for_a_head_gets_the_first_keep_alive_when_it_is_due(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Silent()
    answer = join(stream, monkeypatch)

    assert next(iter(answer.body)) == PING
    assert stream.now <= 15.0 + joining.TICK


def test_who_comes_for_the_rest_of_a_silent_stream_has_its_head_within_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = Silent(EVENTS)
    answer = join(stream, monkeypatch)

    assert next(iter(answer.body)) == PING
    assert stream.now <= joining.TICK


def test_who_comes_for_the_rest_of_a_stream_that_breaks_off_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Lost):
        join(Silent(EVENTS, breaks=True), monkeypatch)
