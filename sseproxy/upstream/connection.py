"""Pooled connections whose sockets the proxy may look at, through the public extension points of http.client,
urllib3 (``response_class``, ``ConnectionCls``, ``pool_classes_by_scheme``) and requests (``init_poolmanager``).
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection

TICK: Final = 1.0
"""Seconds between two looks at whether the client is still there, while the upstream is silent."""

on_idle: ContextVar[Callable[[], None] | None] = ContextVar("on_idle", default=None)
"""Called once a tick while waiting for an upstream's response head; what it raises ends the waiting."""


class SocketResponse(http.client.HTTPResponse):
    """http.client's response, which reads its head in ticks and remembers the socket it reads from."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.sock = sock
        self._ticking = _TickingReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._ticking)

    def take_buffered(self) -> bytes:
        """What was read beyond the head; nothing more is read from the socket here."""
        self._ticking.drained = True
        return self.fp.read1(io.DEFAULT_BUFFER_SIZE) or b""


class _TickingReader(io.RawIOBase):
    """Reads a socket until its time-out, counted from the first wait, and looks up once a tick.

    :param raw: http.client's own reader, which keeps the socket open until it is closed.
    """

    def __init__(self, raw: io.RawIOBase, sock: socket.socket) -> None:
        self.drained = False
        self._raw = raw
        self._socket = sock
        self._idle = on_idle.get()
        timeout = sock.gettimeout()
        self._deadline = None if timeout is None else monotonic() + timeout

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        """Fill the buffer once. None: nothing at hand, and nothing is waited for any more.

        :raises TimeoutError: the response head was not there in time.
        """
        while not self.drained:
            left = TICK if self._deadline is None else self._deadline - monotonic()
            if left <= 0:
                raise TimeoutError("no response head in time")
            self._socket.settimeout(min(TICK, left))
            try:
                return self._socket.recv_into(buffer)
            except TimeoutError:
                if self._idle is not None:
                    self._idle()
        return None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Connection(HTTPConnection):
    response_class = SocketResponse


class _TLSConnection(HTTPSConnection):
    response_class = SocketResponse


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


class UpstreamAdapter(HTTPAdapter):
    """The connection pool of one upstream.

    No cookie jar, no ``.netrc``, no proxies from the environment, no redirects: a :class:`requests.Session` would
    bring them, and each could carry one user's secret into another's request.
    """

    def __init__(self, connections: int) -> None:
        super().__init__(pool_connections=1, pool_maxsize=connections)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pool manager with our connection classes (requests calls this)."""
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        manager: PoolManager = self.poolmanager
        manager.pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
