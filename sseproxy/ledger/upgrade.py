"""Brings the tables of a database to this version, with Alembic. Opens no connection."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, inspect, text

from sseproxy.ledger.protocol import LedgerUnavailable
from sseproxy.ledger.schema import REVISION

log = logging.getLogger("sseproxy.accounting")

#: Any number that nobody else uses for pg_advisory_xact_lock: only one process migrates at a time.
_LOCK: Final = 7_377_682
#: Alembic keeps the migration that runs in globals of its own: a process runs one at a time.
_migrating = threading.Lock()


def revision_of(connection: Connection) -> str | None:
    """The version of the tables that there are."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


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
    with change() as connection:
        if connection.dialect.name == "postgresql":
            from sseproxy.ledger.postgresql import wait_for_ever

            # Another process may be migrating, and the tables of years take their time.
            wait_for_ever(connection)
            connection.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
        version = revision_of(connection)
        if version == REVISION:  # by now
            return
        if version is not None:
            log.info("the ledger is brought from version %s to %s, which takes its time", version, REVISION)
        script.attributes["connection"] = connection
        try:
            with _migrating:
                command.upgrade(script, "head")
        except CommandError as error:
            raise LedgerUnavailable(f"The ledger was made by another version of sseproxy: {error}") from error


def _after_fork_in_child() -> None:
    global _migrating
    _migrating = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
