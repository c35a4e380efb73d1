"""Tasks that a lost event may have left behind: open in the job store, while nothing works on them. In pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, Text, exists, false, or_, select, update

from pixelmill.errors import WorkerCrashed, error_to_dict
from pixelmill.jobs.bulk import MESSAGE_ID, OPEN
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.intake import enqueue
from pixelmill.jobs.model import NewTask, State, TaskEvent
from pixelmill.jobs.recorder import Recorded, record
from pixelmill.jobs.records import job_from
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import jobs, queue, tasks
from pixelmill.jobs.store import JobStore

_ids = table_of("rows", id=Text).subquery("ids")
_COLUMNS = (tasks.c.id, tasks.c.job, tasks.c.owner, tasks.c.run, tasks.c.attempts, tasks.c.state)

_RELEASE_AGAIN = (
    update(tasks)
    .where(tasks.c.id.in_(table_of("rows", id=Text)), tasks.c.state == State.QUEUED.value)
    .values(released=false())
)


@dataclass(frozen=True, slots=True)
class OpenTask:
    """A task that has not ended, as the job store knows it."""

    id: str
    job: str
    owner: str
    run: int
    attempts: int
    state: State


class Suspects:
    """Over the tables of a :class:`JobStore`; safe beside running workers."""

    def __init__(self, store: JobStore, now: Callable[[], float] | None = None) -> None:
        self._store, self._db, self._clock = store, store.db, now

    async def unattended(self, after: str, limit: int) -> list[OpenTask]:
        """Open tasks that no message stands for, or that run although nobody holds their message's lease.

        Where the queue is elsewhere, only tasks that were released to it: it alone knows its leases.
        """
        return await self._db.read(lambda connection: self._unattended(connection, after, limit))

    def _unattended(self, connection: Connection, after: str, limit: int) -> list[OpenTask]:
        if self._store.enqueues:
            leased = queue.c.receipt.is_not(None) & (queue.c.visible > time_of(connection, self._clock))
            mine = exists().where(queue.c.id == MESSAGE_ID)
            held = exists().where(queue.c.id == MESSAGE_ID, leased)
            suspicious = or_(~mine, (tasks.c.state == State.RUNNING.value) & ~held)
        else:
            suspicious = or_(tasks.c.state == State.RUNNING.value, tasks.c.released)
        query = (
            select(*_COLUMNS)
            .select_from(tasks.join(jobs, jobs.c.id == tasks.c.job))
            .where(tasks.c.id > after, jobs.c.state.in_(OPEN), tasks.c.state.in_(OPEN), suspicious)
            .order_by(tasks.c.id)
            .limit(limit)
        )
        return [_task(row) for row in connection.execute(query).mappings()]

    async def open_jobs(self, after: str, limit: int) -> list[tuple[str, str]]:
        """Owner and id of jobs that have not ended, in the order of ids."""
        query = select(jobs.c.owner, jobs.c.id).where(jobs.c.id > after, jobs.c.state.in_(OPEN))
        query = query.order_by(jobs.c.id).limit(limit)
        return await self._db.read(lambda c: [(row.owner, row.id) for row in c.execute(query)])

    async def still_open(self, ids: Sequence[str]) -> list[OpenTask]:
        """Those of these tasks that have not ended."""
        query = select(*_COLUMNS).select_from(_ids.join(tasks, tasks.c.id == _ids.c.id)).where(tasks.c.state.in_(OPEN))
        rows = encode((one,) for one in ids)
        return await self._db.read(lambda c: [_task(row) for row in c.execute(query, {"rows": rows}).mappings()])

    async def put_back(self, suspects: Sequence[OpenTask]) -> int:
        """Queue tasks again that have no result and that still nobody attends to; returns how many.

        A running one has lost that attempt. Looked at again inside the transaction: a worker may have begun meanwhile.
        Where the queue is elsewhere, they are released again: a message that it has after all comes twice.
        """
        if not suspects:
            return 0
        work = self._put_back if self._store.enqueues else self._release_again
        return await self._db.write(lambda connection: work(connection, suspects))

    def _put_back(self, connection: Connection, suspects: Sequence[OpenTask]) -> int:
        now = time_of(connection, self._clock)
        held = exists().where(queue.c.id == MESSAGE_ID, queue.c.receipt.is_not(None), queue.c.visible > now)
        mine = exists().where(queue.c.id == MESSAGE_ID)
        query = (
            select(*_COLUMNS, tasks.c.name, tasks.c.source, mine.label("queued_now"))
            .select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))
            .where(tasks.c.state.in_(OPEN), ~held)
            .order_by(tasks.c.job, tasks.c.seq)
        )
        found = _unchanged(connection, query, suspects)
        done = _interrupt(connection, [_task(row) for row in found], now)
        by_job: dict[str, list[tuple[NewTask, int]]] = {}
        for row in found:
            if not row["queued_now"]:
                by_job.setdefault(row["job"], []).append((NewTask(row["id"], row["name"], row["source"]), row["run"]))
        for job_id, waiting in by_job.items():
            job = job_from(connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())
            enqueue(connection, job, self._store.bounds, waiting, 0, now)
        return len({change.task for change in done.tasks} | {one[0].id for rows in by_job.values() for one in rows})

    def _release_again(self, connection: Connection, suspects: Sequence[OpenTask]) -> int:
        query = (
            select(*_COLUMNS)
            .select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))
            .where(tasks.c.state.in_(OPEN), or_(tasks.c.state == State.RUNNING.value, tasks.c.released))
        )
        found = [_task(row) for row in _unchanged(connection, query, suspects)]
        _interrupt(connection, found, time_of(connection, self._clock))
        connection.execute(_RELEASE_AGAIN, {"rows": encode((one.id,) for one in found)})
        return len(found)


def _unchanged(connection: Connection, query: Select[Any], suspects: Sequence[OpenTask]) -> list[RowMapping]:
    """Rows of the query that are still what they were when they were suspected."""
    before = {task.id: task for task in suspects}
    rows = connection.execute(query, {"rows": encode((one,) for one in before)}).mappings()
    return [row for row in rows if _task(row) == before[row["id"]]]


def _interrupt(connection: Connection, found: Sequence[OpenTask], at: float) -> Recorded:
    """Those that run have lost that attempt."""
    reason = error_to_dict(WorkerCrashed("Its worker was lost with what it reported; the task was put back."))
    events = [
        TaskEvent("requeued", one.id, one.job, one.owner, one.run, one.attempts, at, error=reason)
        for one in found
        if one.state is State.RUNNING
    ]
    return record(connection, events, None) if events else Recorded()


def _task(row: object) -> OpenTask:
    values = {name: row[name] for name in ("id", "job", "owner", "run", "attempts")}  # type: ignore[index]  # a mapping
    return OpenTask(**values, state=State(row["state"]))  # type: ignore[index]  # a mapping
