"""Server-sent events: bytes to events and back (see :mod:`.block`), sans-IO.

Specification: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
It knows lines and fields, never what data means. Time is linear in the bytes fed, memory bounded by ``limit``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sseproxy.core.block import encode, read_named, utf8
from sseproxy.core.failure import UpstreamFailure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sseproxy.core.failure import Failure
    from sseproxy.core.usage import Usage

__all__ = ["DONE", "FLUSH", "HEARTBEAT", "LIMIT", "PING", "Decoder", "Event", "EventTooLarge", "decode", "encode"]

LIMIT: Final = 16 * 1024 * 1024
_LINE: Final = 64
"""Bytes of memory that a line of an event takes until its end, beside what it says."""
DONE: Final = b"[DONE]"
# One newline: two crash openai-python once an `id:` was seen (openai-python#2722) and are an empty message to
# fetch-event-source.
PING: Final = b": ping\n"
_BOM: Final = b"\xef\xbb\xbf"


class Event(msgspec.Struct):
    """One event of a stream, and what is known of it.

    The first four fields are the wire's. The others are empty until someone has looked at :attr:`data`
    (:attr:`read`); accounting and the formats use nothing else.

    :param data: payload; the lines of several ``data:`` fields joined by LF. Always valid UTF-8.
    :param type: the ``event:`` field; empty if none was given.
    :param id: the ``id:`` field of this very block.
    :param retry: the ``retry:`` field, in milliseconds.
    :param read: the fields below say what `data` carries.
    :param content: visible text this event adds to the answer, all choices together.
    :param hidden: other billed output: reasoning, refusal, the words of speech, names and arguments of tool calls.
    :param usage: usage as known after this event, if the event carries or completes it.
    :param finish: finish reason of a choice that ends here.
    :param error: set on an error event, with the HTTP status to use while the headers are unsent.
    :param by_choice: content and hidden of each choice; empty: all is of the first.
    """

    data: bytes = b""
    type: str = ""
    id: str | None = None
    retry: int | None = None
    read: bool = False
    content: str = ""
    hidden: str = ""
    usage: Usage | None = None
    finish: str | None = None
    error: Failure | None = None
    by_choice: tuple[tuple[int, str], ...] = ()


# Identity sentinel: all that one read brought has been yielded, nothing is at hand now. Transforms pass it on at once.
FLUSH: Final = Event(type="flush", read=True)
# Identity sentinel of a lenient decoder: a block without data. Never leaves :mod:`sseproxy.core.normalize`.
HEARTBEAT: Final = Event(type="heartbeat", read=True)


class EventTooLarge(UpstreamFailure):
    """An event grew beyond the bound on buffered bytes."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"The upstream sent an event of more than {limit} bytes.", code="event_too_large")


