"""Is the client still there? Asked of the server in whatever way it offers. PEP 3333 itself offers none.

waitress tells by a callable (``channel_request_lookahead`` must be at least 1); gunicorn and Werkzeug's server hand
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
"""Seconds between two looks at whether a client is there, while something comes for it."""
GONE_KEY: Final = "sseproxy.client_gone"
"""Set by what runs an application for no client of its own: a callable that beats what the server says."""


class ClientGone(Failure):
    """The client hung up before its answer was there. Nobody reads this; the status is nginx's, for the log.

    Whoever raises it marks the exchange too, since an upstream may answer 499 of its own.
    """

    STATUS: Final = 499

    def __init__(self) -> None:
        super().__init__(
            "The client closed its connection.", status=self.STATUS, type="client_gone", code="client_gone"
        )


class Ended(Failure):
    """What readers of an answer are told that was stopped before its end."""

    def __init__(self) -> None:
        super().__init__(
            "The answer was stopped before its end.", status=499, type="stream_stopped", code="stream_stopped"
        )


def watch_client(environ: WSGIEnvironment) -> Callable[[], bool]:
    """A function that tells, at once and without side effects, whether the client is known to have left."""
    told: Callable[[], bool] | None = environ.get(GONE_KEY) or environ.get("waitress.client_disconnected")
    if told is not None:
        return told
    if (connection := socket_of(environ)) is not None:
        return _Peek(connection)
    if "uwsgi.version" in environ:
        return partial(_has_ended, sys.modules["uwsgi"].connection_fd())
    return never_gone


def socket_of(environ: WSGIEnvironment) -> socket.socket | None:
    """The client's connection, where the server hands it to the application."""
    for key in SOCKET_KEYS:
        if isinstance(connection := environ.get(key), socket.socket):
            return connection
    return None


class Linger(msgspec.Struct):
    """For how long an answer is read on after its client has left: one clock for all of an exchange.

    :ivar seconds: 0: it is not.
    """

    seconds: float = 0.0
    _since: float | None = None

    def left(self) -> float:
        """Seconds of it that are left, now that the client is gone."""
        now = monotonic()
        since = self._since  # another thread may stop it meanwhile
        if since is None:
            self._since = since = now
        return max(0.0, since + self.seconds - now)

    def stop(self) -> None:
        """There is a client after all."""
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
    """The pieces of a body for as long as its client is there, of which it is asked in silences and once a second.

    :raises ClientGone: it has left.
    """
    asked = monotonic()
    for piece in pieces:
        if not piece or monotonic() - asked >= INTERVAL:
            asked = monotonic()
            if gone():
                raise ClientGone
        yield piece


def connection_closed() -> BrokenPipeError:
    """What a body raises whose client is known to have left: the server then aborts, and does not end it cleanly."""
    return BrokenPipeError(errno.EPIPE, "the client closed its connection")


def never_gone() -> bool:
    """For a server that tells nothing, and for what no client waits for."""
    return False


class _Peek:
    """Looks at the next byte without taking it: the end of the stream means that the client closed."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def __call__(self) -> bool:
        try:
            poll = poll_of(self._connection)
        except ValueError:  # it is closed
            return True
        return (poll is None or bool(poll(0))) and self._has_ended()

    def _has_ended(self) -> bool:
        timeout = self._connection.gettimeout()
        try:
            self._connection.settimeout(0)
            return not self._connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, ValueError):  # nothing sent (or TLS, which cannot peek): still there for all we know
            return False
        except OSError:
            return True
        finally:
            if self._connection.fileno() >= 0:
                self._connection.settimeout(timeout)


def _has_ended(descriptor: int) -> bool:
    """As :class:`_Peek`, of a connection that the server has as a bare number and closes itself."""
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
