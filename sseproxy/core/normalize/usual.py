"""How most upstreams write the chunks of a canonical stream: of these nothing need be read but the text.

That is no guess. The first chunk has been read in full, and what stands in it behind ``"choices":[`` closes every
bracket: so what stands before is the beginning of the chunk itself, with its identity. Any other chunk that has the
same bytes there, and goes on in one of the ways below, is of the same answer and says what that way says.
"""

from __future__ import annotations

from typing import Final

from sseproxy.core.normalize.finish import REASONS
from sseproxy.core.shapes import Shape

__all__ = ["Usual"]

_CHOICES: Final = b'"choices":['
_TEXT: Final = b'{"index":0,"delta":{"content":'
_FIRST: Final = (b'{"index":0,"delta":{"role":"assistant","content":""', b'{"index":0,"delta":{"role":"assistant"')
# Behind the delta of a chunk that ends nothing, as each upstream has it in all of them.
_TAILS: Final = (b'},"logprobs":null,"finish_reason":null}]}', b'},"finish_reason":null}]}')
_BEGINNINGS: Final = {first + tail: tail for first in _FIRST for tail in _TAILS}
_ENDS: Final = {
    b'{"index":0,"delta":{' + tail.replace(b'"finish_reason":null', b'"finish_reason":"%b"' % reason.encode()): reason
    for reason in REASONS
    for tail in _TAILS
}


class Usual:
    """One answer's chunks.

    :ivar shape: of those with text.
    """

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.shape = Shape(head + _TEXT, tail, head + _TEXT, tail, hidden=False)
        self._head = head
        self._begin = slice(len(head))
        self._rest = slice(len(head), None)

    @classmethod
    def of(cls, first: bytes) -> Usual | None:
        """How the chunks of an answer will look, by the first of them; None if that is not written like any known.

        :param first: canonical, on one line, without padding; it has passed as it came.
        """
        head, found, rest = first.partition(_CHOICES)
        tail = _BEGINNINGS.get(rest)
        return None if tail is None else cls(head + found, tail)

    def finish_of(self, data: bytes) -> str | None:
        """Return why the answer ends with this chunk, which then is canonical; None if it may not be."""
        return _ENDS.get(data[self._rest]) if data[self._begin] == self._head else None
