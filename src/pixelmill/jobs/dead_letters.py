"""Tasks that failed because their attempts were used up: listed, and queued again in a new run.

The job store is the source of truth, whichever queue there is: it knows each such task with its reason
(``tasks.dead``), and what belongs to whom. The dead letters of the queues are copies for who looks at the queue itself;
a redrive here never uses them, for the outcome of the run that they belong to stands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, select, tuple_

from pixelmill.errors import LimitExceeded
from pixelmill.jobs import bulk
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.messages import message_id
from pixelmill.jobs.model import Job, Page
from pixelmill.jobs.records import check_limit, cursor_of, page_of, position_of, task_from
from pixelmill.jobs.schema import jobs, tasks
from pixelmill.jobs.store import JobStore

MAX_REDRIVEN = 1_000
"""Tasks of one redrive by ids, and of each transaction of one of a whole job."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """What was queued again: ids of tasks, the messages of the runs that had failed, and their jobs as they are now."""

    tasks: Sequence[str] = ()
    messages: Sequence[str] = ()
    jobs: Sequence[Job] = ()


class DeadLetters:
    """Over the tables of a :class:`JobStore`. ``owner`` None: everybody's."""

    def __init__(self, store: JobStore, now: Callable[[], float] | None = None) -> None:
        self._store, self._db = store, store.db
        self._clock = now
        self._now = now or time.time

    async def list(
        self, owner: str | None, *, limit: int = 100, cursor: str | None = None, job: str | None = None
    ) -> Page:
        """Dead tasks (:class:`Task`), the latest first."""
        query = select(tasks, jobs.c.trace).join_from(tasks, jobs, jobs.c.id == tasks.c.job).where(*_dead(owner))
        if job is not None:
            query = query.where(tasks.c.job == job)
        if cursor is not None:
            ended, task = position_of(cursor, float, str)
            query = query.where(tuple_(tasks.c.ended, tasks.c.id) < tuple_(ended, task))
        query = query.order_by(tasks.c.ended.desc(), tasks.c.id.desc()).limit(check_limit(limit) + 1)
        found = await self._db.read(
            lambda c: [task_from(row, row["trace"] or "") for row in c.execute(query).mappings()]
        )
        return page_of(found, limit, lambda last: cursor_of(float(last.ended), last.id))

    async def redrive(self, owner: str | None, *, ids: Sequence[str] = (), job: str | None = None) -> Redriven:
        """Queue dead tasks again, those of ``ids`` or up to ``MAX_REDRIVEN`` of ``job``, in one transaction.

        What is not (any more) dead, or another owner's, is left alone: done twice it changes nothing more.
        """
        if len(ids) > MAX_REDRIVEN:
            raise LimitExceeded(
                f"One redrive may name {MAX_REDRIVEN:,} tasks, not {len(ids):,}. Send the rest in another one.",
                limit="tasks in one redrive",
                value=len(ids),
                maximum=MAX_REDRIVEN,
            )
        which = tasks.c.job == job if job is not None else tasks.c.id.in_(list(ids))
        return await self._db.write(lambda connection: self._redrive(connection, owner, which))

    def _redrive(self, connection: Connection, owner: str | None, which: ColumnElement[bool]) -> Redriven:
        query = select(tasks.c.id, tasks.c.run, tasks.c.job, tasks.c.owner).where(*_dead(owner), which)
        rows = connection.execute(query.order_by(tasks.c.job, tasks.c.seq).limit(MAX_REDRIVEN)).all()
        by_job: dict[tuple[str, str], list[str]] = {}
        for row in rows:
            by_job.setdefault((row.owner, row.job), []).append(row.id)
        bounds = self._store.bounds if self._store.enqueues else None
        at = time_of(connection, self._clock)
        jobs = [
            bulk.redrive(connection, bulk.get_job(connection, whose, job), at, bounds, ids)
            for (whose, job), ids in by_job.items()
        ]
        return Redriven([row.id for row in rows], [message_id(row.id, row.run) for row in rows], jobs)


def _dead(owner: str | None) -> list[ColumnElement[bool]]:
    return [tasks.c.dead] if owner is None else [tasks.c.dead, tasks.c.owner == owner]
