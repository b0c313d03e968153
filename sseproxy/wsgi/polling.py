"""Whether a socket has something to read, asked at the least cost."""

from __future__ import annotations

import _socket
import select
import socket
import ssl
from collections.abc import Callable


def poll_of(connection: socket.socket) -> Callable[[float], object] | None:
    """What waits so many milliseconds for something to read, for a bare socket: a peek costs an exception where there
    is nothing, and each other time-out a system call. gevent's sockets know better, and those for TLS are no bare ones.
    """
    is_bare = isinstance(connection, _socket.socket) and not isinstance(connection, ssl.SSLSocket)
    if not is_bare or not hasattr(select, "poll"):
        return None
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return poll.poll
