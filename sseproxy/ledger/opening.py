"""Opens the books as the proxy keeps them: in a database, with a journal for while that is away."""

from __future__ import annotations

import logging
import os

from sseproxy.ledger.database import Database
from sseproxy.ledger.journal import JournalingLedger
from sseproxy.ledger.ledger import SQLLedger, opening
from sseproxy.ledger.protocol import LedgerUnavailable

log = logging.getLogger("sseproxy.accounting")


def open_journaled(
    url: str, journal: str | os.PathLike[str], *, serve: bool = False, reports: bool = False
) -> JournalingLedger:
    """Open the books as :func:`~sseproxy.ledger.ledger.open_ledger` does, and first bring in what a journal holds.

    The other way round, charges that a dead process had settled in its journal would be taken for unfinished.

    :param reports: for somebody who reads, and need not be allowed to write.
    :raises LedgerUnavailable: the database cannot be opened; not with ``serve``.
    """
    books = SQLLedger(Database(url))
    ledger = JournalingLedger(books, journal, serve, prepare=books.database.migrate)
    try:
        with opening(books.database):
            books.database.migrate()
            if not reports and (refused := books.database.refused()):
                raise LedgerUnavailable(reason=refused)
            ledger.recover()
    except LedgerUnavailable as error:
        if not serve:
            raise
        log.error("starting without the ledger, with the journal alone: %s", error.message)
    return ledger


def migrate(url: str) -> None:
    """Bring books that are there to this version. New ones are made by whoever opens them, who may have others.

    :raises LedgerUnavailable: the database cannot be reached or was made by a newer version.
    """
    database = Database(url)
    if not database.is_sqlite or os.path.exists(database.url.database or ""):
        database.migrate()
