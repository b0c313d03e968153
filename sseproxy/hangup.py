"""SIGHUP while a server is still on its way: it is noted, where it would end the process, and handed to the server."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_early: Final[list[int]] = []


def note() -> Any:
    """Begin to note it, until somebody handles it; who did before. For the main thread."""
    return signal.signal(signal.SIGHUP, lambda number, frame: _early.append(number))


@contextmanager
def noted() -> Iterator[None]:
    """As long as nobody else handles SIGHUP, only note it. For the main thread; not every system has the signal."""
    if not hasattr(signal, "SIGHUP"):
        yield
        return
    before = note()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        _early.clear()


def hand_over() -> None:
    """Send what was noted to the handler that there is now."""
    if _early:
        _early.clear()
        signal.raise_signal(signal.SIGHUP)
