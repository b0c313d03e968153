"""What each process has of its own: a server may fork after it made the application, and amid its first requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Made when a process first needs it. What its parent had is let go.

    :param make: makes one, with no effect yet.
    :param start: makes it work; called for the one that is chosen.
    """

    def __init__(self, make: Callable[[], T], start: Callable[[T], object]) -> None:
        self._make = make
        self._start = start
        self._by_process: dict[int, T] = {}

    def get(self) -> T:
        """This process's own.

        :raises RuntimeError: it could not be started, as where no thread is left; the next call tries again.
        """
        return self._by_process.get(os.getpid()) or self._begin()

    def known(self) -> T | None:
        """This process's own, if there was a need of it."""
        return self._by_process.get(os.getpid())

    def _begin(self) -> T:
        process, new = os.getpid(), self._make()
        # In one step: threads that come here at once choose the same. It needs no lock that a fork could copy held.
        chosen = self._by_process.setdefault(process, new)
        if chosen is new:
            for other in [known for known in self._by_process if known != process]:
                del self._by_process[other]
            try:
                self._start(new)
            except RuntimeError:
                del self._by_process[process]
                raise
        return chosen
