"""One stream on the relay: between an upstream's socket and a client's, until something is for its own thread."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sseproxy.core.sse import DONE
from sseproxy.wsgi.relay import Relay

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.wsgi.ends import Source, Writer
    from sseproxy.wsgi.express import Express
    from sseproxy.wsgi.lane import Lane
    from sseproxy.wsgi.stream import EventStream

RELAY_KEY: Final = "sseproxy.relay"
"""What a server offers whose application is a proxy and nothing around it: a function from a source to a ride."""
PATIENCE: Final = 1.0
"""Seconds without a byte, after which a stream's own thread looks after it."""
_FAILURE: Final = re.compile(rb'"error"(?!\s*:\s*null)')


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
        self._express: Express | None = None
        self._boards = True
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
        self._writer.when_closed(lambda: self._relay.call_back(self))
        self.client = self._writer.fileno()
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
            return self._go_on(data, now)
        except Exception as error:
            self._error = error
            return False

    def board(self, express: Express) -> None:
        """Have plain events moved there, if what comes next may be one; until :meth:`leave` or :meth:`resume`."""
        if self._express is not None or self._hears is None or self._lane is None:
            return
        if self._boards and self._source.is_bare() and (around := self._lane.surroundings()) is not None:
            with suppress(Exception):  # no more files, or no memory: it goes on without
                express.board(self.source, self._writer.duplicate(), *around)
                self._express = express

    def resume(self, data: bytes, passed: int, sent: int, error: int, now: float) -> bool:
        """As :meth:`move`, of what the express has read and could not move.

        :param passed: how many bytes, from the first, were plain.
        :param sent: how many of these were sent.
        :param error: what kept from more, or 0.
        """
        self.leave()
        if self._error is not None:
            return False
        try:
            if error:
                failure = OSError(error, os.strerror(error))
                if passed:
                    raise failure
                self._source.fail(failure)
                return False
            if not data:
                return self.move(now)
            if sent < passed:
                self._unsent = data[sent:passed]
                return self._unwrap(data[passed:], False) if passed < len(data) else False
            self._heard = now
            return self._go_on(data[passed:], now)
        except Exception as failure:
            self._error = failure
            return False

    def leave(self) -> None:
        """Have nothing moved by the express any more."""
        express, self._express = self._express, None
        if express is None:
            return
        try:
            texts, times, sent = express.leave(self.source)
            self._boards = bool(times)  # else it does not pay, until the iterator has had a turn
            self._pass_by(texts, times, sent)
        except Exception as error:
            self._error = error

    def lose(self, error: Exception) -> None:
        """End with this if bytes may have been lost with the express."""
        if self._express is not None:
            self._error = error

    def _pass_by(self, texts: bytes, times: Sequence[float], sent: int) -> None:
        """The express has moved this."""
        if times and self._lane is not None:
            self._lane.pass_by(texts, times)
            self._writer.note_sent(sent)
            self._wrote = True
            self._heard = self._sent = times[-1]

    def _go_on(self, data: bytes, now: float) -> bool:
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

    def _unwrap(self, data: bytes, flows: bool) -> bool:
        """Go on with this without its transfer framing; what has ended is not for here after that."""
        payload = self._source.unwrap(data)
        ended = payload is None
        if payload is None:
            payload = self._source.rest()
        if flows and payload and self._lane is not None:
            piece, taken = self._lane.take(payload, self._heard)
            if taken:
                flows = self._send(piece)
                payload = payload[taken:]
        self._listen()
        flows = flows and not ended
        return self._iterate(payload, flows) if payload else flows

    def goes_on(self, now: float) -> bool:
        """See to what can wait; False if the stream's own thread is to look up: for nothing has come for a while, or
        the answer has taken too long.
        """
        try:
            if self._express is not None:
                self._pass_by(*self._express.tell(self.source))
            if now - self._heard > PATIENCE:
                self._source.put_silence()
                return False
            self._tell()
            if self._express is not None and self._lane is not None:
                self._express.allow(self.source, self._lane.renew())
        except Exception as error:
            self._error = error
            return False
        return self._source.is_drained()

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
        self._boards = True
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
