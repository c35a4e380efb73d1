"""Tasks know whether they failed because their attempts were used up."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

_SPENT = ("worker-crashed", "node-lost", "storage-unavailable", "target-unavailable")


def upgrade() -> None:
    """Add the column with its index, and mark what failed so before."""
    op.add_column("tasks", sa.Column("dead", sa.Boolean(), server_default=sa.false(), nullable=False))
    tasks = sa.table("tasks", sa.column("state", sa.Text), sa.column("error", sa.Text), sa.column("dead", sa.Boolean))
    spent = sa.or_(*(tasks.c.error.startswith(f'{{"type":"{slug}"') for slug in _SPENT))
    op.execute(tasks.update().where(tasks.c.state == "failed", spent).values(dead=sa.true()))
    op.create_index(
        "tasks_dead",
        "tasks",
        ["owner", "ended", "id"],
        unique=False,
        # In the words of the queries: SQLite takes a partial index only where it finds its condition again.
        sqlite_where=sa.text("dead = 1"),
        postgresql_where=sa.text("dead"),
    )
