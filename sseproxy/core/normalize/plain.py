"""Reads that hold nothing but plain chunks of known shapes: they need neither decoder nor transforms to be asked.

What `shortcut` does event by event inside the stream, for who has the bytes in hand before the stream has.
"""

from __future__ import annotations

from typing import Final, Protocol

from sseproxy.core.chunk import Shapes
from sseproxy.core.sse import Event

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

    def is_ready(self) -> bool:
        """Whether what comes next may be plain. It stays so as long as nothing else comes."""
        return (
            self.shapes is not None
            and not self.shapes.paused
            and self.body is not None
            and self.body.is_between_events()
        )

    def read(self, data: bytes) -> list[Event] | None:
        """Return the events of `data` as the stream would hand them out; None if it must be asked.

        To be called only while :meth:`is_ready`.
        """
        assert self.shapes is not None
        if data[:6] != _FIELD or data[-2:] != _END or 13 in data:
            return None
        if data.find(b"\n") == len(data) - 2:
            event = self.shapes.match(data[6:-2])
            return None if event is None else [event]
        events: list[Event] = []
        sent = self.shapes.sent
        for block in data[:-2].split(_END):
            if block[:6] != _FIELD or 10 in block or (event := self.shapes.match(block[6:])) is None:
                self.shapes.sent = sent
                return None
            events.append(event)
        return events
