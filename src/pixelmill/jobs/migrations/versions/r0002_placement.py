"""Why a task ran where it ran, and what that cost."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the columns; tasks that have ended ran on own machines."""
    op.add_column("tasks", sa.Column("why", sa.Text(), nullable=True))
    op.add_column("tasks", sa.Column("cost", sa.Double(), nullable=False, server_default="0"))
