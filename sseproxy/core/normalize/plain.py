"""Plain chunks of known shapes at the beginning of a read: they need neither decoder nor transforms to be asked.

What `shortcut` does event by event inside the stream, for who has the bytes in hand before the stream has.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from itertools import takewhile
from typing import Final, Protocol

import msgspec

from sseproxy.core.chunk import UNREADABLE, guard
from sseproxy.core.shape import COLON, END_OF_CHUNK, END_OF_EVENT, read_text
from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import encode
from sseproxy.core.tokens import most_tokens

__all__ = ["Plain"]

_read_texts: Final = msgspec.json.Decoder(list[str]).decode
_FIELD: Final = b"data: "


class _Body(Protocol):
    """What tells where the bytes of a stream are.

    :ivar uncompressed: it is known that what comes is what was sent.
    """

    uncompressed: bool

    def is_between_events(self) -> bool:
        """Whether all that has come was whole events of an event stream, uncompressed."""


class Plain:
    """Belongs to one stream, whose decoder and transforms introduce themselves; without them nothing is plain, nor is
    what belongs to another choice than the first: what is said here is not told apart.

    :ivar room: the most tokens of output that may still be read here; an event that may have more is not plain.
    """

    def __init__(self) -> None:
        self.body: _Body | None = None
        self.shapes: Shapes | None = None
        self.room = sys.maxsize
        self._content: list[str] = []
        self._hidden: list[str] = []
        self._counted = 0  # of the content's characters, in what is known of the shapes

    def is_uncompressed(self) -> bool:
        """Whether it is known by now that what comes is what was sent."""
        return self.body is not None and self.body.uncompressed

    def is_ready(self) -> bool:
        """Whether what comes next may be plain. It stays so as long as nothing else comes."""
        return (
            self.shapes is not None
            and self.shapes.last is not None
            and self.shapes.last.reads is None
            and self.body is not None
            and self.body.is_between_events()
        )

    def listen(self) -> Callable[[bytes], bool] | None:
        """Return a function that reads one plain event which is all of an HTTP chunk (RFC 9112 section 7.1), and tells
        whether it has: both may leave byte for byte. None if there is no such event.

        Most reads are of this kind. The function does what :meth:`passes` does, without a further call, and is good as
        long as :meth:`is_ready` is.
        """
        shape = self.shapes.last if self.shapes is not None else None
        if shape is None or shape.changes or shape.choice or (shape.watch is not None and not shape.unlike):
            return None
        before, after, between, opening, ending = shape.chunk
        heard = (self._hidden if shape.hidden else self._content).append

        def hears(chunk: bytes) -> bool:
            size, _, event = chunk.partition(b"\r\n")
            if event[before] != opening or event[after] != ending or size != b"%x" % (len(event) - 2):
                return False
            quoted = event[between]
            try:
                text = read_text(quoted)
            except UNREADABLE:
                return False
            if quoted.isascii():
                if COLON in quoted and guard(quoted) != quoted:
                    return False
                room = self.room - len(text)
            else:
                if guard(quoted) != quoted:
                    return False
                room = self.room - most_tokens(text)
            if not text or room < 0 or ((watch := shape.watch) is not None and not watch(text)):
                return False
            self.room = room
            heard(text)
            return True

        return hears

    def surroundings(self) -> tuple[bytes, bytes, bytes]:
        """Return what stands before and behind the text of an event that :meth:`listen` listens for: before it the size
        of its HTTP chunk stands alone, and behind it the chunk ends; and what the next text, in JSON, must not begin
        with, if anything. Only where it gives a function.
        """
        assert self.shapes is not None and self.shapes.last is not None
        _, _, _, opening, ending = self.shapes.last.chunk
        return opening, ending, self.shapes.last.unlike

    def hear(self, texts: bytes) -> None:
        """Take up the texts of events of this kind that have been read elsewhere.

        :param texts: in JSON, each with a comma behind it.
        """
        assert self.shapes is not None and self.shapes.last is not None
        said = _read_texts(b"[%b]" % texts[:-1])
        if self.shapes.last.watch is not None:
            self.shapes.last.watch(said[0])
        heard = "".join(said)
        self.room -= most_tokens(heard)
        (self._hidden if self.shapes.last.hidden else self._content).append(heard)

    def passes(self, data: bytes, *, framed: bool) -> int:
        """Read the plain events that may leave byte for byte; how many bytes of `data`, from its beginning, these are.

        To be called, as :meth:`read`, only while :meth:`is_ready`.

        :param framed: each event stands in an HTTP chunk of its own (RFC 9112 section 7.1), which may leave with it.
        """
        shape = self.shapes.last if self.shapes is not None else None
        if shape is None or shape.changes or shape.choice:
            return 0
        heard = self._hidden if shape.hidden else self._content
        texts, end = shape.texts(data, self.room, framed=framed)
        if not texts:
            return 0
        known = len(texts)
        size = most_tokens("".join(texts))
        while size > self.room:
            del texts[len(texts) * self.room // size :]
            size = most_tokens("".join(texts))
        if texts and shape.watch is not None and not (shape.unlike and shape.watch(texts[0])):
            texts = list(takewhile(shape.watch, texts))
            size = most_tokens("".join(texts))
        if len(texts) < known:
            ending = END_OF_CHUNK if framed else END_OF_EVENT
            end = sum(len(event) + len(ending) for event in data.split(ending, len(texts))[:-1])
        self.room -= size
        heard += texts
        return end

    def read(self, data: bytes) -> tuple[bytes, int]:
        """Read the plain events that `data` begins with: what they are to a client, and how many bytes they were."""
        if end := self.passes(data, framed=False):
            return data[:end], end
        assert self.shapes is not None
        pieces: list[bytes] = []
        begin = 0
        while data.startswith(_FIELD, begin) and (end := data.find(END_OF_EVENT, begin)) >= 0:
            line = data[begin + len(_FIELD) : end]
            if 10 in line or 13 in line or (event := self.shapes.match(line, self.room)) is None:
                break
            self.room -= most_tokens(event.content) + most_tokens(event.hidden)
            self._content.append(event.content)
            self._counted += len(event.content)
            self._hidden.append(event.hidden)
            pieces.append(encode(event))
            begin = end + len(END_OF_EVENT)
        return b"".join(pieces), begin

    def said(self) -> tuple[str, str]:
        """Return the visible text, and the other billed output, that was read since this was asked last."""
        content, hidden = "".join(self._content), "".join(self._hidden)
        if self.shapes is not None:
            self.shapes.sent += len(content) - self._counted
        self._content.clear()
        self._hidden.clear()
        self._counted = 0
        return content, hidden
