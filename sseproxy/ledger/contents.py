"""What was asked and answered, for an operator who wants it kept (``accounting.store_content``)."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import insert, select

from sseproxy.ledger.database import Database
from sseproxy.ledger.protocol import Content
from sseproxy.ledger.schema import contents


class Contents:
    """The contents in one ledger's database, by charge.

    Every method raises :class:`~sseproxy.ledger.protocol.LedgerUnavailable` if it is away.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def keep(self, charge_id: str, content: Content) -> None:
        """Write it down; once for a charge."""
        row = {"charge": charge_id, "request": content.request, "answer": content.answer, "hidden": content.hidden}
        with self._database.change() as connection:
            connection.execute(insert(contents).values(row))

    def of(self, charge_ids: Iterable[str]) -> dict[str, Content]:
        """What is kept of these charges."""
        query = select(contents).where(contents.c.charge.in_(list(charge_ids)))
        with self._database.read() as connection:
            rows = connection.execute(query).mappings().all()
        return {row["charge"]: Content(row["request"], row["answer"], row["hidden"]) for row in rows}
