"""Clients that take nothing: found by what their TCP acknowledges, cut off with a reset.

Linux only (``TCP_INFO`` in tcp(7), ``struct tcp_info`` in linux/tcp.h); elsewhere nobody is ever found stuck.
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
"""Bytes the kernel keeps for a client that reads slowly; by default it is megabytes, all of it read and paid ahead."""

_FIELDS: Final = struct.Struct("=24xI92xQ16xI")
"""``tcpi_unacked``, ``tcpi_bytes_acked`` and ``tcpi_notsent_bytes``: there since Linux 4.6, never moved since."""

_RESET: Final = struct.pack("ii", 1, 0)


class StuckClients:
    """Cuts off every watched connection whose client took no byte for so long while bytes waited for it.

    The answer on it ends as for any client that left: its next write fails. A reset, because an answer that is
    framed by its connection's end would otherwise seem complete.

    :param seconds: how long a client may take nothing.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.interval = min(1.0, seconds / 4)
        self._watched: WeakKeyDictionary[socket.socket, tuple[int, float]] = WeakKeyDictionary()

    def watch(self, connection: socket.socket) -> None:
        """Look after this connection until it is closed; it may be given again with each request."""
        if TCP_INFO is None or connection in self._watched:
            return
        try:
            if NOTSENT_LOWAT is not None:
                connection.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_LIMIT)
        except OSError:  # a Unix socket; what stands before it looks after the clients
            return
        self._watched[connection] = (-1, monotonic())

    def cut(self) -> None:
        """Cut off who is stuck. To be called every :attr:`interval` seconds, by one thread."""
        now = monotonic()
        for connection in self._connections():
            try:
                waiting, acked = _progress(connection)
            except (OSError, struct.error):  # closed, or a kernel that does not tell
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
    """Whether bytes wait to be taken, and how many were taken so far."""
    assert TCP_INFO is not None
    unacked, acked, unsent = _FIELDS.unpack(connection.getsockopt(socket.IPPROTO_TCP, TCP_INFO, _FIELDS.size))
    return bool(unacked or unsent), acked


def _reset(connection: socket.socket) -> None:
    """Make a blocked or later write fail now, and whoever then closes the connection send an RST."""
    # On a duplicate: gevent's shutdown() makes those who wait for the socket fail with EBADF, to gunicorn a fault.
    with suppress(OSError), connection.dup() as same:
        same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        same.shutdown(socket.SHUT_RDWR)
