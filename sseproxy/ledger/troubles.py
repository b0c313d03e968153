"""Logs once, not at each failed call, that the ledger or its journal is unavailable or back."""

from __future__ import annotations

import logging
from pathlib import Path

from sseproxy.ledger.protocol import LedgerUnavailable

log = logging.getLogger("sseproxy.accounting")


class Troubles:
    """The state of one process. Changed in atomic steps, without a lock.

    :ivar is_away: the ledger does not answer.
    :param journal: where endings are written meanwhile.
    :param serve: requests are admitted meanwhile.
    """

    def __init__(self, journal: Path, serve: bool) -> None:
        self.is_away = False
        self._journal = journal
        self._serve = serve
        self._journal_error: int | None = None

    def begin(self, error: LedgerUnavailable) -> None:
        """The ledger does not answer."""
        if not self.is_away:
            self.is_away = True
            how = "requests are served without checking budgets" if self._serve else "requests are refused"
            log.error("the ledger is away; %s, what ends goes to %s: %s", how, self._journal, error.reason)

    def end(self) -> None:
        """The ledger answers again, to writes too."""
        if self.is_away:
            self.is_away = False
            log.warning("the ledger answers again")

    def begin_of_journal(self, error: OSError) -> None:
        """The journal cannot be replayed."""
        if error.errno != self._journal_error:
            self._journal_error = error.errno
            log.error("the journal %s cannot be read or written: %s", self._journal, error)

    def end_of_journal(self) -> None:
        """The journal was replayed, or is empty."""
        if self._journal_error is not None:
            self._journal_error = None
            log.warning("the journal %s can be read and written again", self._journal)
