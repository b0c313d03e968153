"""Reads that hold nothing but plain chunks of known shapes: they need neither decoder nor transforms to be asked.

What `shortcut` does event by event inside the stream, for who has the bytes in hand before the stream has.
"""

from __future__ import annotations

from typing import Final, Protocol

from sseproxy.core.shapes import Shapes
from sseproxy.core.sse import Event, encode

__all__ = ["Plain"]

_FIELD: Final = b"data: "
_END: Final = b"\n\n"


class _Body(Protocol):
    """What tells where the bytes of a stream are."""

    def is_between_events(self) -> bool:
        """Whether all that has come was whole events of an event stream, uncompressed."""


class Plain:
    """Belongs to one stream, whose decoder and transforms introduce themselves; without them nothing is plain."""

    def __init__(self) -> None:
        self.body: _Body | None = None
        self.shapes: Shapes | None = None
        self._content: list[str] = []
        self._hidden: list[str] = []

    def is_ready(self) -> bool:
        """Whether what comes next may be plain. It stays so as long as nothing else comes."""
        return (
            self.shapes is not None
            and not self.shapes.paused
            and self.body is not None
            and self.body.is_between_events()
        )

    def passes(self, data: bytes) -> bool:
        """Whether this may leave byte for byte: HTTP chunks that are one plain event each. Then it has been read.

        To be called, as :meth:`read`, only while :meth:`is_ready`.
        """
        assert self.shapes is not None
        shape = self.shapes.last
        texts = None if shape is None or shape.changes else shape.texts(data)
        if shape is None or texts is None:
            return False
        if shape.hidden:
            self._hidden += texts
        else:
            self._content += texts
            self.shapes.sent += sum(map(len, texts))
        return True

    def read(self, data: bytes) -> bytes | None:
        """Return what the events in `data` are to a client; None, and nothing was done, if the stream must be asked."""
        assert self.shapes is not None
        if data[:6] != _FIELD or data[-2:] != _END or 13 in data:
            return None
        sent = self.shapes.sent
        events: list[Event] = []
        for block in data[:-2].split(_END):
            if block[:6] != _FIELD or 10 in block or (event := self.shapes.match(block[6:])) is None:
                self.shapes.sent = sent
                return None
            events.append(event)
        self._content += [event.content for event in events]
        self._hidden += [event.hidden for event in events]
        return b"".join(map(encode, events))

    def said(self) -> tuple[str, str]:
        """Return the visible text, and the other billed output, that was read since this was asked last."""
        content, hidden = "".join(self._content), "".join(self._hidden)
        self._content.clear()
        self._hidden.clear()
        return content, hidden
