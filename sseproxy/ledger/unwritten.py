"""Ends of charges that the journal did not take: they wait in memory until it, or the ledger, does."""

from __future__ import annotations

import logging
from collections.abc import Container
from contextlib import suppress

from sseproxy.ledger.journal_entries import Replay
from sseproxy.ledger.journal_file import JournalFile

log = logging.getLogger("sseproxy.accounting")


class Unwritten:
    """Those of one process. Changed by single steps, which need no lock.

    Bounded by the requests under way: without a journal, none are let in.
    """

    def __init__(self, file: JournalFile) -> None:
        self._file = file
        self._lines: dict[str, bytes] = {}

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, charge_id: str, line: bytes, error: OSError) -> None:
        """One that could not be written, and why."""
        self._lines.setdefault(charge_id, line)
        log.error("the journal %s cannot be written; a settlement waits in memory: %s", self._file.path, error)

    def book(self, replay: Replay, only_here: Container[str]) -> None:
        """End what is in the ledger.

        :param only_here: what is reserved in the file alone, which has to come in first.
        """
        for charge_id, line in list(self._lines.items()):
            if charge_id not in only_here:
                with suppress(OSError):  # it cannot even be set aside, now
                    replay.take(line)
                    self._lines.pop(charge_id, None)

    def write(self) -> None:
        """Write to the journal what it takes by now."""
        for charge_id, line in list(self._lines.items()):
            with suppress(OSError):
                self._file.append(line)
                self._lines.pop(charge_id, None)
