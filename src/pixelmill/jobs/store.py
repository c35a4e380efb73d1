"""The job store: jobs, their tasks and what happens to them, for one owner at a time.

It must not know object stores, queues other than the table beside it, or targets. What belongs to another owner is
not there (:class:`NotFound`). Uploads, tokens and the event log have files of their own; ``Upkeep`` is for the
service itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Select, Text, delete, func, select, text

from pixelmill.errors import IllegalTransition
from pixelmill.jobs import bulk
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import job_event, log
from pixelmill.jobs.intake import enqueue, insert_job, insert_tasks, remember, replayed
from pixelmill.jobs.listing import Wanted, jobs_query
from pixelmill.jobs.messages import RunBounds
from pixelmill.jobs.model import Counts, Job, NewTask, Page, State, Task, TaskEvent, job_state
from pixelmill.jobs.notices import NewWebhook, add_webhook, announce
from pixelmill.jobs.recorder import Recorded, record
from pixelmill.jobs.records import (
    attempt_from,
    check_limit,
    cursor_of,
    job_from,
    no_task,
    page_of,
    position_of,
    task_from,
)
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import attempts, garbage, jobs, tasks
from pixelmill.jobs.uploads import use_uploads

_KEYS = table_of("rows", key=Text)


class JobStore:
    """Jobs and tasks in one database.

    ``bounds`` go into every message. ``enqueue``: write queue rows with the tasks (the queue is in the same
    database); without it the tasks wait for an outbox. ``retention_s``: a job expires so long after its end.
    ``now`` gives seconds since the epoch; without it, what queue rows carry is the database's time (see ``time_of``).
    """

    def __init__(
        self,
        db: Database,
        *,
        bounds: RunBounds | None = None,
        enqueue: bool = True,
        retention_s: float | None = None,
        now: Callable[[], float] | None = None,
    ) -> None:
        self.db = db
        self.bounds = bounds or RunBounds()
        self.enqueues = enqueue
        self._retention_s = retention_s
        self._clock = now
        self._now = now or time.time

    # -- making ----------------------------------------------------------------------------------

    async def create_job(
        self,
        job: Job,
        new: Sequence[NewTask],
        *,
        uploads: Sequence[str] = (),
        idempotency: tuple[str, str] | None = None,
        webhook: NewWebhook | None = None,
    ) -> tuple[Job, bool]:
        """Record a job with its tasks, in one transaction; True where it was made now.

        State, counts and ``ended`` follow from the tasks. ``uploads`` are marked as used (:class:`NotFound` if one
        is gone). ``webhook`` is told when the job ends. ``idempotency`` is key and fingerprint: the same again returns
        the job that is there, another fingerprint raises :class:`IdempotencyConflict`.
        """

        def run(connection: Connection) -> tuple[Job, bool]:
            if idempotency is not None:
                known = replayed(connection, job.owner, *idempotency)
                if known is not None:
                    return bulk.get_job(connection, job.owner, known), False
                remember(connection, job.owner, *idempotency, job.id, job.created)
            use_uploads(connection, job.owner, uploads)
            made = self._with_counts(job, Counts(queued=len(new)))
            if webhook is not None:
                add_webhook(connection, webhook)
            insert_job(connection, made, next_seq=len(new), next_rank=0)
            next_rank = self._add(connection, made, new, first_seq=0, next_rank=0)
            bulk.save_job(connection, made, next_rank)
            log(connection, [job_event(made.owner, made.id, made.state, made.counts, made.created)])
            return made, True

        return await self.db.write(run)

    async def replayed(self, owner: str, key: str, fingerprint: str) -> Job | None:
        """The job that an idempotency key made, or None; raises :class:`IdempotencyConflict`.

        Spares the work before :meth:`create_job`, which decides; it is no promise.
        """

        def run(connection: Connection) -> Job | None:
            known = replayed(connection, owner, key, fingerprint)
            return None if known is None else bulk.get_job(connection, owner, known)

        return await self.db.read(run)

    async def add_tasks(
        self, owner: str, job_id: str, new: Sequence[NewTask], *, seal: bool = False, uploads: Sequence[str] = ()
    ) -> Job:
        """Add tasks to a job that is not sealed (else :class:`IllegalTransition`), and seal it if asked."""

        def run(connection: Connection) -> Job:
            job = bulk.get_job(connection, owner, job_id)
            if job.sealed:
                if seal and not new:
                    return job  # the request that sealed it came twice
                raise IllegalTransition("The job is sealed: it takes no more tasks. Submit another job.")
            use_uploads(connection, owner, uploads)
            place = connection.execute(select(jobs.c.next_seq, jobs.c.next_rank).where(jobs.c.id == job_id)).one()
            counts = replace(job.counts, queued=job.counts.queued + len(new))
            job = self._with_counts(replace(job, sealed=seal), counts)
            next_rank = self._add(connection, job, new, place.next_seq, place.next_rank)
            bulk.save_job(connection, job, next_rank, place.next_seq + len(new))
            log(connection, [job_event(owner, job_id, job.state, job.counts, self._now())])
            if job.state.is_final:
                announce(connection, [(owner, job_id, job.state, job.counts, self._now())])
            return job

        return await self.db.write(run)

    def _add(self, connection: Connection, job: Job, new: Sequence[NewTask], first_seq: int, next_rank: int) -> int:
        """Rows of tasks, and of the queue; returns the next rank."""
        at = time_of(connection, self._clock)
        insert_tasks(connection, job, new, first_seq, at)
        # An object that is used again is no garbage any more.
        keys = [task.source[len(bulk.KEY_PREFIX) :] for task in new if task.source.startswith(bulk.KEY_PREFIX)]
        keys += job.images.values()
        if keys and connection.execute(select(garbage.c.key).limit(1)).first():
            connection.execute(delete(garbage).where(garbage.c.key.in_(_KEYS)), {"rows": encode([k] for k in keys)})
        if not self.enqueues or not new:
            return next_rank
        return enqueue(connection, job, self.bounds, [(task, 0) for task in new], next_rank, at)

    def _with_counts(self, job: Job, counts: Counts) -> Job:
        """The job with counts and what follows from them."""
        state = job_state(counts, sealed=job.sealed, cancelled=job.cancelled)
        ended = (job.ended or self._now()) if state.is_final else None
        expires = job.expires
        if self._retention_s is not None and (ended is not None or not job.sealed):
            # One that is never sealed must not stay for ever: it expires when it stopped growing long ago.
            expires = (ended or self._now()) + self._retention_s
        return replace(job, counts=counts, state=state, ended=ended, expires=expires)

    # -- looking ---------------------------------------------------------------------------------

    async def job(self, owner: str, job_id: str) -> Job:
        """One job."""
        return await self.db.read(lambda connection: bulk.get_job(connection, owner, job_id))

    async def list_jobs(
        self,
        owner: str | None,
        *,
        limit: int = 50,
        cursor: str | None = None,
        state: State | None = None,
        search: str = "",
    ) -> Page:
        """Jobs (of one owner), newest first. Pages are stable: a job that comes meanwhile appears on no later page.

        ``search``: those with this in their name, or with this id; letters of either case.
        """
        query = jobs_query(Wanted(owner, state, search), limit=limit, cursor=cursor)
        found = await self.db.read(lambda c: [job_from(row) for row in c.execute(query).mappings()])
        return page_of(found, limit, lambda last: cursor_of(float(last.created), last.id))

    async def count(self, state: State) -> int:
        """How many jobs of all owners are in that state; quick where they are few."""
        query = select(func.count()).select_from(jobs).where(jobs.c.state == state.value)
        return await self.db.read(lambda connection: int(connection.execute(query).scalar() or 0))

    async def owner_of_job(self, job_id: str) -> str | None:
        """Whose it is; None where there is no such job."""
        query = select(jobs.c.owner).where(jobs.c.id == job_id)
        return await self.db.read(lambda connection: connection.execute(query).scalar())

    async def owner_of_task(self, task_id: str) -> str | None:
        """Whose it is; None where there is no such task."""
        query = select(tasks.c.owner).where(tasks.c.id == task_id)
        return await self.db.read(lambda connection: connection.execute(query).scalar())

    async def list_tasks(
        self,
        owner: str,
        job_id: str,
        *,
        limit: int = 100,
        cursor: str | None = None,
        state: State | None = None,
    ) -> Page:
        """Tasks of a job, in the order they were submitted."""
        after = -1 if cursor is None else position_of(cursor, int)[0]
        count = check_limit(limit) + 1

        def run(connection: Connection) -> list[Task]:
            trace = bulk.get_job(connection, owner, job_id).trace
            query = tasks_after(connection, job_id, after, state).limit(count)
            return [task_from(row, trace) for row in connection.execute(query).mappings()]

        return page_of(await self.db.read(run), limit, lambda last: cursor_of(last.seq))

    async def task(self, owner: str, task_id: str) -> Task:
        """One task."""
        return await self.db.read(lambda connection: _get_task(connection, owner, task_id))

    async def attempts(self, owner: str, task_id: str) -> Sequence[Mapping[str, Any]]:
        """Lost attempts of a task, oldest first: run, attempt, started, ended, target, worker, error."""
        query = select(attempts).where(attempts.c.task == task_id).order_by(attempts.c.run, attempts.c.attempt)

        def run(connection: Connection) -> list[Mapping[str, Any]]:
            _get_task(connection, owner, task_id)
            return [attempt_from(row) for row in connection.execute(query).mappings()]

        return await self.db.read(run)

    # -- changing --------------------------------------------------------------------------------

    async def record(self, events: Sequence[TaskEvent]) -> Recorded:
        """Apply task events, in order, in one transaction; returns what changed, once it is durable.

        Events of another run, after a final state, of a task that is gone, or heard before change nothing.
        """
        if not events:
            return Recorded()
        return await self.db.write(lambda connection: record(connection, events, self._retention_s))

    async def cancel(self, owner: str, job_id: str) -> tuple[Job, list[str]]:
        """Cancel all open tasks and seal the job; returns it with the ids of messages that a worker may hold.

        Those are cancelled too (what they still report changes nothing): the caller stops them, to free their
        slots. A job that has ended is returned as it is.
        """
        return await self.db.write(
            lambda connection: bulk.cancel(connection, owner, job_id, self._now(), self._retention_s)
        )

    async def retry(self, owner: str, job_id: str) -> Job:
        """Queue failed and cancelled tasks again, in a new run; :class:`IllegalTransition` if there are none."""
        bounds = self.bounds if self.enqueues else None
        return await self.db.write(
            lambda connection: bulk.retry(connection, owner, job_id, time_of(connection, self._clock), bounds)
        )

    async def delete(self, owner: str, job_id: str) -> list[str]:
        """Remove the job and all that belongs to it; returns the ids of messages that a worker may hold.

        Objects that nothing refers to any more are listed by :meth:`Upkeep.garbage` from now on.
        """
        return await self.db.write(lambda connection: bulk.remove(connection, owner, job_id, self._now()))


def _get_task(connection: Connection, owner: str, task_id: str) -> Task:
    query = select(tasks, jobs.c.trace).select_from(tasks.join(jobs, jobs.c.id == tasks.c.job))
    row = connection.execute(query.where(tasks.c.id == task_id, tasks.c.owner == owner)).mappings().one_or_none()
    if row is None:
        raise no_task(task_id)
    return task_from(row, row["trace"] or "")


def tasks_after(connection: Connection, job_id: str, after: int, state: State | None) -> Select[Any]:
    """Tasks of a job behind a place, in order, which ``connection`` will read from the index as far as is asked for.

    PostgreSQL knows nothing yet of a job that has just come, takes it for a small one, and would read and sort all of
    its tasks for each page until it is analyzed. For the transaction it is told to sort nothing that it need not.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(text("SET LOCAL enable_sort = off"))
    query = select(tasks).where(tasks.c.job == job_id, tasks.c.seq > after)
    if state is not None:
        query = query.where(tasks.c.state == state.value)
    return query.order_by(tasks.c.seq)
