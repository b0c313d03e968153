"""Requests and answers, kept only where the configuration asks for it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "contents",
        sa.Column("charge", sa.String, primary_key=True),
        sa.Column("request", sa.String, nullable=False),
        sa.Column("answer", sa.String, nullable=False),
        sa.Column("hidden", sa.String, nullable=False),
    )
