"""A thread pool."""

from __future__ import annotations

import logging
import threading
from collections import deque
from time import monotonic
from typing import Protocol

log = logging.getLogger("sseproxy.server")


class Job(Protocol):
    """A unit of work."""

    def service(self) -> None:
        """Do it."""

    def cancel(self) -> None:
        """Called if it will not be done."""


class Workers:
    """A fixed number of threads.

    The one that became idle last works next: its data is still in the processor's caches, and threads that are not
    needed stay small.

    :param most_waiting: jobs that may wait for a thread; None: any number.
    """

    def __init__(self, number: int, most_waiting: int | None = None) -> None:
        self._most_waiting = most_waiting
        self._waiting: deque[Job] = deque()
        self._idle: list[_Desk] = []
        self._stopped = False
        # Held for every look at the above.
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, name=f"sseproxy-{n}", daemon=True) for n in range(number)]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a thread."""
        return len(self._waiting)

    @property
    def idle(self) -> int:
        """How many threads wait for a job."""
        return len(self._idle)

    def take(self, job: Job) -> bool:
        """Run a job in a thread; False if too many wait already."""
        with self._lock:
            if not self._idle:
                if self._most_waiting is not None and len(self._waiting) >= self._most_waiting:
                    return False
                self._waiting.append(job)
                return True
            desk = self._idle.pop()
        desk.put(job)
        return True

    def stop(self, timeout: float) -> None:
        """Start no more jobs, and wait for the running ones, for at most ``timeout`` seconds."""
        with self._lock:
            self._stopped = True
            idle, self._idle = self._idle, []
        for desk in idle:
            desk.put(None)
        until = monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - monotonic()))
        running = sum(thread.is_alive() for thread in self._threads)
        if running:
            log.warning("%d threads are still at work", running)
        while self._waiting:
            self._waiting.popleft().cancel()

    def _run(self) -> None:
        desk = _Desk()
        while self._do_next(desk):
            pass

    def _do_next(self, desk: _Desk) -> bool:
        """Wait for a job and do it; False if there will be none. No reference to it is kept afterwards."""
        with self._lock:
            if self._stopped:
                return False
            job = self._waiting.popleft() if self._waiting else None
            if job is None:
                self._idle.append(desk)
        if job is None and (job := desk.wait()) is None:
            return False
        try:
            job.service()
        except BaseException:
            log.exception("a request could not be served")
        return True


class _Desk:
    """Where a thread waits for its next job."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._bell = threading.Lock()
        self._bell.acquire()

    def put(self, job: Job | None) -> None:
        """Hand the thread a job; None: it ends."""
        self._job = job
        self._bell.release()

    def wait(self) -> Job | None:
        self._bell.acquire()
        job, self._job = self._job, None
        return job
