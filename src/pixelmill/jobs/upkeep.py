"""What the service does for itself, for all owners: reconcile after a crash, retention, garbage, statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, delete, exists, func, or_, select, update

from pixelmill.errors import WorkerCrashed, error_to_dict
from pixelmill.jobs.bulk import KEY_PREFIX, MESSAGE_ID, OPEN
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.intake import enqueue
from pixelmill.jobs.messages import message_id, split_message_id
from pixelmill.jobs.model import NewTask, State, TaskEvent
from pixelmill.jobs.recorder import record
from pixelmill.jobs.records import job_from
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import dead_letters, garbage, idempotency, images, jobs, queue, tasks, uploads
from pixelmill.jobs.store import JobStore

IDEMPOTENCY_S = 24 * 3600.0
DEAD_LETTERS_S = 7 * 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a crash had left: attempts that were cut off, messages of ended tasks, tasks without a message."""

    interrupted: int = 0
    stale: int = 0
    requeued: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """Tasks and jobs by state, and when the oldest waiting message was queued (seconds since the epoch)."""

    tasks: Mapping[str, int]
    jobs: Mapping[str, int]
    oldest_queued: float | None


_rows = table_of("rows", id=Text)
_ids = _rows.subquery("ids")
_FETCH = select(tasks.c.id, tasks.c.run, tasks.c.state).select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))
_REMOVE = delete(queue).where(queue.c.id.in_(_rows))
_GIVE_BACK = (
    update(queue).where(queue.c.id.in_(_rows), queue.c.deliveries > 0).values(deliveries=queue.c.deliveries - 1)
)
_keys = table_of("rows", key=Text).subquery("keys")
_UNKNOWN = select(_keys.c.key).where(
    ~exists().where(uploads.c.key == _keys.c.key),
    ~exists().where(tasks.c.source == KEY_PREFIX + _keys.c.key),
    ~exists().where(images.c.key == _keys.c.key),
    ~exists().where(garbage.c.key == _keys.c.key),
)
_JOBS = select(jobs.c.id).where(jobs.c.id.in_(table_of("rows", id=Text)))
_FORGET = delete(garbage).where(garbage.c.key.in_(_rows))


