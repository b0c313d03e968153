"""Charges, balances, sums per day, keys, owners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def _amount(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    """Create the first five tables."""
    _create_charges()
    op.create_table(
        "balances",
        sa.Column("user", sa.String, primary_key=True),
        sa.Column("period", sa.String, primary_key=True),
        _amount("spent"),
        _amount("reserved"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "daily_usage",
        sa.Column("user", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        *(sa.Column(name, sa.String, primary_key=True) for name in ("model", "route", "key", "upstream")),
        *(_amount(name) for name in ("requests", "unpriced", "input_tokens", "cached_input_tokens")),
        *(_amount(name) for name in ("output_tokens", "reasoning_tokens", "cost")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "keys",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("label", sa.String, nullable=False),
        sa.Column("secret_hash", sa.String, nullable=False, unique=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_table(
        "owners",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("place", sa.String, nullable=False),
        sa.Column("process", sa.String, nullable=False),
        sa.Column("beat", sa.BigInteger, nullable=False),
    )


def _create_charges() -> None:
    op.create_table(
        "charges",
        sa.Column("id", sa.String, primary_key=True),
        sa.Column("user", sa.String, nullable=False),
        sa.Column("key", sa.String),
        *(sa.Column(name, sa.String, nullable=False) for name in ("route", "model", "upstream", "upstream_model")),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("outcome", sa.String),
        sa.Column("usage_source", sa.String, nullable=False, server_default="none"),
        *(_amount(name) for name in ("input_tokens", "cached_input_tokens", "cache_write_tokens")),
        *(_amount(name) for name in ("output_tokens", "reasoning_tokens", "prefix_tokens")),
        sa.Column("reserved", sa.BigInteger, nullable=False),
        _amount("cost"),
        sa.Column("unpriced", sa.Boolean, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("started_at", sa.BigInteger, nullable=False),
        sa.Column("first_token_ms", sa.BigInteger),
        sa.Column("duration_ms", sa.BigInteger),
        sa.Column("owner", sa.String, nullable=False),
    )
    pending = sa.text("state = 'pending'")
    op.create_index("charges_started_at", "charges", ["started_at"])
    op.create_index("charges_user_started_at", "charges", ["user", "started_at"])
    op.create_index("charges_pending", "charges", ["owner"], sqlite_where=pending, postgresql_where=pending)
