"""Which request of waitress gets a thread: past capacity some wait and the others are refused; probes never wait."""

from __future__ import annotations

from itertools import count
from typing import Any, Final

from waitress.utilities import Error

from sseproxy.server.workers import Workers

PROBES: Final = frozenset({"/-/health", "/-/ready", "/-/metrics"})
PROBE_THREADS: Final = 2


class Busy(Error):  # type: ignore[misc]
    """All threads are taken, and as many requests wait for one."""

    code = 503
    reason = "Service Unavailable"


class Dispatcher:
    """In place of waitress's own, whose queue has no end.

    A probe that waited for a thread would fail when there is most to do, and get the process restarted.

    :param threads: answers that run at a time; as many more wait.
    :ivar taken: how many requests there were.
    """

    def __init__(self, threads: int) -> None:
        self._workers = Workers(threads, most_waiting=threads)
        self._probes = Workers(PROBE_THREADS)
        self._numbers = count(1)  # one step, whichever threads take it
        self.taken = 0

    @property
    def waiting(self) -> int:
        """How many requests wait for a thread."""
        return self._workers.waiting

    @property
    def idle(self) -> int:
        """How many threads wait for a request."""
        return self._workers.idle

    def add_task(self, channel: Any) -> None:
        """Have the first request of a channel served."""
        self.taken = next(self._numbers)
        request = channel.requests[0]
        if request.error is None and request.path not in PROBES:
            if self._workers.take(channel):
                return
            request.error = Busy("all threads are taken. Try again.")
        self._probes.take(channel)

    def shutdown(self, timeout: float) -> None:
        """Stop the threads, when what they run has ended or after ``timeout`` seconds. What waits is not run."""
        self._probes.stop(timeout)
        self._workers.stop(timeout)
