"""Checkpoints running charges in the ledger: a killed process loses seconds of an answer, not all of it.

One daemon thread a process, started before the first charge; it also recovers the charges that dead processes left
pending, which may hold the very money that a new one needs.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from sseproxy.ledger.protocol import Checkpoint, Ledger, LedgerUnavailable
from sseproxy.middleware.bill import Bill
from sseproxy.wsgi.per_process import PerProcess

log = logging.getLogger("sseproxy.accounting")

INTERVAL: Final = 1.0
"""Seconds between two checkpoints. kill -9 leaves unbilled what came since, and what the relay and the express moved
but did not report yet, at most a second's worth.
"""
ROUNDS_PER_RECOVERY: Final = 5
END_SECONDS: Final = 5.0
"""Seconds to wait for a running checkpoint at the end."""


class Bookkeeper:
    """Checkpoints running bills in one transaction every :data:`INTERVAL` seconds, and keeps the process's lease.

    Fork-safe: a child starts with no running bills and a thread of its own.
    """

    def __init__(self, ledger: Ledger, interval: float = INTERVAL) -> None:
        self._ledger = ledger
        self._interval = interval
        self._watch = PerProcess(lambda: _Watch(self._run), lambda watch: watch.thread.start())

    def start(self) -> None:
        """Start the thread, once a process; to be called before anything is reserved.

        :raises LedgerUnavailable: the process can start no more threads.
        """
        try:
            self._watch.get()
        except RuntimeError as error:
            raise LedgerUnavailable("There is no thread left to keep the books with; try again later.") from error

    def add(self, bill: Bill) -> None:
        """Watch a bill until it has ended or is forgotten."""
        self._watch.get().running[bill.id] = bill

    def forget(self, bill_id: str) -> None:
        """Drop a bill that has ended, and with it its request's memory, before the next checkpoint."""
        if (watch := self._watch.known()) is not None:
            watch.running.pop(bill_id, None)

    def running(self, *, streamed: bool) -> int:
        """How many answers are running: the streamed ones, or the others."""
        watch = self._watch.known()
        return sum(bill.runs(streamed) for bill in list(watch.running.values())) if watch is not None else 0

    def note(self) -> None:
        """Checkpoint every running bill, and forget those that ended."""
        notes: dict[str, Checkpoint] = {}
        running = self._watch.get().running
        for bill in list(running.values()):
            try:
                note = bill.so_far()
            except Exception as error:
                # It must not stop all checkpoints, and with them the lease that all charges of the process depend on.
                log.error("charge %s cannot be noted now: %r", bill.id, error)
                continue
            if note is None:
                running.pop(bill.id, None)
            else:
                notes[bill.id] = note
        self._ledger.checkpoint(notes)

    def close(self) -> None:
        """Stop the thread, and wait a little for a running checkpoint: the ledger is closed next."""
        if (watch := self._watch.known()) is not None:
            watch.stopping.set()
            if watch.thread.is_alive():
                watch.thread.join(END_SECONDS)

    def _run(self, stopping: threading.Event) -> None:
        rounds = 0
        while not stopping.wait(self._interval):
            rounds += 1
            try:
                self.note()
                if rounds % ROUNDS_PER_RECOVERY == 0 and (expired := self._ledger.recover()):
                    log.warning("%d charges of processes that died, or gave no sign, were booked as expired", expired)
            except LedgerUnavailable as error:
                log.warning("running charges could not be noted: %s", error.reason)
            except Exception:
                log.exception("the bookkeeper failed; it goes on")


class _Watch:
    """The running bills and the thread of one process."""

    def __init__(self, run: Callable[[threading.Event], object]) -> None:
        self.running: dict[str, Bill] = {}
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=run, args=(self.stopping,), name="sseproxy-bookkeeper", daemon=True)
