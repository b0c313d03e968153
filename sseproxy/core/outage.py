"""What is known of a store that does not answer: one at a time looks whether it is back, all others ask nothing.

Each who asks would wait as long as its patience lasts, again and again, and with each a thread.
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Outage:
    """Begins with a failure, and ends with an answer.

    Changed by single steps, which need no lock that a fork could copy held: two who look at once are no harm.

    :param pause: seconds after a failure in which nobody looks.
    :param patience: seconds that a look may take; after that somebody else looks.
    :param clock: monotonic seconds.
    """

    def __init__(self, *, pause: float, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._pause = pause
        self._patience = patience
        self._clock = clock
        self._lasts = False
        self._look_at = 0.0

    def bars(self) -> bool:
        """Whether the caller is not to ask. If it lasts and they may, they are the one who looks."""
        if not self._lasts:
            return False
        if self._clock() < self._look_at:
            return True
        self.look()
        return False

    def look(self) -> None:
        """The caller looks now, whoever else was to do so."""
        self._look_at = self._clock() + self._patience

    def begin(self) -> None:
        """The store did not answer."""
        self._look_at = self._clock() + self._pause
        self._lasts = True

    def end(self) -> None:
        """The store answered."""
        self._lasts = False
