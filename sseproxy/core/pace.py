"""How evenly the events of an answer came. Pure: the clock comes from outside; no lock, and hardly a step a read."""

from __future__ import annotations

from bisect import bisect_right
from operator import sub
from typing import Final

BOUNDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds; upper bounds of the classes that gaps are counted in. One more class holds what is longer."""
MANY: Final = 64
"""Moments that are kept before the gaps between them are counted: most answers are over by then."""


class Pace:
    """The gaps between the reads of one answer that brought events; for one thread, and after it for who asks."""

    __slots__ = ("_counts", "_times", "_total")

    def __init__(self) -> None:
        self._times: list[float] = []
        self._counts = [0] * (len(BOUNDS) + 1)
        self._total = 0.0

    def step(self, *times: float) -> None:
        """Reads came that brought events.

        :param times: monotonic seconds of each.
        """
        self._times += times
        if len(self._times) >= MANY:
            self._count()

    @property
    def counts(self) -> list[int]:
        """Gaps by class, see :data:`BOUNDS`."""
        self._count()
        return self._counts

    @property
    def total(self) -> float:
        """Seconds, all gaps together."""
        self._count()
        return self._total

    def _count(self) -> None:
        times = self._times
        gaps = sorted(map(sub, times[1:], times))
        counted = 0
        for number, bound in enumerate(BOUNDS):
            if counted == len(gaps):
                break
            within = bisect_right(gaps, bound)
            self._counts[number] += within - counted
            counted = within
        self._counts[-1] += len(gaps) - counted
        self._total += sum(gaps)
        del times[:-1]
