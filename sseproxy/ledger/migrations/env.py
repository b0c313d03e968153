"""Alembic's entry point: runs the scripts on the connection it is given, inside that connection's transaction."""

from __future__ import annotations

from alembic import context

from sseproxy.ledger.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
