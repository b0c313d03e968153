"""The lane: around a stream's iterator, for reads that hold plain chunks only.

A stream is a row of generators. A read passes each of them twice, with what it brought and with the mark of its end,
which is most of what a plain chunk costs. Transforms that hand on plain events unchanged say what else they do with
them when they are piped; if all do, plain reads are not iterated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from sseproxy.core.sse import Event

Seen = Callable[[Sequence[Event]], object]
"""What a transform does with the events of one read that it hands on unchanged: text, and nothing but text."""


class Reader(Protocol):
    """Reads plain events, as the transforms do that were piped before."""

    def is_ready(self) -> bool:
        """Whether what comes next may be plain, which only the iterator's next step can change."""

    def read(self, data: bytes) -> list[Event] | None:
        """The events of a read, or None if it is to be iterated."""


def unseen(events: Sequence[Event]) -> None:
    """Of a transform that does nothing with plain events."""


class Lane:
    """One stream's, which it does not know."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._seen: list[Seen] = []

    def add(self, seen: Seen) -> None:
        """Another transform."""
        if seen is not unseen:
            self._seen.append(seen)

    def is_ready(self) -> bool:
        """Whether what comes next may be plain."""
        return self._reader.is_ready()

    def take(self, data: bytes, encode: Callable[[Event], bytes]) -> bytes | None:
        """The write that a read becomes; None, and nothing done, if it is to be iterated.

        To be called only while :meth:`is_ready`, between two steps of the iterator.

        :param encode: the stream's encoder.
        """
        events = self._reader.read(data)
        if events is None:
            return None
        for seen in self._seen:
            seen(events)
        return encode(events[0]) if len(events) == 1 else b"".join(map(encode, events))