class Upkeep:
    """Housekeeping over the tables of a :class:`JobStore`."""

    def __init__(self, store: JobStore, now: Callable[[], float] | None = None) -> None:
        self._store = store
        self._db = store.db
        self._clock = now
        self._now = now or time.time

    async def reconcile(self, recovered: Sequence[str] = ()) -> Reconciled:
        """Put right what a process left that died; called once at start, before anything is received.

        ``recovered`` are the messages whose leases the queue took from dead holders. Where a task had begun, that
        attempt is lost and counts; where it was only fetched ahead, the delivery is given back; where
        it has ended, the message goes. A waiting task without a message gets one.
        """
        interrupted, stale = await self._db.write(lambda connection: self._settle(connection, recovered))
        requeued = await self._db.write(self._requeue) if self._store.enqueues else 0
        return Reconciled(interrupted, stale, requeued)

    def _settle(self, connection: Connection, recovered: Sequence[str]) -> tuple[int, int]:
        """Messages that were leased: of ended tasks (removed), fetched ahead (given back), begun (an attempt lost)."""
        ids = {split_message_id(one)[0] for one in recovered if "/" in one}
        found = connection.execute(_FETCH, {"rows": encode((one,) for one in ids)}).all()
        state_of = {message_id(row.id, row.run): row.state for row in found}
        ahead = [one for one in recovered if state_of.get(one) == State.QUEUED]
        stale = [one for one in recovered if state_of.get(one) not in OPEN]
        if ahead:
            connection.execute(_GIVE_BACK, {"rows": encode((one,) for one in ahead)})
        if stale:
            connection.execute(_REMOVE, {"rows": encode((one,) for one in stale)})
        # Leases in a queue elsewhere are not known here: they end by themselves, and the next delivery tells.
        return self._interrupt(connection) if self._store.enqueues else 0, len(stale)

    def _interrupt(self, connection: Connection) -> int:
        """Tasks that are running although nobody holds their lease go back to the queue; that attempt is lost."""
        at = time_of(connection, self._clock)
        leased = exists().where(queue.c.id == MESSAGE_ID, queue.c.receipt.is_not(None), queue.c.visible > at)
        query = (
            select(tasks.c.id, tasks.c.job, tasks.c.owner, tasks.c.run, tasks.c.attempts)
            .select_from(jobs.join(tasks, tasks.c.job == jobs.c.id))
            .where(jobs.c.state == State.RUNNING.value, tasks.c.state == State.RUNNING.value, ~leased)
        )
        reason = error_to_dict(WorkerCrashed("The service stopped while the task ran; it was put back."))
        events = [
            TaskEvent("requeued", row.id, row.job, row.owner, row.run, row.attempts, at, error=reason)
            for row in connection.execute(query).all()
        ]
        if events:
            record(connection, events, None)
        return len(events)

    def _requeue(self, connection: Connection) -> int:
        """Queue rows for waiting tasks that have none (which no crash leaves: both are written in one transaction)."""
        missing = ~exists().where(queue.c.id == MESSAGE_ID)
        query = (
            select(tasks.c.job, tasks.c.id, tasks.c.name, tasks.c.source, tasks.c.run)
            .select_from(jobs.join(tasks, tasks.c.job == jobs.c.id))
            .where(jobs.c.state.in_(OPEN), tasks.c.state == State.QUEUED.value, missing)
            .order_by(tasks.c.job, tasks.c.seq)
        )
        by_job: dict[str, list[tuple[NewTask, int]]] = {}
        for row in connection.execute(query).all():
            by_job.setdefault(row.job, []).append((NewTask(row.id, row.name, row.source), row.run))
        for job_id, waiting in by_job.items():
            job = job_from(connection.execute(select(jobs).where(jobs.c.id == job_id)).mappings().one())
            enqueue(connection, job, self._store.bounds, waiting, 0, time_of(connection, self._clock))
        return sum(map(len, by_job.values()))

    # -- retention -------------------------------------------------------------------------------

    async def expired_jobs(self, limit: int = 100) -> list[tuple[str, str]]:
        """Owner and id of up to ``limit`` jobs whose time is over; the caller deletes them."""
        idle = or_(jobs.c.ended.is_not(None), (jobs.c.queued == 0) & (jobs.c.running == 0))
        query = select(jobs.c.owner, jobs.c.id).where(jobs.c.expires <= self._now(), idle)
        query = query.order_by(jobs.c.expires).limit(limit)
        return await self._db.read(lambda c: [(row.owner, row.id) for row in c.execute(query)])

    async def garbage(self, limit: int = 500) -> list[str]:
        """Up to ``limit`` keys of objects that nothing refers to any more.

        Remove the objects, then call :meth:`forget_garbage`; after a crash between the two they are listed again.
        """
        query = select(garbage.c.key).limit(limit)
        return await self._db.read(lambda connection: list(connection.execute(query).scalars()))

    async def unknown(self, keys: Sequence[str]) -> list[str]:
        """Those of ``keys`` (inputs, images) that no row refers to: their process died before it wrote one."""
        rows = encode((key,) for key in keys)
        return await self._db.read(lambda connection: list(connection.execute(_UNKNOWN, {"rows": rows}).scalars()))

    async def gone(self, jobs_: Sequence[str]) -> set[str]:
        """Those of these job ids that no job has (any more)."""
        rows = encode((job,) for job in jobs_)
        found = await self._db.read(lambda connection: set(connection.execute(_JOBS, {"rows": rows}).scalars()))
        return set(jobs_) - found

    async def forget_garbage(self, keys: Sequence[str]) -> None:
        """These objects are gone."""
        if keys:
            rows = encode((key,) for key in keys)
            await self._db.write(lambda connection: connection.execute(_FORGET, {"rows": rows}).rowcount)

    async def prune(self, keep_s: float = IDEMPOTENCY_S, dead_s: float = DEAD_LETTERS_S) -> int:
        """Forget old idempotency keys and dead letters; returns how many."""
        now = self._now()

        def run(connection: Connection) -> int:
            gone = connection.execute(delete(idempotency).where(idempotency.c.created <= now - keep_s)).rowcount
            return gone + connection.execute(delete(dead_letters).where(dead_letters.c.at <= now - dead_s)).rowcount

        return await self._db.write(run)

    # -- figures ---------------------------------------------------------------------------------

    async def statistics(self) -> Statistics:
        """Figures from the rows of jobs; tasks are never counted."""
        columns = {
            State.QUEUED: jobs.c.queued,
            State.RUNNING: jobs.c.running,
            State.SUCCEEDED: jobs.c.succeeded,
            State.FAILED: jobs.c.failed,
            State.CANCELLED: jobs.c.cancelled_tasks,
        }
        sums = select(*(func.coalesce(func.sum(column), 0).label(state.value) for state, column in columns.items()))
        by_state = select(jobs.c.state, func.count()).group_by(jobs.c.state)
        oldest = select(queue.c.sent).where(queue.c.receipt.is_(None)).order_by(queue.c.seq).limit(1)

        def run(connection: Connection) -> Statistics:
            row = connection.execute(sums).mappings().one()
            found = {state: int(count) for state, count in connection.execute(by_state).all()}
            return Statistics(
                tasks={state.value: int(row[state.value]) for state in State},
                jobs={state.value: found.get(state.value, 0) for state in State},
                oldest_queued=connection.execute(oldest).scalar(),
            )

        return await self._db.read(run)
