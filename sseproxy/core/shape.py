"""The shape of a plain chunk: what stands around its text, and around it in what the chunk becomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from sseproxy.core.chunk import UNREADABLE, guard
from sseproxy.core.sse import Event
from sseproxy.core.usage import Usage

__all__ = ["COLON", "END_OF_CHUNK", "END_OF_EVENT", "Echo", "ReadUsage", "Shape", "read_text"]

ReadUsage = Callable[[Mapping[str, Any]], Usage | None]
"""What is known of the usage after a chunk, by the fields in it that say so; None: only the transforms can tell."""

read_text: Final = msgspec.json.Decoder(str).decode
COLON: Final = 58
_LOOKED_AT: Final = 2048
"""Bytes of a read that are split in any case."""
END_OF_EVENT: Final = b"\n\n"
END_OF_CHUNK: Final = b"\n\n\r\n"
_PADDING: Final = b',"obfuscation":"'


class Shape:
    """What stands around the text in one kind of chunk, and around it in what the chunk becomes.

    OpenAI pads every chunk with random ``obfuscation`` that is not passed on; it alone may differ.

    :param around: what stands before and behind the text, as `out` in what the chunk becomes.
    :ivar changes: the chunk does not leave as it came.
    :ivar hidden: the text is no visible one.
    :ivar choice: the index of the choice that it belongs to.
    :ivar reads: reads the usage, where each such chunk has some.
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
        "_out",
        "_padded",
        "_pieces",
        "_tail",
        "changes",
        "choice",
        "chunk",
        "hidden",
        "reads",
        "unlike",
        "watch",
    )

    def __init__(
        self,
        around: tuple[bytes, ...],
        out: tuple[bytes, ...],
        *,
        hidden: bool,
        choice: int = 0,
        watch: Callable[[str], bool] | None = None,
    ) -> None:
        head, tail = around[0], around[-1]
        self._pieces, self._out = around, out
        self.changes = around != out or len(around) > 2  # around one of several texts nothing can be told
        self.hidden, self.choice = hidden, choice
        self._is_common = not (hidden or choice)
        self.watch, self.unlike = watch, b""
        self.reads: ReadUsage | None = None
        before, padding, after = tail.partition(_PADDING)
        self._padded = b""
        # The quotes of the text are looked for with what is around them: nothing else can stand there then.
        self._head, self._tail = head + b'"', b'"' + tail
        if padding and _PADDING not in after and b'"' in after and _PADDING[2:-3] not in out[-1]:
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
            data = guard(middle).join(self._out)
        elif self.changes:
            data = middle.join(self._out)
        if self._is_common:
            return Event(data, "", None, None, True, text)
        content, hidden = ("", text) if self.hidden else (text, "")
        by_choice = ((self.choice, text),) if self.choice else ()
        return Event(data, "", None, None, True, content, hidden, by_choice=by_choice)

    def usage(self, data: bytes) -> Usage | None:
        """Return the usage in a chunk of this shape, with any text or none, as :attr:`reads` reads it."""
        return None

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


class Echo(Shape):
    """One whose text stands in several places: reasoning, which some send under two names and all are sent as such."""

    __slots__ = ()

    def middle(self, data: bytes) -> bytes | None:
        head, places = self._pieces[0], len(self._pieces) - 1
        size = (len(data) - sum(map(len, self._pieces))) // places
        quoted = data[len(head) : len(head) + size]
        return quoted if size > 0 and quoted.join(self._pieces) == data else None


def _around(opening: bytes, ending: bytes) -> tuple[slice, slice, slice, bytes, bytes]:
    """What stands before and after the text, and between them it; then what has to stand there."""
    return slice(len(opening)), slice(-len(ending), None), slice(len(opening), -len(ending)), opening, ending
