"""Events of triggers, rules that came by the API, counters; bounds of a job of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Create the tables, and add the column. A program that doesn't know it retries such jobs within its own bounds."""
    op.add_column("jobs", sa.Column("bounds", sa.Text(), nullable=False, server_default=""))
    _events()
    op.create_table(
        "trigger_rules",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("changed", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "trigger_counters",
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("counter", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "subject", "counter"),
    )


def _events() -> None:
    op.create_table(
        "trigger_events",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("rule", sa.Text(), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("object", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("ordinal", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger()),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("chain", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("batch", sa.Text()),
        sa.Column("place", sa.Integer()),
        sa.Column("job", sa.Text()),
        sa.Column("task", sa.Text()),
        sa.Column("destination", sa.Text()),
        sa.Column("name", sa.Text()),
        sa.Column("beside", sa.Text()),
        sa.Column("made", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("error", sa.Text()),
        sa.Column("kept", sa.Boolean(), nullable=False),
        sa.Column("ended", sa.Double()),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("trigger_events_by_object", "trigger_events", ["object"])
    op.create_index("trigger_events_by_rule", "trigger_events", ["rule", "state", "seq"])
    op.create_index("trigger_events_by_state", "trigger_events", ["state", "seq"])
    op.create_index("trigger_events_by_expiry", "trigger_events", ["expires"])
    for column, condition in (
        ("batch", "state = 'waiting' AND batch IS NOT NULL"),
        ("name", "name IS NOT NULL"),
        ("beside", "beside IS NOT NULL"),
        ("made", "made IS NOT NULL"),
    ):
        op.create_index(
            f"trigger_events_by_{column}",
            "trigger_events",
            [column],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
