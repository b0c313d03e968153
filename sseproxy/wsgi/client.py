"""Whether the client is still connected, by whatever means the server offers; PEP 3333 has none.

waitress provides a callable (``channel_request_lookahead`` must be at least 1); gunicorn and Werkzeug's server pass
the client's socket to the application, uWSGI its descriptor. Elsewhere only a failed write tells.
"""

from __future__ import annotations

import _socket
import errno
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Final

import msgspec

from sseproxy.core.failure import Failure
from sseproxy.wsgi.polling import poll_of

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

SOCKET_KEYS = ("gunicorn.socket", "werkzeug.socket")
INTERVAL: Final = 1.0
"""Seconds between two checks whether the client is connected, while data comes for it."""
GONE_KEY: Final = "sseproxy.client_gone"
"""A callable that overrides the server's; set where an application runs without a client of its own."""


class ClientGone(Failure):
    """The client disconnected before its answer was there. Nobody reads this; the status is nginx's, for the log.

    Whoever raises it also marks the exchange, since an upstream may itself answer 499.
    """

    STATUS: Final = 499

    def __init__(self) -> None:
        super().__init__(
            "The client closed its connection.", status=self.STATUS, type="client_gone", code="client_gone"
        )


class Ended(Failure):
    """Tells the readers of an answer that it was stopped before its end."""

    def __init__(self) -> None:
        super().__init__(
            "The answer was stopped before its end.", status=499, type="stream_stopped", code="stream_stopped"
        )


def watch_client(environ: WSGIEnvironment) -> Callable[[], bool]:
    """A function that says, without blocking or side effects, whether the client is known to have left."""
    told: Callable[[], bool] | None = environ.get(GONE_KEY) or environ.get("waitress.client_disconnected")
    if told is not None:
        return told
    if (connection := socket_of(environ)) is not None:
        return partial(_has_closed, connection)
    if "uwsgi.version" in environ:
        return partial(_has_closed_descriptor, sys.modules["uwsgi"].connection_fd())
    return never_gone


def socket_of(environ: WSGIEnvironment) -> socket.socket | None:
    """The client's connection, where the server passes it to the application."""
    for key in SOCKET_KEYS:
        if isinstance(connection := environ.get(key), socket.socket):
            return connection
    return None


class Linger(msgspec.Struct):
    """How long an answer is still read after its client has left: one clock for the whole exchange.

    :ivar seconds: 0: not at all.
    """

    seconds: float = 0.0
    _since: float | None = None

    def left(self) -> float:
        """Remaining seconds; the first call, when the client is found gone, starts the clock."""
        now = monotonic()
        since = self._since  # another thread may stop it meanwhile
        if since is None:
            self._since = since = now
        return max(0.0, since + self.seconds - now)

    def stop(self) -> None:
        """Reset the clock: there is a client after all."""
        self._since = None


def lingering(gone: Callable[[], bool], linger: Linger) -> Callable[[], bool]:
    """As ``gone``, but true only when the client has been gone for that long."""
    if not linger.seconds:
        return gone

    def gone_for_long() -> bool:
        if gone():
            return not linger.left()
        linger.stop()
        return False

    return gone_for_long


def asking(pieces: Iterable[bytes], gone: Callable[[], bool]) -> Iterator[bytes]:
    """The pieces of a body while its client is connected, which is checked at idle ticks and once a second.

    :raises ClientGone: the client has left.
    """
    asked = monotonic()
    for piece in pieces:
        if not piece or monotonic() - asked >= INTERVAL:
            asked = monotonic()
            if gone():
                raise ClientGone
        yield piece


def connection_closed() -> BrokenPipeError:
    """What a body raises when its client is known to have left, so that the server aborts instead of ending cleanly."""
    return BrokenPipeError(errno.EPIPE, "the client closed its connection")


def never_gone() -> bool:
    """For servers that give no information, and for work without a client."""
    return False


def _has_closed(connection: socket.socket) -> bool:
    """Look at the next byte without taking it: the end of the stream means that the client closed."""
    try:
        poll = poll_of(connection)
    except ValueError:  # the socket is closed
        return True
    return (poll is None or bool(poll(0))) and _peeks_end(connection)


def _peeks_end(connection: socket.socket) -> bool:
    timeout = connection.gettimeout()
    try:
        connection.settimeout(0)
        return not connection.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, ValueError):  # nothing sent (or TLS, which cannot peek): still there for all we know
        return False
    except OSError:
        return True
    finally:
        if connection.fileno() >= 0:
            connection.settimeout(timeout)


def _has_closed_descriptor(descriptor: int) -> bool:
    """As :func:`_has_closed`, for a connection of which there is only the descriptor, which the server closes."""
    try:
        connection = _socket.socket(fileno=descriptor)
    except OSError:
        return True
    try:
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.detach()
