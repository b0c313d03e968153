"""Endings that could not be written to the journal: kept in memory until the journal or the ledger takes them."""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import suppress

from sseproxy.ledger.journal_entries import Replay
from sseproxy.ledger.journal_file import JournalFile

log = logging.getLogger("sseproxy.accounting")


class Unwritten:
    """The unwritten endings of one process. Changed in atomic steps, without a lock.

    Bounded by the requests in flight: without a journal, none are admitted.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._lines: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, charge_id: str, line: bytes, error: OSError) -> None:
        """Keep one that could not be written, and log why."""
        self._lines.setdefault(charge_id, line)
        log.error("the journal %s cannot be written; a settlement waits in memory: %s", self._file.path, error)

    def book(self, replay: Replay, only_here: Container[str]) -> None:
        """End the charges that are in the ledger.

        :param only_here: charges that are reserved in the journal alone, which has to be replayed first.
        """
        for charge_id, line in list(self._lines.items()):
            if charge_id not in only_here:
                with suppress(OSError):  # it cannot even be set aside, now
                    replay.take(line)
                    self._lines.pop(charge_id, None)

    def write(self) -> None:
        """Write to the journal as many as it takes."""
        for charge_id, line in list(self._lines.items()):
            with suppress(OSError):
                self._file.append(line)
                self._lines.pop(charge_id, None)
