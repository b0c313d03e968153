"""Leaves an upstream alone after repeated failures, and finds out with one request at a time when it is back.

closed ─ FAILURES requests in a row fail ─► open ─ its time is over ─► half open: one request tries ─► closed, or open
for twice as long. Pure: the clock comes from outside; nothing is sent from here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

FAILURES: Final = 5
"""Requests in a row, each with all its retries, that fail before an upstream is left alone."""
LONGEST: Final = 120.0
"""Seconds for which an upstream is left alone at most."""


class Cooldown:
    """What is known of one upstream's health. Safe from many threads.

    :param seconds: for which it is left alone at first.
    :param clock: monotonic seconds.
    :param tell: called with True each time that it is left alone, with False when it is back.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float], tell: Callable[[bool], object] = lambda cooling: None
    ) -> None:
        self._first = seconds
        self._clock = clock
        self._tell = tell
        self._lock = threading.Lock()
        self._failures = 0
        self._seconds = 0.0
        self._until: float | None = None
        self._prober: int | None = None
        self._down = False

    def enter(self) -> bool:
        """Whether a request may go there. Whoever is let in says, in its thread, how it went: one of the next three."""
        if self._until is None:
            return True
        with self._lock:
            if self._until is not None:
                if not self.admits:
                    return False
                self._prober = threading.get_ident()
            return True

    def succeeded(self) -> None:
        """It answered, be it with a refusal."""
        if not self._failures and self._until is None:  # nothing is held against it, as ever
            return
        with self._lock:
            was_cooling = self._until is not None
            self._failures, self._seconds, self._until, self._prober = 0, 0.0, None, None
        if was_cooling:
            self._tell(False)

    def failed(self, *, down: bool) -> None:
        """It did not answer, or with a 5xx.

        :param down: no request at all would have fared better.
        """
        with self._lock:
            self._failures += 1
            self._down = down
            cools = self._end_probe() or (self._until is None and self._failures >= FAILURES)
            if cools:
                self._seconds = min(self._seconds * 2 or self._first, max(LONGEST, self._first))
                self._until = self._clock() + self._seconds
        if cools:
            self._tell(True)

    def left(self) -> None:
        """The request ended without telling anything: its client left."""
        with self._lock:
            self._end_probe()

    def _end_probe(self) -> bool:
        """Whether this was the request that tries. Others may still be under way, let in before it began to cool."""
        mine = self._prober == threading.get_ident()
        if mine:
            self._prober = None
        return mine

    @property
    def admits(self) -> bool:
        """Whether a request might :meth:`enter` now."""
        return self._until is None or (self._prober is None and self._clock() >= self._until)

    @property
    def is_probing(self) -> bool:
        """Whether the request that is let in now is the one that finds out."""
        return self._until is not None

    @property
    def is_certain(self) -> bool:
        """Whether the last failure was one that every request would have met."""
        return self._down

    @property
    def wait(self) -> float:
        """Seconds until the next request may try; 0: now, or as soon as the one that tries is done."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._until is not None else 0.0
