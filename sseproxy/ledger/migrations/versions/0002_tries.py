"""What was tried for a request: JSON of each time it went to an upstream."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column to the charges; those from before have nothing in it."""
    op.add_column("charges", sa.Column("tries", sa.String))
