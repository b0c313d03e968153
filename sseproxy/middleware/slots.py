"""What running requests hold: places of streams, and tokens. In this process here; for several see redis_slots."""

from __future__ import annotations

import threading
import time
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

    def hold(self, whose: str, tokens: int, seconds: float) -> str:
        """Note tokens that a running request holds, for so long at most; what to let go of them with."""

    def let_go(self, whose: str, hold: str) -> bool:
        """Forget what a request held. False if it is not known (any more): then it is not counted either."""

    def tokens(self, whose: str) -> tuple[int, int]:
        """How many tokens running requests hold, and how many those did that died; the latter are told once."""

    def ping(self) -> None:
        """Return if the store counts."""

    def close(self) -> None:
        """Let go of what this process holds."""


class MemorySlots:
    """Counts the streams of this process."""

    def __init__(self) -> None:
        self._places: dict[str, set[str]] = {}
        self._holds: dict[str, dict[str, tuple[int, float]]] = {}
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

    def hold(self, whose: str, tokens: int, seconds: float) -> str:
        hold = uuid.uuid4().hex
        with self._lock:
            self._holds.setdefault(whose, {})[hold] = tokens, time.monotonic() + seconds
        return hold

    def let_go(self, whose: str, hold: str) -> bool:
        with self._lock:
            holds = self._holds.get(whose, {})
            known = holds.pop(hold, None) is not None
            if not holds:
                self._holds.pop(whose, None)
        return known

    def tokens(self, whose: str) -> tuple[int, int]:
        now = time.monotonic()
        with self._lock:
            return sum(tokens for tokens, until in self._holds.get(whose, {}).values() if until > now), 0

    def ping(self) -> None:
        """It is always here."""

    def close(self) -> None:
        """Nothing outlives the process."""
