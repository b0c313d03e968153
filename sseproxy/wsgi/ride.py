"""One stream on the relay: between an upstream's socket and a client's, until something is for its own thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from sseproxy.core.sse import DONE
from sseproxy.wsgi.relay import Relay

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.wsgi.lane import Lane
    from sseproxy.wsgi.stream import EventStream

RELAY_KEY: Final = "sseproxy.relay"
"""What a server offers whose application is a proxy and nothing around it: a function from a source to a ride."""
PATIENCE: Final = 1.0
"""Seconds without a byte, after which a stream's own thread looks after it."""
_FAILURE: Final = re.compile(rb'"error"(?!\s*:\s*null)')


class Source(Protocol):
    """An upstream's body, read without waiting while a stream is here."""

    def fileno(self) -> int:
        """The socket's."""

    def is_drained(self) -> bool:
        """Whether only :meth:`receive` can tell how it goes on, and after that only the socket."""

    def set_waiting(self, waiting: bool) -> None:
        """Whether the iterator waits for bytes; :meth:`receive` wants it not to."""

    def receive(self) -> bytes | None:
        """What has arrived, as it came, maybe nothing; None: the end or a failure, which the iterator will tell."""

    def read(self) -> bytes | None:
        """Wait a while for what comes, without its transfer framing, maybe nothing; None as above."""

    def is_framed(self) -> bool:
        """Whether what comes next is an HTTP chunk from its beginning (RFC 9112 section 7.1)."""

    def unwrap(self, data: bytes) -> bytes | None:
        """Take the transfer framing off what was received; None as above, after the :meth:`rest`. Not needed of whole
        chunks.
        """

    def heard(self, at: float) -> None:
        """The last byte came at this moment (monotonic seconds)."""

    def put(self, data: bytes, later: bytes = b"") -> None:
        """Let the iterator go on with this, and then with what is for later, unless :meth:`rest` takes it first."""

    def rest(self) -> bytes:
        """Take what is at hand for later, if it is its turn: without its transfer framing, maybe nothing."""

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


class Ride:
    """A stream between its two sockets."""

    def __init__(self, relay: Relay, writer: Writer, source: Source) -> None:
        self.source = source.fileno()
        self.client = -1
        # Monotonic seconds: when the ride began, when the upstream last sent something, when the client was sent it.
        self._since = self._heard = self._sent = 0.0
        self._grounded = False
        self._chunked = False
        self._hears: Callable[[bytes], bool] | None = None
        self._relay = relay
        self._writer = writer
        self._source = source
        self._stream: EventStream | None = None
        self._lane: Lane | None = None
        self._unsent = b""
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
        self._wrote = False
        self._since = self._heard = self._sent = monotonic()
        self._chunked = self._writer.chunked
        self._look_ahead()
        self.client = self._writer.fileno()
        self._writer.when_closed(lambda: self._relay.call_back(self))
        self._source.set_waiting(False)
        # What has come already need not go the way to the relay; but it alone moves what goes on coming.
        if self.move(monotonic()) and self._relay.take(self):
            self._asleep.acquire()
        self._source.set_waiting(True)
        self._writer.when_closed(None)
        self._tell()
        self._stream = None
        if self._error is not None:
            raise self._error
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._writer.send_all(unsent)
        return self._wrote

    def move(self, now: float) -> bool:
        """Move what has arrived; False if that is for the stream's own thread."""
        try:
            data = self._source.receive()
            if not data:
                return data is not None
            self._heard = now
            hears, lane = self._hears, self._lane
            if hears is None or lane is None:
                return self._unwrap(data, True)
            if hears(data):
                lane.passed_at(now)
                return self._write(data)
            passed = lane.passes(data, now)
            if passed == len(data):
                return self._write(data)
            return self._unwrap(data[passed:], not passed or self._write(data[:passed]))
        except Exception as error:
            self._error = error
            return False

    def _unwrap(self, data: bytes, flows: bool) -> bool:
        """Go on with this without its transfer framing; what has ended is not for here after that."""
        payload = self._source.unwrap(data)
        self._listen()
        ended = payload is None
        if payload is None:
            payload = self._source.rest()
        if flows and payload and self._lane is not None:
            piece, taken = self._lane.take(payload, self._heard)
            if taken:
                flows = self._send(piece)
                payload = payload[taken:]
        flows = flows and not ended
        return self._iterate(payload, flows) if payload else flows

    def goes_on(self, now: float) -> bool:
        """See to what can wait; False if the stream's own thread is to look up, for nothing has come for a while."""
        if now - self._heard > PATIENCE:
            self._source.put_silence()
            return False
        try:
            self._tell()
        except Exception as error:
            self._error = error
            return False
        return True

    def ground(self) -> None:
        """Never ride again, and look up now: the client has closed, at least one way."""
        self._grounded = True
        self._source.put_silence()

    def wake(self) -> None:
        """Go on in the stream's own thread."""
        self._asleep.release()

    def _tell(self) -> None:
        """Let those know of what has passed who did not have to see it pass."""
        if self._lane is not None:
            self._lane.tell()
        if self._heard > self._since:
            self._source.heard(self._heard)

    def _iterate(self, data: bytes, flows: bool) -> bool:
        """Let the stream make of this what it likes, unless it may have to wait for that."""
        assert self._stream is not None
        self._tell()
        waits = self._stream.room() < len(data)
        if waits and self._lane is not None:
            self._lane.put(data, self._source)
        else:
            self._source.put(data)
        if waits or not flows:
            return False
        if _may_end(data):
            self._grounded = True  # a format may have more to say of it than one write
            return False
        pieces = self._stream.take()
        if not pieces:
            # Bytes that make no piece are no reason to leave the client without a keep-alive.
            goes_on = pieces is not None and self._heard - self._sent <= PATIENCE
        else:
            goes_on = self._send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            goes_on = goes_on and not self._stream.has_more and self._source.is_drained()
        if goes_on:
            self._look_ahead()
        return goes_on

    def _look_ahead(self) -> None:
        """Choose the shortest way that what comes next may take."""
        lane = self._stream.lane if self._stream is not None else None
        self._lane = lane if lane is not None and lane.open() else None
        self._listen()

    def _listen(self) -> None:
        """Choose whether what comes next may pass with its transfer framing."""
        lane = self._lane
        self._hears = lane.listen() if lane is not None and self._chunked and self._source.is_framed() else None

    def _send(self, piece: bytes) -> bool:
        """Write past the server; False if the client has not taken it all."""
        return self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    def _write(self, data: bytes) -> bool:
        sent = self._writer.send(data)
        self._wrote = True
        self._sent = self._heard
        if sent < len(data):
            self._unsent = data[sent:]
            return False
        return True


def _may_end(data: bytes) -> bool:
    """Whether this may be the end of an answer, at which a charge is settled; that may have to wait for a database."""
    return (
        data.find(DONE) >= 0
        or (data.find(b'"error"') >= 0 and _FAILURE.search(data) is not None)
        or data.find(b'"message_stop"') >= 0
        or data.find(b'"response.completed"') >= 0
        or data.find(b'"response.incomplete"') >= 0
        or data.find(b'"response.failed"') >= 0
    )


def board(stream: EventStream, source: Any, environ: WSGIEnvironment) -> None:
    """Let a stream ride where its server offers that, and read around the iterator everywhere, if its source is one."""
    offered: Callable[[Source], Ride] | None = environ.get(RELAY_KEY)
    if hasattr(source, "receive"):
        stream.source = source
        stream.ride = None if offered is None else offered(source)
