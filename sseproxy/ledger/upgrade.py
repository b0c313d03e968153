"""Makes the tables of new books; brings those of old ones to this version, with Alembic. Opens no connection."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final

from sqlalchemy import Column, Connection, MetaData, PrimaryKeyConstraint, String, Table, insert, inspect, text

from sseproxy.ledger.protocol import LedgerUnavailable
from sseproxy.ledger.schema import REVISION, metadata

log = logging.getLogger("sseproxy.accounting")

#: Any number that nobody else uses for pg_advisory_xact_lock: only one process migrates at a time.
_LOCK: Final = 7_377_682
#: Where Alembic notes the version, as Alembic makes it.
_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)
#: Alembic keeps the migration that runs in globals of its own: a process runs one at a time.
_migrating = threading.Lock()


def revision_of(connection: Connection) -> str | None:
    """The version of the tables that there are."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def create(change: Callable[[], AbstractContextManager[Connection]]) -> str:
    """Make the tables as they are now, if there are none. All migrations give the same, but loading Alembic for them
    is a fifth of a start.

    :param change: begins a transaction.
    :return: the version of the tables that there are then.
    """
    with _alone(change) as connection:
        version = revision_of(connection)
        if version is not None:  # by now
            return version
        for tables in (metadata, _version.metadata):
            # Where somebody else's table has such a name, this is to fail as a migration would.
            tables.create_all(connection, checkfirst=False)
        connection.execute(insert(_version).values(version_num=REVISION))
        return REVISION


def upgrade(change: Callable[[], AbstractContextManager[Connection]]) -> None:
    """Run what migrations there are to run.

    :param change: begins a transaction.
    :raises LedgerUnavailable: the tables are of a newer version.
    """
    # Needed only where something is to be done; takes 0.2 s to load, in which the database is not to be locked.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    script = Config()
    script.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    with _alone(change) as connection:
        version = revision_of(connection)
        if version == REVISION:  # by now
            return
        log.info("the ledger is brought from version %s to %s, which takes its time", version, REVISION)
        script.attributes["connection"] = connection
        try:
            with _migrating:
                command.upgrade(script, "head")
        except CommandError as error:
            raise LedgerUnavailable(f"The ledger was made by another version of sseproxy: {error}") from error


@contextmanager
def _alone(change: Callable[[], AbstractContextManager[Connection]]) -> Iterator[Connection]:
    """A transaction in which no other process changes the tables."""
    with change() as connection:
        if connection.dialect.name == "postgresql":
            from sseproxy.ledger.postgresql import wait_for_ever

            # Another process may be migrating, and the tables of years take their time.
            wait_for_ever(connection)
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        yield connection


def _after_fork_in_child() -> None:
    global _migrating
    _migrating = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
