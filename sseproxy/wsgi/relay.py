"""The relay: one thread moves the plain middle of every stream, while the streams' own threads sleep.

A stream comes here when its first piece has left by the server, and goes back to its own thread for all that is not
plain: its end, a failure, silence, a client that reads slowly or has left, work that may have to wait for a database.
What becomes of its bytes is the same either way, since the same iterator makes it; only who waits for the sockets
differs. Needs epoll (Linux) and a server that offers a :class:`Writer`; elsewhere streams are iterated as ever.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from sseproxy.core.sse import DONE

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.wsgi.stream import EventStream

log = logging.getLogger("sseproxy.wsgi")

RELAY_KEY: Final = "sseproxy.relay"
"""What a server offers whose application is a proxy and nothing around it: a function from a source to a ride."""
SWEEP: Final = 0.25
PATIENCE: Final = 4
"""Sweeps without a byte, after which a stream's own thread looks after it: a second."""
TICK: Final = 1.0
"""Seconds without a piece, likewise."""


class Source(Protocol):
    """An upstream's body, read without waiting while a stream is here."""

    def fileno(self) -> int:
        """The socket's."""

    def is_drained(self) -> bool:
        """Whether only the socket can tell how it goes on."""

    def set_waiting(self, waiting: bool) -> None:
        """Whether the iterator waits for bytes; :meth:`receive` wants it not to."""

    def receive(self) -> bytes | None:
        """What has arrived, maybe nothing; None: the end or a failure, which the iterator will tell."""

    def put(self, data: bytes) -> None:
        """Let the iterator go on with this."""

    def put_silence(self) -> None:
        """Let the iterator go on with an idle tick."""


class Writer(Protocol):
    """A client's connection, past the server that it belongs to."""

    @property
    def chunked(self) -> bool:
        """Whether pieces are framed (RFC 9112 section 7.1)."""

    def is_ready(self) -> bool:
        """Whether all that the server was given is sent, so that something may be written past it."""

    def fileno(self) -> int:
        """The socket's."""

    def send(self, data: bytes) -> int:
        """Write without waiting; how many bytes were taken.

        :raises OSError: the client has left.
        """

    def send_all(self, data: bytes) -> None:
        """Write by the server, and wait as it does.

        :raises OSError: the client has left.
        """

    def when_closed(self, callback: Callable[[], object] | None) -> None:
        """Call this when the server closes the connection by itself."""


class Relay:
    """The loop and its thread, which the first ride starts. To be made after a fork, and closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._rides: set[Ride] = set()
        self._by_source: dict[int, Ride] = {}
        self._by_client: dict[int, Ride] = {}
        self._called_back: deque[Ride] = deque()
        # Held for every look at the above: a ride is here as a whole or not at all.
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def take(self, ride: Ride) -> bool:
        """Move this ride from now on; False if it cannot be moved."""
        with self._lock:
            if self._closed:
                return False
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="sseproxy-relay", daemon=True)
                thread.start()
                self._thread = thread
            self._rides.add(ride)
            self._by_source[ride.source] = self._by_client[ride.client] = ride
            try:
                self._epoll.register(ride.client, select.EPOLLRDHUP)
                self._epoll.register(ride.source, select.EPOLLIN | select.EPOLLRDHUP)
            except (OSError, ValueError):  # closed meanwhile
                self._forget(ride)
                return False
        return True

    def call_back(self, ride: Ride) -> None:
        """Give this ride back soon. From any thread."""
        with self._lock:
            if not self._closed:
                self._called_back.append(ride)
                os.eventfd_write(self._bell, 1)

    def close(self) -> None:
        """Give all rides back, and take no more. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            os.eventfd_write(self._bell, 1)
            thread = self._thread
        if thread is not None:
            thread.join()
        os.close(self._bell)
        self._epoll.close()

    def _run(self) -> None:
        try:
            sweep_at = monotonic() + SWEEP
            while not self._closed:
                for number, events in self._epoll.poll(SWEEP):
                    self._see_to(number, events)
                self._return_those_called_back()
                if (now := monotonic()) >= sweep_at:
                    sweep_at = now + SWEEP
                    self._sweep()
        except Exception:
            log.exception("the relay failed; streams go on without it")
        finally:
            with self._lock:
                self._closed = True
            for ride in list(self._rides):
                self._give_back(ride)

    def _see_to(self, number: int, events: int) -> None:
        with self._lock:
            ride, leaving = self._by_source.get(number), self._by_client.get(number)
        if ride is not None:
            if events != select.EPOLLIN or not ride.move():
                self._give_back(ride)
        elif leaving is not None:
            leaving.ground()
            self._give_back(leaving)
        elif number == self._bell:
            os.eventfd_read(self._bell)

    def _return_those_called_back(self) -> None:
        while self._called_back:
            ride = self._called_back.popleft()
            if ride in self._rides:
                ride.ground()
                self._give_back(ride)

    def _sweep(self) -> None:
        with self._lock:
            rides = list(self._rides)
        for ride in rides:
            ride.silence += 1
            if ride.silence > PATIENCE:
                ride.pause()
                self._give_back(ride)

    def _give_back(self, ride: Ride) -> None:
        with self._lock:
            was_here = self._forget(ride)
        if was_here:
            ride.wake()

    def _forget(self, ride: Ride) -> bool:
        if ride not in self._rides:
            return False
        self._rides.discard(ride)
        for rides, number in ((self._by_source, ride.source), (self._by_client, ride.client)):
            # A server may have closed its socket, and its number may be another's by now.
            if rides.get(number) is ride:
                del rides[number]
                with suppress(OSError, ValueError):
                    self._epoll.unregister(number)
        return True


