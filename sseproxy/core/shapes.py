"""The shapes of plain chunks, which makes them cheap: what is around the text stays, so only the text is looked at.

Once a chunk of some head and tail went all the way through the transforms and came out as one chunk around the same
text, the next one needs neither parser nor transforms.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sseproxy.core.chunk import guard, read_json, text_of, write_json
from sseproxy.core.sse import Event

__all__ = ["Shape", "Shapes"]

_decode_text: Final = msgspec.json.Decoder(str).decode
_COLON: Final = 58
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

    def match(self, data: bytes) -> Event | None:
        """Return the finished event for `data` if its shape is known."""
        shape = self.last
        if shape is None or (middle := shape.middle(data)) is None:
            shape = self._find(data)
            if shape is None or (middle := shape.middle(data)) is None:
                return None
        try:
            text = _decode_text(middle)
        except msgspec.DecodeError:
            return None
        if not text:
            return None
        if not middle.isascii() or (_COLON in middle and middle.find(b"data: ") >= 0):
            data = shape.out_head + guard(middle) + shape.out_tail
        elif shape.changes:
            data = shape.out_head + middle + shape.out_tail
        if shape.hidden:
            return Event(data, "", None, None, True, "", text)
        self.sent += len(text)
        return Event(data, "", None, None, True, text)

    def _find(self, data: bytes) -> Shape | None:
        if not self.paused:
            for shape in self._shapes:
                if shape.middle(data) is not None:
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

    def learn(self, data: bytes, event: Event) -> None:
        """Take up matching after a steady chunk; remember that its bytes `data` became `event` around one text."""
        self.paused = False
        if self._idle > self._most * self._most:
            return
        text = event.content or event.hidden
        if not text or (event.content and event.hidden) or event.usage or event.finish:
            return
        cut = _cut(data, text)
        out = cut if event.data == data else _cut(event.data, text)
        if cut is None or out is None or (found := _probe(*cut)) is None or (out != cut and found != _probe(*out)):
            return
        if len(self._shapes) >= self._most:
            self._shapes.pop(0)
        self._idle += 1
        self.last = Shape(*cut, *out, hidden=bool(event.hidden))
        self._shapes.append(self.last)


class Shape:
    """What stands around the text in one kind of chunk, and around it in what the chunk becomes.

    OpenAI pads every chunk with random ``obfuscation`` that is not passed on; it alone may differ.
    """

    __slots__ = (
        "_after",
        "_before",
        "_between",
        "_ending",
        "_framed_ending",
        "_head",
        "_opening",
        "_padded",
        "_tail",
        "changes",
        "hidden",
        "out_head",
        "out_tail",
    )

    def __init__(self, head: bytes, tail: bytes, out_head: bytes, out_tail: bytes, *, hidden: bool) -> None:
        self.out_head, self.out_tail = out_head, out_tail
        self.changes = (head, tail) != (out_head, out_tail)
        self.hidden = hidden
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
        self._opening, self._ending = b"data: " + self._head, self._tail + b"\n\n"
        self._framed_ending = self._ending + b"\r\n"

    def texts(self, data: bytes, *, framed: bool) -> tuple[list[str], int]:
        """Return the texts of the events of this shape that `data` begins with, and where these end.

        They may leave byte for byte as they came, if the shape :attr:`changes` nothing.

        :param framed: each stands in an HTTP chunk of its own (RFC 9112 section 7.1).
        """
        opening, ending = self._opening, self._framed_ending if framed else self._ending
        texts: list[str] = []
        begin = 0
        while True:
            at = data.find(b"\r\n", begin) + 2 if framed else begin
            if not data.startswith(opening, at):
                break
            quote = at + len(opening) - 1
            end = data.find(ending, quote + 1)
            after = end + len(ending)
            if end < 0 or (framed and data[begin : at - 2] != b"%x" % (after - at - 2)):
                break
            quoted = data[quote : end + 1]
            try:
                text = _decode_text(quoted)
            except msgspec.DecodeError:
                break
            if not text or ((_COLON in quoted or not quoted.isascii()) and guard(quoted) != quoted):
                break
            texts.append(text)
            begin = after
        return texts, begin

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


def _cut(data: bytes, text: str) -> tuple[bytes, bytes] | None:
    """Split JSON around its only string value `text`; None if there is not exactly one."""
    token = write_json(text)
    head, found, tail = data.partition(token)
    if not found or not tail or token in tail or head[-1:] != b":" or len(data.splitlines()) > 1:
        return None
    return head, tail


def _probe(head: bytes, tail: bytes) -> tuple[str, str] | None:
    """Put a mark between `head` and `tail`: it must be found where the text of the answer stands."""
    try:
        content, hidden = text_of(read_json(head + b'"\\u0001"' + tail))
    except (ValueError, TypeError, KeyError, AttributeError):
        return None
    return (content, hidden) if "\x01" in (content, hidden) else None
