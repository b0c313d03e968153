"""Shuts down a connection at a deadline: a socket's own timeout starts anew with each byte that comes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR, socket
from threading import Timer
from time import monotonic


@contextmanager
def cutting(connection: socket, deadline: float) -> Iterator[None]:
    """In this context the connection is shut down at the deadline, during a handshake, a head or a body alike."""
    with connection.dup() as own:  # TLS and urllib detach the original socket
        timer = Timer(max(0.0, deadline - monotonic()), _shut, [own])
        timer.daemon = True
        try:
            timer.start()
        except RuntimeError:  # no thread is left: the socket's own timeout has to suffice
            yield
            return
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _shut(connection: socket) -> None:
    with suppress(OSError):  # the peer has closed already
        connection.shutdown(SHUT_RDWR)
