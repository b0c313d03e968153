"""An object for each process: a server may fork after it made the application, and during its first requests."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerProcess(Generic[T]):
    """Created when a process first needs it. The parent process's object is dropped.

    :param make: creates one, without side effects.
    :param start: starts the one that is kept.
    """

    def __init__(self, make: Callable[[], T], start: Callable[[T], object]) -> None:
        self._make = make
        self._start = start
        self._by_process: dict[int, T] = {}

    def get(self) -> T:
        """This process's object.

        :raises RuntimeError: it could not be started, for example because no thread is left; the next call tries again.
        """
        return self._by_process.get(os.getpid()) or self._begin()

    def known(self) -> T | None:
        """This process's object, if it exists."""
        return self._by_process.get(os.getpid())

    def _begin(self) -> T:
        process, new = os.getpid(), self._make()
        # Atomic: concurrent threads choose the same one, without a lock that a fork could copy while it is held.
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
