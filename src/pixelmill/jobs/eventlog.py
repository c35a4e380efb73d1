"""The event log: what subscribers read, in the order in which it became true. Bounded by pruning.

Single tasks are logged as they change. What changes many tasks at once (create, cancel, retry) logs one ``job`` event.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Double, Text, delete, func, insert, select

from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Counts, LoggedEvent, State
from pixelmill.jobs.records import check_limit, counts_dict, event_from
from pixelmill.jobs.rows import dumps, encode, table_of
from pixelmill.jobs.schema import events

KEPT_EVENTS = 200_000

_INSERT = insert(events).from_select(
    ["owner", "job", "type", "data", "at"],
    table_of("rows", owner=Text, job=Text, type=Text, data=Text, at=Double),
)

EventRow = tuple[str, str, str, str, float]
"""Owner, job, type, data (JSON text), seconds since the epoch."""


def job_event(owner: str, job: str, state: State, counts: Counts, at: float) -> EventRow:
    """The entry for a job's state and counts."""
    return (owner, job, "job", dumps({"id": job, "state": state.value, "counts": counts_dict(counts)}), at)


def log(connection: Connection, rows: Sequence[EventRow]) -> None:
    """Append entries, in the transaction that makes them true."""
    if rows:
        connection.execute(_INSERT, {"rows": encode(rows)})


class EventLog:
    """Reads and prunes the log."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def after(
        self, owner: str | None, after_id: int, job: str | None = None, limit: int = 500
    ) -> list[LoggedEvent]:
        """Up to ``limit`` entries of the owner (None: of all), and of one job, with a greater id, oldest first."""
        query = select(events).where(events.c.id > after_id)
        if owner is not None:
            query = query.where(events.c.owner == owner)
        if job is not None:
            query = query.where(events.c.job == job)
        query = query.order_by(events.c.id).limit(check_limit(limit))
        return await self._db.read(lambda c: [event_from(row) for row in c.execute(query).mappings()])

    async def last_id(self, owner: str | None = None) -> int:
        """The greatest id logged so far (for an owner), or 0."""
        query: Any = select(func.max(events.c.id))
        if owner is not None:
            query = query.where(events.c.owner == owner)
        return await self._db.read(lambda c: int(c.execute(query).scalar() or 0))

    async def changed(self, after_id: int, limit: int = 1000) -> tuple[int, list[tuple[str, str]]]:
        """Owner and job of up to ``limit`` entries with a greater id, each once; and the last id that was read."""
        newest = select(events.c.id, events.c.owner, events.c.job).where(events.c.id > after_id)
        newest = newest.order_by(events.c.id).limit(limit)
        rows = await self._db.read(lambda connection: connection.execute(newest).all())
        last = rows[-1].id if rows else after_id
        return last, list(dict.fromkeys((row.owner, row.job) for row in rows))

    async def first_id(self) -> int:
        """The smallest id that is still kept, or 0: a reader that stopped before it has missed entries."""
        return await self._db.read(lambda c: int(c.execute(select(func.min(events.c.id))).scalar() or 0))

    async def prune(self, keep: int = KEPT_EVENTS) -> int:
        """Remove the oldest entries beyond ``keep``; returns how many."""

        def run(connection: Connection) -> int:
            last = connection.execute(select(func.max(events.c.id))).scalar() or 0
            return connection.execute(delete(events).where(events.c.id <= last - keep)).rowcount

        return await self._db.write(run)
