"""The shapes of plain chunks, which makes them cheap: what is around the text stays, so only the text is looked at.

Once a chunk of some head and tail went all the way through the transforms and came out as one chunk around the same
text, the next one needs neither parser nor transforms.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from sseproxy.core.chunk import guard, read_json, text_of, write_json
from sseproxy.core.sse import Event
from sseproxy.core.tokens import most_tokens

__all__ = ["COLON", "END_OF_CHUNK", "END_OF_EVENT", "UNREADABLE", "Shape", "Shapes", "read_text"]

read_text: Final = msgspec.json.Decoder(str).decode
UNREADABLE: Final = (msgspec.DecodeError, UnicodeDecodeError)
COLON: Final = 58
_LOOKED_AT: Final = 2048
"""Bytes of a read that are split in any case."""
END_OF_EVENT: Final = b"\n\n"
END_OF_CHUNK: Final = b"\n\n\r\n"
_PADDING: Final = b',"obfuscation":"'


class Shapes:
    """Remembers how plain chunks looked and what became of them: head, one text, tail.

    That a chunk's middle is one JSON string, no more, is checked every time; whatever else it could be goes the long
    way.

    :ivar last: the shape that matched last, if it still may.
    :ivar paused: nothing matches at present.
    :ivar sent: characters of visible text so far.
    :param most: shapes kept, the oldest gives way; learning stops when this many times as many never came again.
    """

    def __init__(self, most: int = 8) -> None:
        self._most = most
        self._shapes: list[Shape] = []
        self.last: Shape | None = None
        self.paused = False
        self.sent = 0
        self._idle = 0

    def match(self, data: bytes, room: int | None = None) -> Event | None:
        """Return the finished event for `data` if its shape is known.

        :param room: the most tokens that it may have, all of the first choice.
        """
        shape = self.last
        if shape is None or (event := shape.event(data)) is None:
            shape = self._find(data)
            if shape is None or (event := shape.event(data)) is None:
                return None
        if room is not None and (shape.choice or most_tokens(event.content) + most_tokens(event.hidden) > room):
            return None
        if shape.watch is not None and not shape.watch(event.content or event.hidden):
            return None
        self.sent += len(event.content)
        return event

    def _find(self, data: bytes) -> Shape | None:
        if not self.paused:
            for shape in self._shapes:
                if shape is not self.last and shape.middle(data) is not None:
                    self.last = shape
                    self._idle = 0
                    return shape
        return None

    def pause(self) -> None:
        """Match nothing while a chunk is on its long way: it may leave other state behind."""
        self.last = None
        self.paused = True

    def forget(self) -> None:
        """Forget all shapes: the state they were learnt in has changed."""
        self._shapes.clear()
        self.last = None

    def lay_by(self) -> tuple[list[Shape], int, int]:
        """Begin anew, and return all that is known by now, for :meth:`take_up`."""
        known = self._shapes, self.sent, self._idle
        self._shapes, self.sent, self._idle = [], 0, 0
        self.last = None
        return known

    def take_up(self, known: tuple[list[Shape], int, int]) -> None:
        """Know what :meth:`lay_by` returned, and nothing else."""
        self._shapes, self.sent, self._idle = known
        self.last = None

    def learn(self, data: bytes, event: Event, watch: Callable[[str], bool] | None = None) -> None:
        """Take up matching after a steady chunk; remember that its bytes `data` became `event` around one text."""
        self.paused = False
        text = event.content or event.hidden
        if not text or (event.content and event.hidden) or event.usage or event.finish or len(event.by_choice) > 1:
            return
        if self._find(data) is None:
            ((choice, _),) = event.by_choice or ((0, text),)
            hidden = bool(event.hidden)
            self.remember(text, data, event.data, _texts_in, hidden=hidden, choice=choice, watch=watch)

    def remember(
        self,
        text: str,
        data: bytes,
        passed: bytes,
        texts_in: Callable[[bytes], tuple[str, str]],
        *,
        hidden: bool = False,
        choice: int = 0,
        watch: Callable[[str], bool] | None = None,
    ) -> None:
        """Remember that bytes became others around this text.

        :param texts_in: reads what a chunk says as it was read of this one.
        :param hidden: as of :class:`Shape`, as are `choice` and `watch`.
        """
        if self._idle > self._most * self._most:
            return
        cut = _cut(data, text)
        out = cut if passed == data else _cut(passed, text)
        if cut is None or out is None:
            return
        found = _probe(*cut, texts_in)
        if found is None or (out != cut and found != _probe(*out, texts_in)):
            return
        self.add(Shape(*cut, *out, hidden=hidden, choice=choice, watch=watch))

    def add(self, shape: Shape) -> None:
        """Match what has this shape."""
        if len(self._shapes) >= self._most:
            self._shapes.pop(0)
        self._idle += 1
        self.last = shape
        self._shapes.append(shape)


class Shape:
    """What stands around the text in one kind of chunk, and around it in what the chunk becomes.

    OpenAI pads every chunk with random ``obfuscation`` that is not passed on; it alone may differ.

    :ivar changes: the chunk does not leave as it came.
    :ivar hidden: the text is no visible one.
    :ivar choice: the index of the choice that it belongs to.
    :ivar watch: is to be told each text; False: it has to go through the transforms.
    :ivar unlike: it is for the next text alone, and says so of none that does not begin with this, in JSON.
    :ivar chunk: as :func:`_around`, of an event that is all of an HTTP chunk (RFC 9112 section 7.1), behind its size.
    """

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_head",
        "_is_common",
        "_line",
        "_padded",
        "_tail",
        "changes",
        "choice",
        "chunk",
        "hidden",
        "out_head",
        "out_tail",
        "unlike",
        "watch",
    )

    def __init__(
        self,
        head: bytes,
        tail: bytes,
        out_head: bytes,
        out_tail: bytes,
        *,
        hidden: bool,
        choice: int = 0,
        watch: Callable[[str], bool] | None = None,
    ) -> None:
        self.out_head, self.out_tail = out_head, out_tail
        self.changes = (head, tail) != (out_head, out_tail)
        self.hidden, self.choice = hidden, choice
        self._is_common = not (hidden or choice)
        self.watch, self.unlike = watch, b""
        before, padding, after = tail.partition(_PADDING)
        self._padded = b""
        # The quotes of the text are looked for with what is around them: nothing else can stand there then.
        self._head, self._tail = head + b'"', b'"' + tail
        if padding and _PADDING not in after and b'"' in after and _PADDING[2:-3] not in out_tail:
            self._padded = b'"' + before + padding
            self._tail = after[after.index(b'"') :]
        self._before = slice(len(self._head))
        self._between = slice(len(head), -len(tail))
        self._after = slice(-len(self._tail), None)
        self._line = _around(b"data: " + head, tail)
        self.chunk = _around(b"data: " + head, tail + END_OF_CHUNK)

    def event(self, data: bytes) -> Event | None:
        """Return what becomes of a chunk; None if it is not of this shape."""
        middle = self.middle(data)
        if middle is None:
            return None
        try:
            text = read_text(middle)
        except UNREADABLE:
            return None
        if not text:
            return None
        if not middle.isascii() or (COLON in middle and middle.find(b"data: ") >= 0):
            data = self.out_head + guard(middle) + self.out_tail
        elif self.changes:
            data = self.out_head + middle + self.out_tail
        if self._is_common:
            return Event(data, "", None, None, True, text)
        content, hidden = ("", text) if self.hidden else (text, "")
        by_choice = ((self.choice, text),) if self.choice else ()
        return Event(data, "", None, None, True, content, hidden, by_choice=by_choice)

    def texts(self, data: bytes, room: int, *, framed: bool) -> tuple[list[str], int]:
        """Return the texts of the events of this shape that `data` begins with, and where these end.

        They may leave byte for byte as they came, if the shape :attr:`changes` nothing.

        :param room: for so many bytes of text, if events go on being about as long; more or fewer may be returned.
        :param framed: each stands in an HTTP chunk of its own.
        """
        before, after, between, opening, ending = self._line
        end_of_event = END_OF_CHUNK if framed else END_OF_EVENT
        size = line = b""
        texts: list[str] = []
        end = 0
        if len(data) > room:  # most of it may be too much
            first = data.find(end_of_event) + len(end_of_event)
            said = first - len(opening) - len(ending) - len(b'""') - len(end_of_event)
            data = data[: max(_LOOKED_AT, first * (room // max(1, said) + 1))]
        for piece in data.split(end_of_event)[:-1]:
            if framed:
                size, _, line = piece.partition(b"\r\n")
            else:
                line = piece
            if line[before] != opening or line[after] != ending or (framed and size != b"%x" % (len(line) + 2)):
                break
            quoted = line[between]
            try:
                text = read_text(quoted)
            except UNREADABLE:
                break
            if not text or ((COLON in quoted or not quoted.isascii()) and guard(quoted) != quoted):
                break
            texts.append(text)
            end += len(piece) + len(end_of_event)
        return texts, end

    def middle(self, data: bytes) -> bytes | None:
        """Return the quoted text that stands where it should; None if the rest is not the same."""
        if data[self._before] != self._head or data[self._after] != self._tail:
            return None
        if not self._padded:
            return data[self._between]
        at = data.rfind(self._padded, len(self._head) - 1)
        if at < 0:
            return None
        padding = data[at + len(self._padded) : -len(self._tail)]
        return None if padding.find(b'"') >= 0 or padding.find(b"\\") >= 0 else data[len(self._head) - 1 : at + 1]


def _around(opening: bytes, ending: bytes) -> tuple[slice, slice, slice, bytes, bytes]:
    """What stands before and after the text, and between them it; then what has to stand there."""
    return slice(len(opening)), slice(-len(ending), None), slice(len(opening), -len(ending)), opening, ending


def _cut(data: bytes, text: str) -> tuple[bytes, bytes] | None:
    """Split JSON around its only string value `text`; None if there is not exactly one."""
    token = write_json(text)
    head, found, tail = data.partition(token)
    if not found or not tail or token in tail or head[-1:] != b":" or len(data.splitlines()) > 1:
        return None
    return head, tail


def _probe(head: bytes, tail: bytes, texts_in: Callable[[bytes], tuple[str, str]]) -> tuple[str, str] | None:
    """Put a mark between `head` and `tail`: it must be found where the text of the answer stands."""
    try:
        texts = texts_in(head + b'"\\u0001"' + tail)
    except (msgspec.DecodeError, ValueError, TypeError, KeyError, AttributeError):
        return None
    return texts if "\x01" in texts else None


def _texts_in(data: bytes) -> tuple[str, str]:
    return text_of(read_json(data))