class Ride:
    """A stream between its two sockets."""

    def __init__(self, relay: Relay, writer: Writer, source: Source) -> None:
        self.source = source.fileno()
        self.client = -1
        self.silence = 0
        self._grounded = False
        self._since = 0.0
        self._relay = relay
        self._writer = writer
        self._source = source
        self._stream: EventStream | None = None
        self._room = 0
        self._rest = b""
        self._wrote = False
        self._error: Exception | None = None
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def carry(self, stream: EventStream) -> bool:
        """Have the stream's pieces written to the client as they come, until one is for its own thread, which calls
        this and waits; whether any was written.

        :raises OSError: the client has left.
        :raises Exception: what the stream raised.
        """
        if self._grounded or not (self._source.is_drained() and self._writer.is_ready()):
            return False
        self._stream = stream
        self._room = stream.room()
        self._wrote = False
        self.silence = 0
        self._since = monotonic()
        self.client = self._writer.fileno()
        self._writer.when_closed(lambda: self._relay.call_back(self))
        self._source.set_waiting(False)
        if self._relay.take(self):
            self._asleep.acquire()
        self._source.set_waiting(True)
        self._writer.when_closed(None)
        self._stream = None
        if self._error is not None:
            raise self._error
        if self._rest:
            rest, self._rest = self._rest, b""
            self._writer.send_all(rest)
        return self._wrote

    def move(self) -> bool:
        """Move what has arrived; False if that is for the stream's own thread."""
        try:
            return self._move()
        except Exception as error:
            self._error = error
            return False

    def pause(self) -> None:
        """Have the stream's own thread look up before it waits for more."""
        self._source.put_silence()

    def ground(self) -> None:
        """Never ride again, and look up now: the client has closed, at least one way."""
        self._grounded = True
        self.pause()

    def wake(self) -> None:
        """Go on in the stream's own thread."""
        self._asleep.release()

    def _move(self) -> bool:
        assert self._stream is not None
        data = self._source.receive()
        if not data:
            return data is not None
        self.silence = 0
        self._source.put(data)
        self._room -= len(data)
        if self._room < 0:
            return False
        if _may_end(data):
            self._grounded = True
            return False
        pieces = self._stream.take()
        if not pieces:
            # Bytes that make no piece are no reason to leave the client without a keep-alive.
            return pieces is not None and monotonic() - self._since < TICK
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if self._writer.chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        sent = self._writer.send(piece)
        self._wrote = True
        self._since = monotonic()
        if sent < len(piece):
            self._rest = piece[sent:]
            return False
        return not self._stream.has_more and self._source.is_drained()


def _may_end(data: bytes) -> bool:
    """Whether this may be the end of an answer, at which a charge is settled; that may have to wait for a database."""
    return (
        data.find(DONE) >= 0
        or data.find(b'"error"') >= 0
        or data.find(b'"message_stop"') >= 0
        or data.find(b'"response.completed"') >= 0
        or data.find(b'"response.incomplete"') >= 0
        or data.find(b'"response.failed"') >= 0
    )


def board(stream: EventStream, source: object, environ: WSGIEnvironment) -> None:
    """Let a stream ride where its server offers that and its source is one."""
    offered: Callable[[Any], Ride] | None = environ.get(RELAY_KEY)
    if offered is not None and hasattr(source, "receive"):
        stream.ride = offered(source)
