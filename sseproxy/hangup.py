"""SIGHUP during the start of a server would end the process: it is noted, and delivered once the server handles it."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

_early: Final[list[int]] = []


def note() -> Any:
    """Note the signal until another handler is set; returns the previous one. For the main thread."""
    return signal.signal(signal.SIGHUP, lambda number, frame: _early.append(number))


@contextmanager
def noted() -> Iterator[None]:
    """Only note SIGHUP until another handler is set. For the main thread; not every system has the signal."""
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
    """Deliver a noted signal to the current handler."""
    if _early:
        _early.clear()
        signal.raise_signal(signal.SIGHUP)
