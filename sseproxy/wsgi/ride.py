"""One stream that others move, the express or the relay, while its own thread sleeps; until something is for that."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from sseproxy.wsgi.passage import PATIENCE, Passage
from sseproxy.wsgi.relay import Relay

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from sseproxy.wsgi.ends import Source, Writer
    from sseproxy.wsgi.express import Express
    from sseproxy.wsgi.lane import Lane
    from sseproxy.wsgi.stream import EventStream

RELAY_KEY: Final = "sseproxy.relay"
"""What a server offers whose application is a proxy and nothing around it: a function from a source to a ride."""
LOOK: Final = 1.0
"""Seconds after which a stream's own thread sees to what the express has moved."""
ALONE: Final = 4
"""Pieces that a stream's own thread waits for before the relay does, if what follows may be for the express."""


class Ride:
    """A stream between its two sockets.

    :ivar source: the number of the upstream's.
    :ivar client: that of the client's.
    """

    def __init__(self, relay: Relay, writer: Writer, source: Source) -> None:
        self.source = source.fileno()
        self.client = -1
        self._relay = relay
        self._express = relay.express
        self._writer = writer
        self._source = source
        self._passage = Passage(source, writer)
        self._grounded = False
        self._is_closed = False
        self._boards = True
        self._changes = False
        self._alone = 0
        self._duplicate = -1
        self._error: Exception | None = None
        self._asleep = threading.Lock()
        self._asleep.acquire()

    def carry(self, stream: EventStream) -> bool:
        """Have the stream's pieces written to the client as they come, until one is for its own thread, which calls
        this and waits; whether any was written.

        :raises OSError: the client has left.
        :raises Exception: what the stream raised.
        """
        passage = self._passage
        grounded = self._grounded or passage.may_have_ended  # a format may have more to say at an end than one write
        if grounded or not (self._source.is_drained() and self._writer.is_ready()):
            return False
        passage.begin(stream)
        self._boards = self._express is not None
        if not self._is_for_express() and self._is_left_alone():
            passage.end()
            return False
        self._writer.when_closed(self._when_closed)
        self.client = self._writer.fileno()
        self._source.set_waiting(False)
        try:
            self._be_moved()
        finally:
            if self._duplicate >= 0:
                os.close(self._duplicate)
                self._duplicate = -1
            self._source.set_waiting(True)
            self._writer.when_closed(None)
            passage.end()
        if self._error is not None:
            raise self._error
        if passage.failure is not None:
            raise passage.failure
        if passage.unsent:
            unsent, passage.unsent = passage.unsent, b""
            self._writer.send_all(unsent)
        return passage.wrote

    def _be_moved(self) -> None:
        # What has come already need not go the way to others; but they alone move what goes on coming.
        goes_on = self._passage.move(monotonic())
        while goes_on and not self._is_closed:
            if self._is_for_express():
                goes_on = self._go_by_express()
            elif self._is_left_alone():
                goes_on = False
            else:
                self._changes = False
                if self._relay.take(self):
                    self._asleep.acquire()
                goes_on = self._changes
        if self._is_closed:
            self.ground()

    def _is_for_express(self) -> bool:
        return self._boards and self._passage.hears is not None and self._source.is_bare()

    def _is_left_alone(self) -> bool:
        """Whether the own thread is to wait for what comes next: what follows that may be for the express."""
        if self._alone < ALONE and self._express is not None and self._writer.chunked and self._source.is_bare():
            self._alone += 1
            return True
        return False

    def _go_by_express(self) -> bool:
        """Have plain events moved by the express as long as they come; False if the next is for the own thread."""
        express, lane = self._express, self._passage.lane
        assert express is not None
        assert lane is not None
        self._boards = False  # if nothing passes it does not pay, until the own thread has had a turn
        opening, ending, unlike, room = lane.surroundings()
        try:
            if self._duplicate < 0:
                self._duplicate = self._writer.duplicate()
            seat = express.board(self.source, self._duplicate, opening, ending, unlike, room, PATIENCE)
        except OSError:  # no more files, or it is closed: it goes on without
            return True
        flows, is_over = True, False
        try:
            while not is_over:
                texts, times, sent, is_over, has_left, rest = seat.wait(room, monotonic() + LOOK)
                self._passage.note(texts, times, sent)
                if times:
                    self._boards = True
                    self._alone = 0
                if not is_over:
                    flows, room = self._look_up(express, lane)
        except BaseException:
            # The failure's traceback knows of the seat, while the number it writes by is closed and soon another's.
            express.wake(self.source)
            self._passage.note(*seat.wait(0, 0.0)[:3])
            raise
        if has_left:
            self.ground()
            return False
        return (self.goes_on(monotonic()) if rest is None else self._take_up(*rest)) and flows

    def _look_up(self, express: Express, lane: Lane) -> tuple[bool, int]:
        """Tell of what has passed on the express; whether it may go on there, and how many bytes of text may pass."""
        self._passage.tell()
        # Else the answer has taken too long, or its server closed just before it came here.
        flows = self._source.is_drained() and not self._is_closed
        if not flows:
            express.wake(self.source)
        return flows, lane.renew()

    def _take_up(self, data: bytes, passed: int, sent: int, error: int) -> bool:
        """Go on with what the express has read and could not move.

        :param passed: how many bytes, from the first, were plain.
        :param sent: how many of these were sent.
        :param error: what kept from more, or 0.
        """
        if error:
            failure = OSError(error, os.strerror(error))
            if passed:
                self._passage.failure = failure
                return self._passage.pass_on_after(b"", data[passed:])  # for who reads on for the usage
            self._source.fail(failure)
            return False
        if not data:
            return self._passage.move(monotonic())
        return self._passage.pass_on_after(data[sent:passed], data[passed:])

    def move_here(self, now: float) -> bool:
        """On the relay: move what has arrived; False if what comes next is not for there."""
        try:
            if not self._passage.move(now):
                return False
        except Exception as error:
            self._error = error
            return False
        self._changes = self._is_for_express()
        return not self._changes

    def goes_on(self, now: float) -> bool:
        """See to what can wait; False if the stream's own thread is to look up: for nothing has come for a while, or
        the answer has taken too long.
        """
        try:
            if now - self._passage.heard > PATIENCE:
                self._source.put_silence()
                return False
            self._passage.tell()
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

    def _when_closed(self) -> None:
        """The server has closed the connection. From any thread."""
        self._is_closed = True
        self._relay.call_back(self)
        if self._express is not None:
            self._express.wake(self.source)


def board(stream: EventStream, source: Any, environ: WSGIEnvironment, is_uncompressed: Callable[[], bool]) -> None:
    """Let a stream ride where its server offers that, and read around the iterator everywhere, if its source is one.

    :param is_uncompressed: whether it is, asked after its first piece. One that is not never rides: what was read of it
        may make nothing yet, or more than leaves at once, and neither can be told from the socket.
    """
    offered: Callable[[Source], Ride] | None = environ.get(RELAY_KEY)
    if hasattr(source, "receive"):
        stream.source = source
        if offered is not None:
            stream.offered = partial(_ride, offered, is_uncompressed)


def _ride(offered: Callable[[Source], Ride], is_uncompressed: Callable[[], bool], source: Source) -> Ride | None:
    return offered(source) if is_uncompressed() else None
