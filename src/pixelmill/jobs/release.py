"""The tables' side of the outbox: which tasks wait, which are released to a queue elsewhere, which are still wanted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, case, func, select, true, update

from pixelmill.jobs.bulk import OPEN
from pixelmill.jobs.messages import PRIORITY_NUMBERS, TaskMessage, message_id, split_message_id
from pixelmill.jobs.model import Priority, State
from pixelmill.jobs.outbox import Waiting
from pixelmill.jobs.records import bounds_from
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import jobs, tasks
from pixelmill.jobs.store import JobStore
from pixelmill.pipelines.learned import wants_models

MAX_JOBS = 1000
"""Jobs that share a window: the most urgent ones; of these each owner's first, each owner's second, and so on, by age.
The next ones wait until one of these ends."""

_rows = table_of("rows", id=Text)
_ids = _rows.subquery("ids")
# Some may have ended between sending and marking: those take no room in the window.
_MARK = update(tasks).where(tasks.c.id.in_(_rows), tasks.c.state.in_(OPEN)).values(released=true())
_FETCH = (
    select(tasks.c.id, tasks.c.run)
    .select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))
    .where(tasks.c.state.in_(OPEN))
)

_URGENCY = case({one.value: number for one, number in PRIORITY_NUMBERS.items()}, value=jobs.c.priority)


@dataclass(frozen=True, slots=True)
class Releasable:
    """A task that may be sent now."""

    message: TaskMessage
    priority: int


class Releases:
    """Over the tables of a :class:`JobStore` that was made with ``enqueue=False``."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._db = store.db

    async def waiting(self) -> tuple[dict[str, Waiting], dict[str, int]]:
        """Of the most urgent open jobs, owners in turn, oldest first: what waits, and how much is in flight."""
        released = select(tasks.c.job, func.count()).where(tasks.c.released).group_by(tasks.c.job)
        unreleased = jobs.c.queued + jobs.c.running
        place = func.row_number().over(partition_by=(jobs.c.owner, _URGENCY), order_by=(jobs.c.created, jobs.c.id))
        opened = (
            select(jobs.c.id, jobs.c.priority, jobs.c.owner, jobs.c.pipeline, unreleased.label("open"))
            .where(jobs.c.state.in_(OPEN), unreleased > 0)
            .order_by(_URGENCY, place, jobs.c.created, jobs.c.id)
            .limit(MAX_JOBS)
        )

        def run(connection: Connection) -> tuple[dict[str, Waiting], dict[str, int]]:
            in_flight = {job: int(count) for job, count in connection.execute(released).all()}
            waiting = {
                row.id: Waiting(
                    row.open - in_flight.get(row.id, 0),
                    PRIORITY_NUMBERS[Priority(row.priority)],
                    row.owner,
                    wants_models(row.pipeline),
                )
                for row in connection.execute(opened).all()
            }
            return waiting, in_flight

        return await self._db.read(run)

    async def next(self, job_id: str, count: int) -> list[Releasable]:
        """The next ``count`` tasks of a job that wait."""
        query = (
            select(
                tasks.c.id,
                tasks.c.run,
                tasks.c.name,
                tasks.c.source,
                tasks.c.owner,
                tasks.c.queued,
                jobs.c.trace,
                jobs.c.pipeline,
                jobs.c.images,
                jobs.c.priority,
                jobs.c.bounds,
            )
            .select_from(tasks.join(jobs, tasks.c.job == jobs.c.id))
            .where(tasks.c.job == job_id, tasks.c.state == State.QUEUED.value, ~tasks.c.released)
            .order_by(tasks.c.seq)
            .limit(count)
        )
        own = self._store.bounds

        def run(connection: Connection) -> list[Releasable]:
            rows = connection.execute(query).all()
            bounds = own.within(bounds_from(rows[0].bounds)) if rows else own
            return [
                Releasable(
                    TaskMessage(
                        task=row.id,
                        run=row.run,
                        job=job_id,
                        owner=row.owner,
                        name=row.name,
                        pipeline=row.pipeline,
                        source=row.source,
                        images=_images(row.images),
                        limits=bounds.limits,
                        timeout_s=bounds.timeout_s,
                        max_attempts=bounds.max_attempts,
                        tiled=bounds.tiled,
                        ranks=bounds.ranks,
                        trace=row.trace or "",
                        queued=row.queued,
                    ),
                    PRIORITY_NUMBERS[Priority(row.priority)],
                )
                for row in rows
            ]

        return await self._db.read(run)

    async def mark(self, task_ids: Sequence[str]) -> None:
        """These tasks are in the queue now; they are until they end."""
        rows = encode((one,) for one in task_ids)
        await self._db.write(lambda connection: connection.execute(_MARK, {"rows": rows}).rowcount)

    async def wanted(self, message_ids: Sequence[str]) -> frozenset[str]:
        """Which of these messages still have something to do: their task is open, and in that run."""
        rows = encode((split_message_id(one)[0],) for one in message_ids)
        found = await self._db.read(lambda connection: connection.execute(_FETCH, {"rows": rows}).all())
        return frozenset(message_id(row.id, row.run) for row in found) & frozenset(message_ids)


def _images(text: str) -> Mapping[str, str]:
    found: dict[str, str] = json.loads(text)
    return found
