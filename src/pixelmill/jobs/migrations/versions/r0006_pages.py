"""What pages need: sessions, saved pipelines, jobs that are searched by name and listed for all owners."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

_BATCH = 1_000


def upgrade() -> None:
    """Create both tables; give jobs their folded name and the indexes of lists over all owners."""
    op.create_table(
        "sessions",
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("seen", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index("sessions_by_token", "sessions", ["token", "created"], unique=False)
    op.create_index("sessions_by_use", "sessions", ["seen"], unique=False)
    op.create_table(
        "pipelines",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("form", sa.Text(), nullable=False),
        sa.Column("steps", sa.Text(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name"),
    )
    op.add_column("jobs", sa.Column("folded", sa.Text(), server_default="", nullable=False))
    _fold()
    op.drop_index("jobs_by_state", table_name="jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "created", "id"], unique=False)
    op.create_index("jobs_by_age", "jobs", ["created", "id"], unique=False)


def _fold() -> None:
    """Names of jobs that are there, as Python folds them: databases differ in what they know of letters."""
    jobs = sa.table("jobs", sa.column("id", sa.Text), sa.column("name", sa.Text), sa.column("folded", sa.Text))
    connection = op.get_bind()
    change = jobs.update().where(jobs.c.id == sa.bindparam("job")).values(folded=sa.bindparam("now"))
    rows = connection.execute(sa.select(jobs.c.id, jobs.c.name).where(jobs.c.name != "")).all()
    for start in range(0, len(rows), _BATCH):
        batch = rows[start : start + _BATCH]
        connection.execute(change, [{"job": row.id, "now": row.name.casefold()} for row in batch])
