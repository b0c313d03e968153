"""Who holds how many running streams. In this process here; for several processes see redis_slots."""

from __future__ import annotations

import threading
import uuid
from typing import Protocol


class StoreUnavailable(Exception):
    """The store of limits cannot be reached, or takes nothing."""


class Slots(Protocol):
    """Counts what users hold at a time. Safe from many threads.

    Every method but ``release`` raises :class:`StoreUnavailable` if the store is away.
    """

    def acquire(self, user: str, limit: int) -> str | None:
        """Take a place; what to give it back with, or None if the user holds ``limit`` already."""

    def release(self, user: str, place: str) -> None:
        """Give a place back. Once is enough, and twice is no harm."""

    def held(self, user: str) -> int:
        """How many places the user holds."""

    def ping(self) -> None:
        """Return if the store counts."""

    def close(self) -> None:
        """Let go of what this process holds."""


class MemorySlots:
    """Counts the streams of this process."""

    def __init__(self) -> None:
        self._places: dict[str, set[str]] = {}
        self._lock = threading.Lock()

    def acquire(self, user: str, limit: int) -> str | None:
        place = uuid.uuid4().hex
        with self._lock:
            places = self._places.setdefault(user, set())
            if len(places) >= limit:
                return None
            places.add(place)
        return place

    def release(self, user: str, place: str) -> None:
        with self._lock:
            places = self._places.get(user, set())
            places.discard(place)
            if not places:
                self._places.pop(user, None)

    def held(self, user: str) -> int:
        return len(self._places.get(user, ()))

    def ping(self) -> None:
        """It is always here."""

    def close(self) -> None:
        """Nothing outlives the process."""
