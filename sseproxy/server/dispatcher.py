"""Which request of waitress gets a thread: past capacity some wait and the others are refused; probes never wait."""

from __future__ import annotations

import logging
from typing import Any, Final

from waitress.task import ThreadedTaskDispatcher
from waitress.utilities import Error

PROBES: Final = frozenset({"/-/health", "/-/ready", "/-/metrics"})
PROBE_THREADS: Final = 2


class Busy(Error):  # type: ignore[misc]
    """All threads are taken, and as many requests wait for one."""

    code = 503
    reason = "Service Unavailable"


class Dispatcher(ThreadedTaskDispatcher):  # type: ignore[misc]
    """waitress's own, with an end to its queue.

    A probe that waited for a thread would fail when there is most to do, and get the process restarted.

    :param threads: answers that run at a time; as many more wait.
    """

    def __init__(self, threads: int) -> None:
        super().__init__()
        self._threads = threads
        self._express = ThreadedTaskDispatcher()
        self.set_thread_count(threads)
        self._express.set_thread_count(PROBE_THREADS)
        # What it has to do is over in no time; a line in the log for each refusal would be the flood's second one.
        self._express.queue_logger = logging.getLogger("sseproxy.server.express")
        self._express.queue_logger.setLevel(logging.ERROR)

    def add_task(self, task: Any) -> None:
        """Queue the first request of a channel."""
        request = task.requests[0]
        if request.error is None and request.path not in PROBES:
            idle = len(self.threads) - self.stop_count - self.active_count
            if len(self.queue) - idle < self._threads:
                super().add_task(task)
                return
            request.error = Busy("all threads are taken. Try again.")
        self._express.add_task(task)

    def shutdown(self, cancel_pending: bool = True, timeout: float = 5) -> bool:
        """Stop the threads, when what they run has ended or after ``timeout`` seconds."""
        self._express.shutdown(cancel_pending, timeout)
        return bool(super().shutdown(cancel_pending, timeout))
