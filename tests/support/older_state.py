"""Takes the state of a data folder back to an older schema, for tests of what migrations make of it."""

from __future__ import annotations

import sqlite3

_UNDO_0011 = (
    "DROP TABLE job_labels",
    "DROP TABLE finding_terms",
    "DROP TABLE findings",
    "UPDATE alembic_version SET version_num = '0010'",
)
_UNDO_0010 = (
    "ALTER TABLE jobs DROP COLUMN trace",
    "ALTER TABLE queue DROP COLUMN trace",
    "UPDATE alembic_version SET version_num = '0009'",
)
_UNDO_0009 = (
    "DROP TABLE trigger_events",
    "DROP TABLE trigger_rules",
    "DROP TABLE trigger_counters",
    "ALTER TABLE jobs DROP COLUMN bounds",
    "UPDATE alembic_version SET version_num = '0008'",
)
_UNDO_0008 = (
    "DROP TABLE overflow_calls",
    "DELETE FROM meta WHERE key = 'schema.oldest'",
    "UPDATE alembic_version SET version_num = '0007'",
)
_UNDO_0007 = (
    "DROP INDEX queue_turns",
    "CREATE INDEX queue_order ON queue (priority, rank, seq)",
    "UPDATE alembic_version SET version_num = '0006'",
)
_UNDO_0006 = (
    "DROP TABLE sessions",
    "DROP TABLE pipelines",
    "DROP INDEX jobs_by_age",
    "DROP INDEX jobs_by_state",
    "CREATE INDEX jobs_by_state ON jobs (state)",
    "ALTER TABLE jobs DROP COLUMN folded",
    "UPDATE alembic_version SET version_num = '0005'",
)
_UNDO_0005 = (
    "DROP INDEX tasks_dead",
    "ALTER TABLE tasks DROP COLUMN dead",
    "UPDATE alembic_version SET version_num = '0004'",
)


def back_to(version: str, raw: sqlite3.Connection) -> None:
    """Undo, the latest first, what came after ``version``: ``0010``, ``0005`` or ``0004``."""
    later = (_UNDO_0011, _UNDO_0010, _UNDO_0009, _UNDO_0008, _UNDO_0007, _UNDO_0006)
    steps = {"0010": (_UNDO_0011,), "0005": later, "0004": (*later, _UNDO_0005)}[version]
    for statement in (statement for step in steps for statement in step):
        raw.execute(statement)
