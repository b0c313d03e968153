"""What running requests hold: stream slots ("places") and tokens. Here for one process; redis_slots is for several."""

from __future__ import annotations

import threading
import time
import uuid
from typing import Protocol


class StoreUnavailable(Exception):
    """The store of limits cannot be reached or written."""


class Slots(Protocol):
    """Counts what users hold at a time. Safe from many threads.

    Every method but ``release`` raises :class:`StoreUnavailable` if the store is away.
    """

    def acquire(self, user: str, limit: int) -> str | None:
        """Take a place; the ID to release it with, or None if the user already holds ``limit``."""

    def release(self, user: str, place: str) -> None:
        """Give a place back. Idempotent."""

    def held(self, user: str) -> int:
        """How many places the user holds."""

    def hold(self, whose: str, tokens: int, seconds: float) -> str:
        """Note tokens that a running request holds, for at most so many seconds; the ID to let go of them with."""

    def let_go(self, whose: str, hold: str) -> bool:
        """Forget what a request held. False if it is not known, or no longer: then it is not counted either."""

    def tokens(self, whose: str) -> tuple[int, int]:
        """How many tokens running requests hold, and how many those of dead processes held; the latter are reported
        once."""

    def ping(self) -> None:
        """Return if the store can be written."""

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
        """Memory is always available."""

    def close(self) -> None:
        """Nothing outlives the process."""
