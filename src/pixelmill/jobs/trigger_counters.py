"""Counters of rules and of sources of events, which survive restarts: what happened since they exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import BigInteger, Connection, Text, insert, literal, select, update

from pixelmill.jobs.database import Database
from pixelmill.jobs.rows import clean, encode, table_of
from pixelmill.jobs.schema import trigger_counters

Counter = tuple[str, str, str]
"""Kind (of a rule, of a source), its name, and what is counted."""

_new = table_of("rows", kind=Text, subject=Text, counter=Text, value=BigInteger).subquery("new")
_same = (
    trigger_counters.c.kind == _new.c.kind,
    trigger_counters.c.subject == _new.c.subject,
    trigger_counters.c.counter == _new.c.counter,
)
_ADD = update(trigger_counters).values(value=trigger_counters.c.value + _new.c.value).where(*_same)
_SET = update(trigger_counters).values(value=_new.c.value).where(*_same)
_INSERT = insert(trigger_counters).from_select(
    ["kind", "subject", "counter", "value", "owner"],
    select(*_new.c, literal("")).where(~select(trigger_counters.c.value).where(*_same).exists()),
)


def add_counts(connection: Connection, counts: Mapping[Counter, int]) -> None:
    """Add to counters, in a transaction of the caller in which nobody else writes."""
    rows = [(kind, clean(subject), counter, count) for (kind, subject, counter), count in counts.items() if count]
    if rows:
        encoded = {"rows": encode(rows)}
        # In this order: what is made now has its count already.
        added = connection.execute(_ADD, encoded).rowcount
        if added < len(rows):
            connection.execute(_INSERT, encoded)


SEEN = "seen"
"""Not a count, but the second when a rule was last in force anywhere."""


def note_seen(connection: Connection, kind: str, subjects: Iterable[str], at: float) -> None:
    """Write down that these are there, in a transaction of the caller in which nobody else writes."""
    rows = [(kind, clean(subject), SEEN, int(at)) for subject in subjects]
    if rows:
        encoded = {"rows": encode(rows)}
        noted = connection.execute(_SET, encoded).rowcount
        if noted < len(rows):
            connection.execute(_INSERT, encoded)


class TriggerCounters:
    """Reads the counters."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self) -> Mapping[tuple[str, str], Mapping[str, int]]:
        """By kind and name: each counter."""
        rows = await self._db.read(lambda connection: connection.execute(select(trigger_counters)).all())
        found: dict[tuple[str, str], dict[str, int]] = {}
        for row in rows:
            found.setdefault((row.kind, row.subject), {})[row.counter] = int(row.value)
        return found
