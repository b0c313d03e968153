"""Whether a socket has something to read, at the lowest cost."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
from collections.abc import Callable


def poll_of(connection: socket.socket) -> Callable[[float], object] | None:
    """A function that waits so many milliseconds for something to read; None for gevent's and TLS sockets.

    Cheaper than a peek, which raises an exception where there is nothing, and than changing a timeout, a system call.
    """
    is_bare = isinstance(connection, _socket.socket) and not isinstance(connection, ssl.SSLSocket)
    if not is_bare or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return poll.poll