class Decoder:
    """Feed bytes as they come, get the events they complete.

    A CR at the end of a read ends its line at once; an LF that opens the next read then belongs to it. Comments and
    unknown fields are dropped before they are buffered.

    :param limit: bytes of memory that are used for one event at most, comments not counted.
    :param lenient: also read what servers send instead of events: a bare line that opens with ``{`` or ``[`` is
        data, as is an object, or a sentence, in a field ``error`` (llama.cpp#16109), and a data line that is a whole
        JSON object (or ``[DONE]``) is an event at its own line end, so that streams with single newlines between
        events do flow.
        A block that says nothing, such as a comment, is a :data:`HEARTBEAT`.
    :ivar between: no event is half read.
    """

    failure: EventTooLarge | None = None  # this and what follows is how each begins; few streams set any of it
    between = True
    _head: bytes | None = b""  # the first bytes, until they are known to be a BOM or not
    _tail_size = _data_size = 0
    _skip_lf = _open = _bare = False  # the unfinished block has had a line; its data came without a field name
    _spoke = False  # it has been an event already
    _type = ""
    _id: str | None = None
    _retry: int | None = None

    def __init__(self, limit: int = LIMIT, *, lenient: bool = False) -> None:
        self.limit = limit
        self._lenient = lenient
        self._tail: list[bytes] = []  # fragments of the unfinished line
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> list[Event]:
        """Return the events that `data` completes.

        :raises EventTooLarge: at the call after the one that returned the last good event, if there was one.
        """
        # 13 is a CR; asked for by bytes, `in` takes ten times as long, and `find` no less.
        whole = data[:6] == b"data: " and data[-2:] == b"\n\n" and 13 not in data and len(data) <= self.limit
        if whole and self.between:  # nearly every read there is, if these are events of one line each
            self._head = None
            lines = (data if data.isascii() else utf8(data))[6:-2]
            if 10 not in lines:
                return [Event(lines)]
            several = lines.split(b"\n\ndata: ")
            if 10 not in b"".join(several):
                return [*map(Event, several)]
        try:
            return self._feed(data)
        finally:
            self.between = not (self._open or self._tail or self._skip_lf or self._head or self.failure is not None)

    def finish(self) -> Event | None:
        """Return the block that the end of the stream left unfinished, which the standard would discard.

        :raises EventTooLarge: if the last bytes were too many.
        """
        if self.between:
            return None
        if self.failure is not None:
            raise self.failure
        events: list[Event] = []
        if tail := b"".join(self._tail) + (self._head or b""):
            self._line(tail, events)
        self._end_block(events)
        return events[0] if events and events[0] is not HEARTBEAT else None

    def _strip_bom(self, data: bytes) -> bytes:
        data = (self._head or b"") + data
        if len(data) < 3 and _BOM.startswith(data):
            self._head = data
            return b""
        self._head = None
        return data[3:] if data.startswith(_BOM) else data

    def _feed(self, data: bytes) -> list[Event]:
        if self.failure is not None:
            raise self.failure
        if self._head is not None:
            data = self._strip_bom(data)
        if self._skip_lf and data:
            self._skip_lf = False
            data = data[1:] if data[0] == 10 else data
        if not data:
            return []
        if 13 in data:
            self._skip_lf = data[-1] == 13
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        # Split at the blank lines; what follows the last LF waits.
        end = data.rfind(b"\n") + 1
        if not end:
            self._wait(data)
            if self.failure is not None:
                raise self.failure
            return []
        rest = data[end:]
        if self._tail:
            data = b"".join(self._tail) + data[:end]
            self._tail, self._tail_size = [], 0
        elif rest:
            data = data[:end]
        events: list[Event] = []
        blocks = data.split(b"\n\n")
        last = blocks.pop()
        for block in blocks:
            if block[:6] == b"data: " and not self._open and 10 not in block and len(block) <= self.limit:
                events.append(Event(block[6:] if block.isascii() else utf8(block[6:])))
            elif not self._open and len(block) <= self.limit and (named := read_named(block)) is not None:
                events.append(Event(*named))
            else:
                self._lines(block, events)
                self._end_block(events)
            if self.failure is not None:
                break
        else:
            if last:
                self._lines(last[:-1], events)
            if rest:
                self._wait(rest)
        if self.failure is not None and not events:
            raise self.failure
        return events

    def _wait(self, fragment: bytes) -> None:
        """Keep the beginning of a line; of a comment only its colon."""
        if (self._tail or [fragment])[0][0] == 58:
            self._tail = [b":"]
            return
        self._tail.append(fragment)
        self._tail_size += len(fragment)
        if self._tail_size + self._data_size > self.limit:
            self._overflow()

    def _overflow(self) -> None:
        self.failure = EventTooLarge(self.limit)
        self._tail, self._data = [], []

    def _lines(self, block: bytes, events: list[Event]) -> None:
        for line in block.split(b"\n"):
            if line:
                self._line(line, events)
            else:
                # The first line of a read, where the last one ended with LF: a blank line after all.
                self._end_block(events)
            if self.failure is not None:
                return

    def _line(self, line: bytes, events: list[Event]) -> None:
        self._open = True
        if line[0] == 58:
            return
        if len(line) + self._data_size > self.limit:
            self._overflow()
            return
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._add(value, events)
        elif name == b"event":
            self._type = value.decode("utf-8", "replace")
        elif name == b"id":
            if b"\0" not in value:
                self._id = value.decode("utf-8", "replace")
        elif name == b"retry":
            if value.isdigit():
                self._retry = int(value[:18])
        elif self._lenient and name.lower() == b"error" and (value[:1] == b"{" or b" " in value.strip()):
            self._type = "error"
            self._add(value, events)
        elif self._lenient and (self._bare or line.lstrip()[:1] in (b"{", b"[")):
            self._bare = True
            self._add(line, events)

    def _add(self, value: bytes, events: list[Event]) -> None:
        """Add a data line to the block, or let it be an event at once if it is one (see `lenient`)."""
        self._data.append(value)
        self._data_size += len(value) + _LINE
        if self._lenient and len(self._data) == 1 and _is_whole(value):
            self._end_block(events)
            self._open = self._spoke = True

    def _end_block(self, events: list[Event]) -> None:
        """Dispatch the block; without a data field it is not an event."""
        if self._data:
            data = b"\n".join(self._data) if len(self._data) > 1 else self._data[0]
            events.append(Event(data if data.isascii() else utf8(data), self._type, self._id, self._retry))
            self._data, self._data_size = [], 0
        elif self._open and self._lenient and not self._spoke:
            events.append(HEARTBEAT)
        if self._open:
            self._open = self._bare = self._spoke = False
            self._type, self._id, self._retry = "", None, None


def _is_whole(value: bytes) -> bool:
    """Tell whether a data line is by itself a JSON object or the end mark."""
    value = value.strip()
    if value[:1] == b"{" and value[-1:] == b"}":
        try:
            msgspec.json.decode(value, type=msgspec.Raw)
            return True
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
    return value == DONE


def decode(pieces: Iterable[bytes], limit: int = LIMIT) -> Iterator[Event]:
    """Decode a body by the letter of the standard, with :data:`FLUSH` after every piece (an empty one too).

    :raises EventTooLarge: after the events before it.
    """
    decoder = Decoder(limit)
    for piece in pieces:
        yield from decoder.feed(piece)
        yield FLUSH
    if decoder.failure is not None:
        raise decoder.failure
