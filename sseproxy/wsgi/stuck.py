"""Clients that do not read: detected by their TCP acknowledgements, disconnected with a reset.

Linux only (``TCP_INFO`` in tcp(7), ``struct tcp_info`` in linux/tcp.h); elsewhere none is ever detected.
``TCP_USER_TIMEOUT`` is not used: it also ends connections whose small window opens again and again (measured).
"""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from time import monotonic
from typing import Final
from weakref import WeakKeyDictionary

TCP_INFO: Final = getattr(socket, "TCP_INFO", None)
NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", None)
UNSENT_LIMIT: Final = 64 * 1024
"""Bytes the kernel buffers for a slow client; its default is megabytes, all of it generated and paid in advance."""

_FIELDS: Final = struct.Struct("=24xI92xQ16xI")
"""``tcpi_unacked``, ``tcpi_bytes_acked`` and ``tcpi_notsent_bytes``: at these offsets since Linux 4.6."""

_RESET: Final = struct.pack("ii", 1, 0)


class StuckClients:
    """Resets every watched connection whose client acknowledged no byte for too long while bytes were waiting.

    The answer then ends as for any client that left: its next write fails. A reset, because an answer that is
    delimited by the end of its connection would otherwise seem complete.

    :param seconds: how long a client may take no byte.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.interval = min(1.0, seconds / 4)
        self._watched: WeakKeyDictionary[socket.socket, tuple[int, float]] = WeakKeyDictionary()

    def watch(self, connection: socket.socket) -> None:
        """Watch this connection until it is closed; may be called again with each request."""
        if TCP_INFO is None or connection in self._watched:
            return
        try:
            if NOTSENT_LOWAT is not None:
                connection.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_LIMIT)
        except OSError:  # a Unix socket: the server in front of it is responsible for the clients
            return
        self._watched[connection] = (-1, monotonic())

    def cut(self) -> None:
        """Reset stuck connections. Called every :attr:`interval` seconds, by one thread."""
        now = monotonic()
        for connection in self._connections():
            try:
                waiting, acked = _progress(connection)
            except (OSError, struct.error):  # closed, or a kernel without these fields
                self._watched.pop(connection, None)
                continue
            before, since = self._watched.get(connection, (acked, now))
            if not waiting or acked != before:
                self._watched[connection] = (acked, now)
            elif now - since >= self.seconds:
                self._watched.pop(connection, None)
                _reset(connection)

    def _connections(self) -> list[socket.socket]:
        while True:
            try:
                return list(self._watched)
            except RuntimeError:  # another thread added one meanwhile
                continue


def _progress(connection: socket.socket) -> tuple[bool, int]:
    """Whether bytes are waiting, and how many were acknowledged so far."""
    assert TCP_INFO is not None
    unacked, acked, unsent = _FIELDS.unpack(connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _FIELDS.size))
    return bool(unacked or unsent), acked


def _reset(connection: socket.socket) -> None:
    """Make blocked and later writes fail, and the close that follows send an RST."""
    # On a duplicate: gevent's shutdown() makes waiters on the socket fail with EBADF, which gunicorn logs as an error.
    with suppress(OSError), connection.dup() as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        same.shutdown(socket.SHUT_RDWR)
