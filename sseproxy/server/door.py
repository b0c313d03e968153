"""Which of several processes takes a new client, where all listen by one address: one that has a thread for it."""

from __future__ import annotations

from time import monotonic
from typing import Final

from sseproxy.server.loop import Loop

PATIENCE: Final = 0.05
"""Seconds that a process without a free thread leaves new clients to the others."""
AT_ONCE: Final = 64
"""Clients that it then takes, to have them wait here, or to refuse them in words."""


class Door:
    """That of one process.

    :ivar patience: seconds until :meth:`mind` is to be called again, at the latest.
    """

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._is_open = True
        self._look_at = 0.0

    @property
    def patience(self) -> float:
        return 1.0 if self._is_open else PATIENCE

    def mind(self) -> None:
        """Open it or close it, by the threads that are free now; from time to time see who waits all the same."""
        has_room = self._loop.dispatcher.idle > 0
        now = monotonic()
        if has_room != self._is_open:
            self._is_open = has_room
            self._loop.accept(has_room)
            self._look_at = now + PATIENCE
        elif not has_room and now >= self._look_at:
            self._look_at = now + PATIENCE
            self._loop.accept_now(AT_ONCE)
