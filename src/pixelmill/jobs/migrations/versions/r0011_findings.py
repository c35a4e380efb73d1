"""What operations found in tasks, so that it can be searched for."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import sqlalchemy as sa
from alembic import op

from pixelmill.jobs.findings import Findings, findings_of

revision = "0011"
down_revision = "0010"

_BATCH = 1_000


def upgrade() -> None:
    """Create the tables, and fill them from the tasks that are there."""
    op.create_table(
        "findings",
        sa.Column("number", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("findings_by_job", "findings", ["job", "number"], unique=False)
    op.create_table(
        "finding_terms",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("term", sa.Text(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["number"], ["findings.number"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("owner", "term", "number"),
        sqlite_with_rowid=False,
    )
    op.create_index("finding_terms_by_number", "finding_terms", ["number"], unique=False)
    op.create_table(
        "job_labels",
        sa.Column("job", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("tasks", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job", "label"),
    )
    _fill()


_tasks = sa.table("tasks", *(sa.column(name, sa.Text) for name in ("id", "job", "owner", "state", "outcome")))
_findings = sa.table("findings", sa.column("number"), sa.column("owner"), sa.column("job"), sa.column("task"))
_terms = sa.table("finding_terms", sa.column("owner"), sa.column("term"), sa.column("number"), sa.column("score"))
_labels = sa.table("job_labels", sa.column("job"), sa.column("label"), sa.column("owner"), sa.column("tasks"))


def _fill() -> None:
    """The tasks that are there, by their ids: the oldest first."""
    connection = op.get_bind()
    operations = ("classify", "auto_tag", "caption", "faces")
    told = sa.or_(*(_tasks.c.outcome.contains(f'"{name}', autoescape=True) for name in operations))
    query = sa.select(_tasks).where(_tasks.c.state == "succeeded", told).order_by(_tasks.c.id).limit(_BATCH)
    after, number = "", 0
    counts: Counter[tuple[str, str, str]] = Counter()
    while batch := connection.execute(query.where(_tasks.c.id > after)).all():
        after = batch[-1].id
        read = [(row, findings_of(json.loads(row.outcome))) for row in batch]
        described: list[tuple[int, Any, Findings]] = []
        for row, found in read:
            if found.terms:
                number += 1
                described.append((number, row, found))
                counts.update((row.job, label, row.owner) for label in found.labels)
        if described:
            rows = [{"number": n, "owner": row.owner, "job": row.job, "task": row.id} for n, row, _ in described]
            connection.execute(_findings.insert(), rows)
            terms = [
                {"owner": row.owner, "term": term, "number": n, "score": score}
                for n, row, found in described
                for term, score in found.terms.items()
            ]
            connection.execute(_terms.insert(), terms)
    labels = [{"job": job, "label": label, "owner": owner, "tasks": n} for (job, label, owner), n in counts.items()]
    for start in range(0, len(labels), _BATCH):
        connection.execute(_labels.insert(), labels[start : start + _BATCH])
