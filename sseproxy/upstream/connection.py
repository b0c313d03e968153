"""Pooled connections whose sockets the proxy may look at, through the public extension points of http.client,
urllib3 (``response_class``, ``ConnectionCls``, ``pool_classes_by_scheme``) and requests (``init_poolmanager``).
"""

from __future__ import annotations

import contextlib
import http.client
import io
import queue
import socket
import ssl
from collections.abc import Callable
from contextvars import ContextVar
from functools import cached_property
from time import monotonic
from typing import Any, Final

from requests import PreparedRequest
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool, PoolManager, ProxyManager
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.util.ssl_ import create_urllib3_context

TICK: Final = 1.0
"""Seconds between two looks at whether the client is still there, while the upstream is silent."""

on_idle: ContextVar[Callable[[], None] | None] = ContextVar("on_idle", default=None)
"""Called once a tick while waiting for an upstream's response head; what it raises ends the waiting."""


is_sent: ContextVar[bool] = ContextVar("is_sent", default=False)
"""Whether the running request has a connection, so that some of it may have arrived."""


class StaleConnection(http.client.RemoteDisconnected):
    """A kept connection was closed by the upstream before it sent a byte of this answer."""


class SocketResponse(http.client.HTTPResponse):
    """http.client's response, which reads its head in ticks and remembers the socket it reads from."""

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.sock = sock
        self._ticking = _TickingReader(self.fp.detach(), sock)
        self.fp = io.BufferedReader(self._ticking)

    def begin(self) -> None:
        """Read the head, past interim ones: http.client skips 100 alone, and would take what follows another for the
        answer to the next request (RFC 9110 section 15.2).

        :raises http.client.IncompleteRead: it breaks off, which http.client itself takes for its end.
        """
        try:
            super().begin()
            while self.status < 200 and not self._ticking.ended:
                self.headers = self.msg = None  # type: ignore[assignment]
                super().begin()
        except http.client.RemoteDisconnected as error:
            if not self._ticking.began:
                raise
            raise http.client.IncompleteRead(b"") from error
        if self._ticking.ended:
            raise http.client.IncompleteRead(b"")

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
        self.ended = False
        self.began = False
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
        :raises http.client.RemoteDisconnected: the connection broke before the first byte.
        """
        while not self.drained:
            left = TICK if self._deadline is None else self._deadline - monotonic()
            if left <= 0:
                raise TimeoutError("no response head in time")
            self._socket.settimeout(min(TICK, left))
            try:
                size = self._socket.recv_into(buffer)
                self.began = self.began or size > 0
                self.ended = size == 0
                return size
            except ConnectionError as error:
                if self.began:
                    raise
                raise http.client.RemoteDisconnected("the connection broke before the answer") from error
            except TimeoutError:
                if self._idle is not None:
                    self._idle()
        return None

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Kept:
    """What a connection knows of its own past."""

    sock: socket.socket | None
    _answers = 0

    def connect(self) -> None:
        """Connect, through a proxy and with TLS where there is one; urllib3 does so again with one that was closed."""
        self._answers = 0
        super().connect()  # type: ignore[misc]
        is_sent.set(True)

    def request(self, *args: Any, **kwargs: Any) -> None:
        """Send a request.

        :raises StaleConnection: this is not the first one here, and the upstream has closed meanwhile.
        """
        if self.sock is not None:
            is_sent.set(True)
        try:
            super().request(*args, **kwargs)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError) as error:
            self._raise_if_stale(error)
            raise

    def getresponse(self) -> Any:
        """Wait for the response head.

        :raises StaleConnection: as :meth:`request`.
        """
        try:
            response = super().getresponse()  # type: ignore[misc]
        except http.client.RemoteDisconnected as error:
            self._raise_if_stale(error)
            raise
        self._answers += 1
        return response

    def _raise_if_stale(self, error: Exception) -> None:
        if self._answers:
            raise StaleConnection("the upstream had closed this connection") from error


class _Connection(_Kept, HTTPConnection):
    response_class = SocketResponse


class _TLSConnection(_Kept, HTTPSConnection):
    response_class = SocketResponse


class _Idle:
    """A pool's connections that wait. Those in use stay as they are."""

    pool: queue.LifoQueue[Any] | None

    def drop_idle(self) -> None:
        """Close them."""
        waiting = []
        with contextlib.suppress(queue.Empty, AttributeError):  # AttributeError: the pool has been closed
            while True:
                waiting.append(self.pool.get(block=False))  # type: ignore[union-attr]
        for connection in waiting:
            if connection is not None:
                connection.close()
            with contextlib.suppress(queue.Full, AttributeError):
                self.pool.put(connection, block=False)  # type: ignore[union-attr]


class _Pool(_Idle, HTTPConnectionPool):
    ConnectionCls = _Connection


class _TLSPool(_Idle, HTTPSConnectionPool):
    ConnectionCls = _TLSConnection


_POOLS: Final = {"http": _Pool, "https": _TLSPool}


class UpstreamAdapter(HTTPAdapter):
    """The connection pool of one upstream.

    No cookie jar, no ``.netrc``, no proxies from the environment, no redirects: a :class:`requests.Session` would
    bring them, and each could carry one user's secret into another's request.

    :param connections: kept at most.
    :param ca_file: certificates to trust instead of certifi's.
    """

    poolmanager: PoolManager
    proxy_manager: dict[str, ProxyManager]

    def __init__(self, connections: int, ca_file: str | None = None) -> None:
        self._ca_file = ca_file or DEFAULT_CA_BUNDLE_PATH
        super().__init__(pool_connections=1, pool_maxsize=connections)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **kwargs: Any) -> None:
        """Make the pool manager with our connection classes (requests calls this)."""
        super().init_poolmanager(connections, maxsize, block, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        context = create_urllib3_context(cert_reqs=ssl.CERT_REQUIRED)
        context.load_verify_locations(self._ca_file)
        return context

    def build_connection_pool_key_attributes(self, request: PreparedRequest, *args: Any, **kwargs: Any) -> Any:
        """What a connection needs (requests calls this): one TLS context for all, since loading one takes 20 ms."""
        host, settings = super().build_connection_pool_key_attributes(request, *args, **kwargs)
        return host, {**settings, "ssl_context": self._tls} if host["scheme"] == "https" else settings

    def cert_verify(self, *args: Any, **kwargs: Any) -> None:
        """Nothing beside that context (requests would load certifi's certificates for each connection)."""

    def close(self) -> None:
        """Close the connections that wait, and forget them."""
        self.drop_idle()
        super().close()

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> ProxyManager:
        """The pool of connections through this proxy (requests calls this)."""
        manager: ProxyManager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def drop_idle(self) -> None:
        """Close the connections that wait: where one is stale, so are the others most likely."""
        for manager in (self.poolmanager, *self.proxy_manager.values()):
            for key in manager.pools.keys():  # noqa: SIM118 (it is no mapping: it cannot be iterated)
                pool = manager.pools.get(key)
                if isinstance(pool, _Idle):
                    pool.drop_idle()
