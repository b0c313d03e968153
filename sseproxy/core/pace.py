"""How evenly the events of an answer came. Pure: the clock comes from outside; no lock, one addition for each read."""

from __future__ import annotations

from bisect import bisect_left
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

    def step(self, *times: float) -> None:
        """Reads came that brought events.

        :param times: monotonic seconds of each.
        """
        last, counts = self._last, self.counts
        for now in times:
            if last is not None:
                gap = now - last
                counts[bisect_left(BOUNDS, gap)] += 1
                self.total += gap
            last = now
        self._last = last
