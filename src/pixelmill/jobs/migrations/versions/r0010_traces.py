"""Which trace a job, and each message of it, belongs to."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Add the columns; what is there already belongs to no trace."""
    op.add_column("jobs", sa.Column("trace", sa.Text(), nullable=True))
    op.add_column("queue", sa.Column("trace", sa.Text(), nullable=True))
