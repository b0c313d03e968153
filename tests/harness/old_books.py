"""Books as earlier versions of sseproxy made them."""

from __future__ import annotations

from pathlib import Path

from alembic.command import upgrade
from alembic.config import Config
from sqlalchemy import Connection

import sseproxy.ledger.migrations as migrations
from sseproxy.ledger.database import Database


def upgrade_to(connection: Connection, revision: str) -> None:
    """Bring tables to this version, and no further."""
    script = Config()
    script.set_main_option("script_location", str(Path(migrations.__file__).parent))
    script.attributes["connection"] = connection
    upgrade(script, revision)


def make_old_books(url: str, revision: str = "0004") -> None:
    """New books of this version."""
    database = Database(url)
    with database.change() as connection:
        upgrade_to(connection, revision)
    database.close()
