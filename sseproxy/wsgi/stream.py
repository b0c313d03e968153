"""The body of a streamed answer: bytes to the server, events to a middleware.

Parsed once and encoded once however many middlewares share it; closed exactly once, from any thread, also when it was
never started (PEP 3333 calls ``close()`` on the iterable in every case; a generator's ``finally`` would not run then).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from time import monotonic
from typing import TYPE_CHECKING

from sseproxy.core.failure import Failure
from sseproxy.core.sse import FLUSH, PING, Event, decode, encode
from sseproxy.wsgi.client import connection_closed
from sseproxy.wsgi.closing import call_all, close_apart
from sseproxy.wsgi.lane import Lane, Reader, Seen, unlimited

if TYPE_CHECKING:
    from sseproxy.wsgi.ends import Source
    from sseproxy.wsgi.ride import Ride


Transform = Callable[[Iterator[Event]], Iterator[Event]]
Encoder = Callable[[Event], bytes]
MAX_WRITE = 64 * 1024
MAX_HELD = 256 * 1024
"""Bytes of events that :meth:`EventStream.peek` reads ahead at most."""


class EventStream:
    """An iterable of bytes with ``close()`` that is a stream of events inside.

    All events from one upstream read leave in one write; a write never mixes a keep-alive with data.

    :param events: the events, with :data:`~sseproxy.core.sse.FLUSH` where no more are available yet.
    :param gone: whether the client is known to have left; called at idle ticks.
    :param keepalive: seconds of silence after which a keep-alive is written.
    :ivar encoder: encodes one event; as a server-sent event unless a format says otherwise.
    :ivar ping: the keep-alive; empty for a format that has none.
    :ivar offered: makes the ride for the second piece on; None where there is no relay.
    :ivar ride: the ride, once there is one.
    :ivar room: how many output tokens may pass before a step that may block.
    :ivar client_left: the stream was closed because the client had left.
    :ivar interrupted: the answer is no longer wanted.
    :ivar has_more: more than the last write is available already.
    :ivar lane: lets plain chunks bypass the iterator; None: they must not.
    :ivar source: the upstream's body, which the lane and the ride read.
    """

    # Initial values, which cost nothing per stream.
    ping = PING
    offered: Callable[[Source], Ride | None] | None = None
    ride: Ride | None = None
    has_more = False
    lane: Lane | None = None
    source: Source | None = None
    client_left = interrupted = False
    _started = _passed = False
    _wrote, _quiet_since = True, 0.0
    _broken: BaseException | None = None

    def __init__(
        self, events: Iterator[Event], *, gone: Callable[[], bool] | None = None, keepalive: float = 15.0
    ) -> None:
        self.gone = gone
        self.keepalive = keepalive
        self.encoder: Encoder = encode
        self.room = unlimited
        self._events = iter(events)
        self._interrupts: list[Callable[[], object]] = []
        self._callbacks: list[Callable[[], object]] | None = []
        self._after: list[Callable[[], object]] = []
        self._lock = threading.Lock()

    @classmethod
    def of(cls, body: Iterable[bytes], parse: Callable[[Iterable[bytes]], Iterator[Event]] = decode) -> EventStream:
        """The stream behind a WSGI body: itself if it is one already, else parsed from its bytes."""
        if isinstance(body, cls):
            return body
        stream = cls(parse(body))
        close = getattr(body, "close", None)
        if close is not None:
            stream._callbacks = [close]
        hang_up = getattr(body, "hang_up", None)
        if hang_up is not None:
            stream.on_interrupt(hang_up)
        return stream

    def open_lane(self, reader: Reader) -> None:
        """Let plain events bypass the transforms attached so far."""
        self.lane = Lane(reader)
        self.lane.room = self.room

    def limit(self, room: Callable[[], int]) -> None:
        """Set :attr:`room`."""
        self.room = room
        if self.lane is not None:
            self.lane.room = room

    def pipe(self, transform: Transform, seen: Seen | None = None) -> EventStream:
        """Attach a transform outside those attached before. Returns the stream itself.

        :param seen: all that the transform does with plain events, which it hands on unchanged; None: it must get them.
        :raises RuntimeError: the stream has begun; what was read already cannot be transformed any more.
        """
        if self._started:
            raise RuntimeError("pipe() after the first event was read")
        self._events = transform(self._events)
        if seen is None:
            self.lane = None
        elif self.lane is not None:
            self.lane.add(seen)
        return self

    def on_close(self, callback: Callable[[], object]) -> None:
        """Call this when the stream ends, for whatever reason; last in, first out. At once if it has ended."""
        with self._lock:
            if self._callbacks is not None:
                self._callbacks.append(callback)
                return
        callback()

    def on_closed(self, callback: Callable[[], object]) -> None:
        """Call this after all :meth:`on_close` callbacks, when the upstream connection is closed already."""
        with self._lock:
            if self._callbacks is not None:
                self._after.append(callback)
                return
        callback()

    def on_interrupt(self, callback: Callable[[], object]) -> None:
        """Call this at :meth:`interrupt`, before callbacks registered earlier; it must be safe in any thread."""
        self._interrupts.insert(0, callback)

    def interrupt(self) -> None:
        """End a read that another thread is blocked in: the answer is no longer wanted. That thread closes the stream.

        A body with ``hang_up()`` ends at once, any other at its next piece (only the thread that runs a generator can
        close it).
        """
        self.interrupted = True
        for callback in self._interrupts:
            callback()

    def peek(self, tells: Callable[[Event], bool] = lambda event: True) -> Event | None:
        """Wait for the first event for which ``tells`` is true; it and those before it stay in the stream. None if it
        did not come before a :attr:`ping` was due, if there is one, or within :data:`MAX_HELD` bytes.

        For a middleware that chooses the response's status by how the stream begins. Transforms may still be attached
        afterwards. If an idle tick shows that the client left, the stream is closed and looks ended.
        """
        deadline = monotonic() + self.keepalive
        held: list[Event] = []
        size = 0
        for event in self._events:
            if event is not FLUSH:
                held.append(event)
                if tells(event):
                    self._events = chain(held, self._events)
                    return event
                size += len(event.data)
                if size > MAX_HELD:
                    break
                continue
            if self.gone is not None and self.gone():
                self._leave()
                break
            if self.ping and monotonic() >= deadline:
                break
        # The events read so far must not wait for the next ones.
        self._events = chain(held, [FLUSH] if held else [], self._events)
        return None

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        if self._passed and not self.has_more:
            if self.offered is not None and self.source is not None:
                self.ride, self.offered = self.offered(self.source), None
            if self.ride is not None:
                if self.ride.carry(self):
                    self._wrote = True
            elif self.lane is not None and self.source is not None and (piece := self.lane.read(self.source)):
                self._wrote = True
                return piece
        try:
            pieces = self.take()
        except Failure as failure:  # the format cannot express it; the server is not at fault
            raise connection_closed() from failure
        if pieces is None:
            self.close()
            raise StopIteration
        if pieces:
            self._wrote = self._passed = True
            return b"".join(pieces)
        return self._idle()

    def take(self) -> list[bytes] | None:
        """The next write, event by event; empty for an idle tick, None at the end.

        For callers that pass events on one by one. Unlike iteration it writes no keep-alives and does not close.
        """
        self._started = True
        if self._broken is not None or self.client_left:
            self._fail()
        pieces: list[bytes] = []
        ended = False
        try:
            ended = self._collect(pieces)
            while not (ended or self.has_more) and self._pass_rest(pieces):
                ended = self._collect(pieces)
        except Exception as error:
            if not pieces:
                raise
            self._broken = error
        if pieces and (ended or self._broken is not None):
            self.has_more = True  # the end itself
        return pieces if pieces or not ended else None

    def _collect(self, pieces: list[bytes]) -> bool:
        """Encode the available events into ``pieces``; True when the events have ended."""
        size = 0
        self.has_more = False
        encode = self.encoder
        for event in self._events:
            if event is FLUSH:
                return False
            piece = encode(event)
            pieces.append(piece)
            size += len(piece)
            if size >= MAX_WRITE:
                self.has_more = True
                return False
        return True

    def _pass_rest(self, pieces: list[bytes]) -> bool:
        """Pass what was put aside, through the lane if possible; True if the iterator has more to do now."""
        if self.lane is None or self.source is None or not (rest := self.source.rest()):
            return False
        if self.lane.open():
            piece, taken = self.lane.take(rest, monotonic())
            if taken:
                pieces.append(piece)
            rest = rest[taken:]
            self.lane.tell()
        if rest:
            self.lane.put(rest, self.source)
        return bool(rest)

    def close(self) -> None:
        """End the stream: run the callbacks. Idempotent and safe from any thread."""
        if self._callbacks is None:  # servers also close a stream that they have read to its end
            return
        with self._lock:
            callbacks, self._callbacks = self._callbacks, None
        if callbacks is not None:
            if self.lane is not None:
                callbacks.append(self.lane.tell)
            call_all(chain(reversed(callbacks), reversed(self._after)))

    def __del__(self) -> None:
        if getattr(self, "_callbacks", None) is not None:
            close_apart(self.close)

    def _idle(self) -> bytes:
        """What an idle tick writes: nothing, or a keep-alive when one is due or the client has left."""
        now = monotonic()
        if self.gone is not None and self.gone():
            self._leave()
            return self.ping
        if self._wrote:
            self._wrote = False
            self._quiet_since = now
        elif now - self._quiet_since >= self.keepalive:
            self._quiet_since = now
            return self.ping
        return b""

    def _leave(self) -> None:
        self.client_left = True
        self.close()

    def _fail(self) -> None:
        """Raise what ended the stream early, so that the server aborts instead of ending the body cleanly."""
        if self._broken is not None:
            raise self._broken
        raise connection_closed()
