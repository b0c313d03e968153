"""One stream on the relay: between an upstream's socket and a client's, until something is for its own thread."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from sseproxy.core.sse import DONE, encode
from sseproxy.wsgi.relay import PATIENCE, Relay

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.wsgi.lane import Lane
    from sseproxy.wsgi.stream import Encoder, EventStream

RELAY_KEY: Final = "sseproxy.relay"
"""What a server offers whose application is a proxy and nothing around it: a function from a source to a ride."""
_FAILURE: Final = re.compile(rb'"error"(?!\s*:\s*null)')


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


class Ride:
    """A stream between its two sockets.

    :ivar silence: sweeps of the relay since the upstream last sent something.
    :ivar hush: sweeps since the client was last sent something.
    """

    def __init__(self, relay: Relay, writer: Writer, source: Source) -> None:
        self.source = source.fileno()
        self.client = -1
        self.silence = 0
        self.hush = 0
        self._grounded = False
        self._chunked = False
        self._relay = relay
        self._writer = writer
        self._source = source
        self._stream: EventStream | None = None
        self._room = 0
        self._lane: Lane | None = None
        self._encode: Encoder = encode
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
        self._lane = self._open_lane()
        self._encode = stream.encoder
        self._wrote = False
        self.silence = self.hush = 0
        self._chunked = self._writer.chunked
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
            data = self._source.receive()
            if not data:
                return data is not None
            self.silence = 0
            self._room -= len(data)
            if self._lane is not None and self._room >= 0:
                piece = self._lane.take(data, self._encode)
                if piece is not None:
                    return self._send(piece)
            return self._iterate(data)
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

    def _iterate(self, data: bytes) -> bool:
        """Let the stream make of this what it likes, unless it may have to wait for that."""
        assert self._stream is not None
        self._source.put(data)
        if self._room < 0:
            return False
        if _may_end(data):
            self._grounded = True  # a format may have more to say of it than one write
            return False
        pieces = self._stream.take()
        if not pieces:
            # Bytes that make no piece are no reason to leave the client without a keep-alive.
            goes_on = pieces is not None and self.hush <= PATIENCE
        else:
            goes_on = self._send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            goes_on = goes_on and not self._stream.has_more and self._source.is_drained()
        if goes_on:
            self._lane = self._open_lane()
        return goes_on

    def _open_lane(self) -> Lane | None:
        """The way around the stream's iterator, if it may be taken next."""
        lane = self._stream.lane if self._stream is not None else None
        return lane if lane is not None and lane.is_ready() else None

    def _send(self, piece: bytes) -> bool:
        """Write past the server; False if the client has not taken it all."""
        if self._chunked:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        sent = self._writer.send(piece)
        self._wrote = True
        self.hush = 0
        if sent < len(piece):
            self._rest = piece[sent:]
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


def board(stream: EventStream, source: object, environ: WSGIEnvironment) -> None:
    """Let a stream ride where its server offers that and its source is one."""
    offered: Callable[[Any], Ride] | None = environ.get(RELAY_KEY)
    if offered is not None and hasattr(source, "receive"):
        stream.ride = offered(source)
