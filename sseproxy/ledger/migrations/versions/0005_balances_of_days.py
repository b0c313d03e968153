"""Balances by day alone: a week and a month are the sum of their days, of which each had a row from the beginning."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_ALL_DAYS = 10**9
_DAY_OF = {
    "sqlite": "CAST(strftime('%s', period) AS INTEGER) / 86400",
    "postgresql": "CAST(period AS DATE) - DATE '1970-01-01'",
}


def upgrade() -> None:
    """Make the table anew with numbers for days, and carry over what is in it."""
    op.create_table(
        "new_balances",
        sa.Column("user", sa.String, primary_key=True),
        sa.Column("day", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("spent", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("reserved", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sqlite_with_rowid=False,
    )
    day = f"CASE WHEN period = 'total' THEN {_ALL_DAYS} ELSE {_DAY_OF[op.get_context().dialect.name]} END"
    op.execute(
        f'INSERT INTO new_balances ("user", day, spent, reserved) SELECT "user", {day}, spent, reserved FROM balances'
        " WHERE period = 'total' OR LENGTH(period) = LENGTH('2026-11-21')"
    )
    op.drop_table("balances")
    op.rename_table("new_balances", "balances")
