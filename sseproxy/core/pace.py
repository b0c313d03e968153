"""How evenly the events of an answer came. Pure: the clock comes from outside; no lock."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from operator import sub
from typing import Final

BOUNDS: Final = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds; upper bounds of the classes that gaps are counted in. One more class holds what is longer."""


class Pace:
    """The gaps between the reads of one answer that brought events; for one thread.

    :ivar counts: gaps by class, see :data:`BOUNDS`.
    :ivar total: seconds, all gaps together.
    """

    __slots__ = ("_last", "counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0
        self._last: float | None = None

    def step(self, now: float) -> None:
        """A read came that brought events.

        :param now: monotonic seconds.
        """
        if self._last is not None:
            gap = now - self._last
            self.counts[bisect_left(BOUNDS, gap)] += 1
            self.total += gap
        self._last = now

    def steps(self, times: Sequence[float]) -> None:
        """As :meth:`step`, of several; at least one."""
        first = times[0]
        self.step(first)
        self._last = last = times[-1]
        self.total += last - first
        gaps = sorted(map(sub, times[1:], times))
        counted = 0
        for number, bound in enumerate(BOUNDS):
            if counted == len(gaps):
                return
            within = bisect_right(gaps, bound)
            self.counts[number] += within - counted
            counted = within
        self.counts[-1] += len(gaps) - counted
