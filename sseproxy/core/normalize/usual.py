"""How most upstreams write the chunks of a canonical stream: of these nothing need be read but the text.

That is no guess. The first chunk has been read in full, and what stands in it behind ``"choices":[`` closes every
bracket: so what stands before is the beginning of the chunk itself, with its identity. Any other chunk that has the
same bytes there, and goes on in one of the ways below, is of the same answer and says what that way says.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sseproxy.core.chunk import UNREADABLE, guard, write_json
from sseproxy.core.normalize.finish import REASONS
from sseproxy.core.shape import Shape, read_text
from sseproxy.core.sse import Event

__all__ = ["Usual"]

_CHOICES: Final = b'"choices":['
_TEXT: Final = b'{"index":0,"delta":{"content":'
_FIRST: Final = (b'{"index":0,"delta":{"role":"assistant","content":""', b'{"index":0,"delta":{"role":"assistant"')
# Behind the delta of a chunk that ends nothing, as each upstream has it in all of them.
_TAILS: Final = (b'},"logprobs":null,"finish_reason":null}]}', b'},"finish_reason":null}]}')
# The tail, and where the text and the tail stand behind the head of a chunk.
_BEGINNINGS: Final = {
    first + tail: (tail, slice(len(_TEXT), -len(tail)), slice(-len(tail), None)) for first in _FIRST for tail in _TAILS
}
_OPENING: Final = slice(len(_TEXT))
_ENDS: Final = {
    b'{"index":0,"delta":{' + tail.replace(b'"finish_reason":null', b'"finish_reason":"%b"' % reason.encode()): reason
    for reason in REASONS
    for tail in _TAILS
}


class Usual:
    """One answer's chunks."""

    def __init__(self, head: bytes, behind: tuple[bytes, slice, slice]) -> None:
        self._head = head
        self._begin = slice(len(head))
        self._rest = slice(len(head), None)
        self._behind = behind

    @classmethod
    def of(cls, first: bytes) -> Usual | None:
        """How the chunks of an answer will look, by the first of them; None if that is not written like any known.

        :param first: canonical, on one line, without padding; it passes as it came.
        """
        head, found, rest = first.partition(_CHOICES)
        behind = _BEGINNINGS.get(rest)
        return None if behind is None else cls(head + found, behind)

    def shape(self, watch: Callable[[str], bool] | None = None, unlike: bytes = b"") -> Shape:
        """What those with text look like. It is made for many: one is read by :meth:`event` at half the price.

        :param watch: as of :class:`~sseproxy.core.shapes.Shape`, as is `unlike`.
        """
        around = self._head + _TEXT, self._behind[0]
        shape = Shape(around, around, hidden=False, watch=watch)
        shape.unlike = unlike
        return shape

    def chunk(self, text: str) -> bytes:
        """Return the one with this text."""
        return self._head + _TEXT + write_json(text) + self._behind[0]

    def event(self, data: bytes) -> Event | None:
        """Return what becomes of a chunk with text; None if it is none of these."""
        tail, quoted, ending = self._behind
        rest = data[self._rest]
        if rest[_OPENING] != _TEXT or rest[ending] != tail or data[self._begin] != self._head:
            return None
        try:
            text = read_text(rest[quoted])
        except UNREADABLE:
            return None
        return Event(guard(data), "", None, None, True, text) if text else None

    def finish_of(self, data: bytes) -> str | None:
        """Return why the answer ends with this chunk, which then is canonical; None if it may not be."""
        return _ENDS.get(data[self._rest]) if data[self._begin] == self._head else None
