"""Waiting for what comes about by itself, instead of sleeping for a time that is long enough."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic, sleep

PATIENCE: float = 60
"""Seconds that anything may take, on a machine that is busy with something else too: only who fails waits so long."""


def wait_until(
    condition: Callable[[], object], timeout: float = PATIENCE, state: Callable[[], object] | None = None
) -> None:
    """Look again and again until it is so.

    :param state: tells how things are, if it never is.
    :raises AssertionError: it is not so after ``timeout`` seconds.
    """
    left, before = timeout, monotonic()
    while not condition():
        assert left > 0, f"still not so after {timeout} s" + (f": {state()}" if state else "")
        sleep(0.01)
        now = monotonic()
        # A machine that was paused meanwhile gave nobody more time.
        left -= min(now - before, 1)
        before = now
