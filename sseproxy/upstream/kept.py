"""The connections of one upstream that are kept for its next requests."""

from __future__ import annotations

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from urllib3.util.ssltransport import SSLTransport

from sseproxy.upstream.connection import Connection

KEPT_FOR: Final = 60.0
"""Seconds for which a connection waits to be used: upstreams and firewalls drop it sooner or later, some in silence."""
CLOSED_AT_ONCE: Final = 4
"""Connections that one request closes at most because of their age."""


class Connections:
    """The connections of one upstream that wait for a request. The one used last is used first.

    :param dial: opens one.
    :param limit: kept at most.
    :param clock: gives seconds.
    """

    def __init__(self, dial: Callable[[], socket.socket], limit: int, clock: Callable[[], float] = monotonic) -> None:
        self._dial = dial
        self._limit = limit
        self._clock = clock
        self._waiting: deque[tuple[float, Connection]] = deque()  # since when; the oldest first
        self._closed = False

    def take(self) -> Connection:
        """A connection that waits and is not too old, or else a new one."""
        while self._waiting:
            try:
                since, connection = self._waiting.pop()
            except IndexError:  # another request was faster
                break
            is_old = since < self._clock() - KEPT_FOR
            if not is_old and connection.is_silent():
                return connection
            connection.close()
            if is_old:  # and so are the others, which keep() closes
                break
        return self.open()

    def open(self) -> Connection:
        """A new connection."""
        return Connection(self._dial())

    def keep(self, connection: Connection) -> None:
        """Let this one, whose answer has been read to its end, wait for the next request; or close it if enough do."""
        now = self._clock()
        waiting = self._waiting
        # TLS within TLS cannot tell whether something came that is not read yet.
        if self._closed or isinstance(connection.socket, SSLTransport) or len(waiting) >= self._limit:
            connection.close()
        else:
            waiting.append((now, connection))
        try:
            if waiting[0][0] < now - KEPT_FOR:
                self._close_old(now)
        except IndexError:  # none is left
            pass

    def _close_old(self, now: float) -> None:
        for _ in range(CLOSED_AT_ONCE):
            if self._waiting[0][0] >= now - KEPT_FOR:
                break
            self._waiting.popleft()[1].close()

    def drop_waiting(self) -> None:
        """Close those that wait: where one is stale, so are the others most likely."""
        with contextlib.suppress(IndexError):
            while True:
                self._waiting.pop()[1].close()

    def close(self) -> None:
        """Keep none any more."""
        self._closed = True
        self.drop_waiting()
