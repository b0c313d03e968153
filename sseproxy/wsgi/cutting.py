"""Cuts a connection that takes too long: the time-out of a socket begins anew with each byte that comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from threading import Timer
from time import monotonic


@contextmanager
def cutting(connection: socket, deadline: float) -> Iterator[None]:
    """Meanwhile, the connection is shut at the deadline, whoever reads from it: head, body or handshake."""
    with connection.dup() as own:  # TLS and urllib take the connection's own away
        timer = Timer(max(0.0, deadline - monotonic()), _shut, [own])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread is left: the socket's own time-out has to do
            yield
            return
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(connection: socket) -> None:
    with suppress(OSError):  # the peer has been faster
        connection.shutdown(SHUT_RDWR)
