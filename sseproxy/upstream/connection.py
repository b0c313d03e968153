"""Pooled connections whose sockets the proxy may look at, through the public extension points of http.client,
urllib3 (``response_class``, ``ConnectionCls``, ``pool_classes_by_scheme``) and requests (``init_poolmanager``).
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable
from contextvars import ContextVar
from time import monotonic
from typing import Any, Final

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.response import HTTPResponse
from urllib3.util.wait import wait_for_read

TICK: Final = 1.0
"""Seconds between two looks at whether the client is still there, while the upstream is silent."""

on_idle: ContextVar[Callable[[], None] | None] = ContextVar("on_idle", default=None)
"""Called once a tick while waiting for an upstream's response head; what it raises ends the waiting."""


class SocketResponse(http.client.HTTPResponse):
    """http.client's response, which remembers the socket it reads from."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.sock = sock


def _wait_for_head(sock: socket.socket, timeout: float | None) -> None:
    """Wait for a response head in ticks, so that a client that left is noticed before the first byte.

    :raises TimeoutError: nothing came within ``timeout`` seconds.
    """
    idle = on_idle.get()
    if idle is None:
        return
    began = monotonic()
    while not wait_for_read(sock, TICK if timeout is None else min(TICK, timeout)):
        idle()
        if timeout is not None and monotonic() - began >= timeout:
            raise TimeoutError("no response head in time")


class _Connection(HTTPConnection):
    response_class = SocketResponse

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
        _wait_for_head(self.sock, self.timeout)
        return super().getresponse()


class _TLSConnection(HTTPSConnection):
    response_class = SocketResponse

    def getresponse(self) -> HTTPResponse:  # type: ignore[override]  # as in urllib3 itself
        _wait_for_head(self.sock, self.timeout)
        return super().getresponse()


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
