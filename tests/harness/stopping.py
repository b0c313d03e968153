"""Processes that stand still: what they listen to goes on taking connections, and nobody answers."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def stopped(*pids: int) -> Iterator[None]:
    """Meanwhile these processes do nothing, unless they are told to go on."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):  # it has ended meanwhile
                os.kill(pid, signal.SIGCONT)
