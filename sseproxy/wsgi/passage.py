"""What becomes of the bytes of one stream that are read from its upstream's socket: written to its client's, around the
iterator where they are plain; else the stream makes of them what it likes, unless it may have to wait for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic
from typing import TYPE_CHECKING, Final

from sseproxy.core.possible_end import may_end

if TYPE_CHECKING:
    from sseproxy.wsgi.ends import Source, Writer
    from sseproxy.wsgi.lane import Lane
    from sseproxy.wsgi.stream import EventStream

PATIENCE: Final = 1.0
"""Seconds without a byte, after which a stream's own thread looks after it."""


class Passage:
    """From a source to a client, for one thread at a time.

    What moves answers whether it goes on like this; if not, the next is for the stream's own thread.

    :ivar heard: when the upstream sent something last (monotonic seconds).
    :ivar hears: reads an event that may pass with its transfer framing; None: what comes next may not.
    :ivar lane: the way around the iterator, if what comes next may take it.
    :ivar wrote: something was written since :meth:`begin`.
    :ivar unsent: what the client did not take, for the server to write.
    :ivar failure: that the client has left, which is to be raised when all is put away.
    :ivar may_have_ended: the answer has perhaps.
    """

    def __init__(self, source: Source, writer: Writer) -> None:
        self._source = source
        self._writer = writer
        self._stream: EventStream | None = None
        self._chunked = False
        # Monotonic seconds: when it began, and when the client was sent something last.
        self._since = self._sent = 0.0
        self.heard = 0.0
        self.hears: Callable[[bytes], bool] | None = None
        self.lane: Lane | None = None
        self.wrote = False
        self.unsent = b""
        self.failure: OSError | None = None
        self.may_have_ended = False

    def begin(self, stream: EventStream) -> None:
        """Let the bytes be this stream's, until :meth:`end`."""
        self._stream = stream
        self._since = self.heard = self._sent = monotonic()
        self._chunked = self._writer.chunked
        self.wrote = False
        self._look_ahead()

    def end(self) -> None:
        """Let those know of what has passed who did not have to see it pass."""
        self.tell()
        self._stream = None

    def tell(self) -> None:
        """As :meth:`end`, while it goes on."""
        if self.lane is not None:
            self.lane.tell()
        if self.heard > self._since:
            self._source.heard(self.heard)

    def move(self, now: float) -> bool:
        """Move what has arrived."""
        data = self._source.receive()
        if not data:
            return data is not None
        return self.pass_on(data, now)

    def pass_on(self, data: bytes, now: float) -> bool:
        """Move this, which came at this moment (monotonic seconds)."""
        self.heard = now
        hears, lane = self.hears, self.lane
        if hears is None or lane is None:
            return self._unwrap(data, True)
        if hears(data):
            lane.passed_at(now)
            return self._write(data)
        passed = lane.passes(data, now)
        if passed == len(data):
            return self._write(data)
        return self._unwrap(data[passed:], not passed or self._write(data[:passed]))

    def note(self, texts: bytes, times: Sequence[float], sent: int) -> None:
        """Others have moved this, as :meth:`~sseproxy.wsgi.lane.Lane.pass_by` is told of it; so many bytes."""
        if times and self.lane is not None:
            self.lane.pass_by(texts, times)
            self._writer.note_sent(sent)
            self.wrote = True
            self.heard = self._sent = times[-1]

    def pass_on_after(self, unsent: bytes, data: bytes) -> bool:
        """Go on with this, which others have read and which is not plain as it stands, after what the client has not
        taken of what they have sent it.
        """
        self.heard = monotonic()
        self.unsent = unsent
        self.may_have_ended = may_end(data)
        return self._unwrap(data, not (unsent or self.failure or self.may_have_ended)) if data else False

    def _unwrap(self, data: bytes, flows: bool) -> bool:
        """Go on with this without its transfer framing; what has ended is not for here after that."""
        payload = self._source.unwrap(data)
        ended = payload is None
        if payload is None:
            payload = self._source.rest()
        if flows and payload and self.lane is not None:
            piece, taken = self.lane.take(payload, self.heard)
            if taken:
                flows = self._send(piece)
                payload = payload[taken:]
        flows = flows and not ended
        if payload:
            return self._iterate(payload, flows)
        self._listen()
        return flows

    def _iterate(self, data: bytes, flows: bool) -> bool:
        assert self._stream is not None
        self.tell()
        waits = self._stream.room() < len(data)
        if waits and self.lane is not None:
            self.lane.put(data, self._source)
        else:
            self._source.put(data)
        if waits or not flows:
            return False
        if may_end(data):
            self.may_have_ended = True
            return False
        pieces = self._stream.take()
        if not pieces:
            # Bytes that make no piece are no reason to leave the client without a keep-alive.
            goes_on = pieces is not None and self.heard - self._sent <= PATIENCE
        else:
            goes_on = self._send(pieces[0] if len(pieces) == 1 else b"".join(pieces))
            goes_on = goes_on and not self._stream.has_more and self._source.is_drained()
        if goes_on:
            self._look_ahead()
        return goes_on

    def _look_ahead(self) -> None:
        """Choose the shortest way that what comes next may take."""
        lane = self._stream.lane if self._stream is not None else None
        self.lane = lane if lane is not None and lane.open() else None
        self._listen()

    def _listen(self) -> None:
        """Choose whether what comes next may pass with its transfer framing."""
        lane = self.lane
        self.hears = lane.listen() if lane is not None and self._chunked and self._source.is_framed() else None

    def _send(self, piece: bytes) -> bool:
        """Write past the server; False if the client has not taken it all."""
        return self._write(b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece)

    def _write(self, data: bytes) -> bool:
        try:
            sent = self._writer.send(data)
        except OSError as failure:
            self.failure = failure  # what was read with this is for who reads on for the usage
            return False
        self.wrote = True
        self._sent = self.heard
        if sent < len(data):
            self.unsent = data[sent:]
            return False
        return True
