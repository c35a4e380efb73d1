"""Verbs on all tasks of a job at once, as set-based SQL: cancel, retry, delete; in a transaction of the caller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Delete,
    Select,
    Text,
    cast,
    delete,
    exists,
    func,
    insert,
    literal,
    null,
    select,
    update,
)

from pixelmill.errors import Cancelled, IllegalTransition, error_to_dict
from pixelmill.jobs import findings_store
from pixelmill.jobs.eventlog import job_event, log
from pixelmill.jobs.intake import enqueue
from pixelmill.jobs.messages import RunBounds, split_message_id
from pixelmill.jobs.model import Counts, Job, NewTask, State, job_state
from pixelmill.jobs.notices import announce
from pixelmill.jobs.records import counts_columns, job_from, no_job
from pixelmill.jobs.rows import dumps, encode, table_of
from pixelmill.jobs.schema import attempts, events, garbage, idempotency, images, jobs, queue, tasks, uploads

OPEN = (State.QUEUED.value, State.RUNNING.value)
ENDED_BADLY = (State.FAILED.value, State.CANCELLED.value)
KEY_PREFIX = "key:"
"""How a source names an object of the service's own store (see ``NewTask``)."""

MESSAGE_ID = tasks.c.id + "/" + cast(tasks.c.run, Text)


def get_job(connection: Connection, owner: str, job_id: str) -> Job:
    """The job; raises :class:`NotFound`."""
    row = connection.execute(select(jobs).where(jobs.c.id == job_id, jobs.c.owner == owner)).mappings().one_or_none()
    if row is None:
        raise no_job(job_id)
    return job_from(row)


def save_job(connection: Connection, job: Job, next_rank: int | None = None, next_seq: int | None = None) -> None:
    """Write what changes on a job's row, and log it."""
    values: dict[str, Any] = {
        "state": job.state.value,
        "sealed": job.sealed,
        "cancelled": job.cancelled,
        "started": job.started,
        "ended": job.ended,
        "expires": job.expires,
        **counts_columns(job.counts),
    }
    if next_rank is not None:
        values["next_rank"] = next_rank
    if next_seq is not None:
        values["next_seq"] = next_seq
    connection.execute(update(jobs).where(jobs.c.id == job.id).values(values))


def cancel(
    connection: Connection, owner: str, job_id: str, at: float, retention_s: float | None
) -> tuple[Job, list[str]]:
    """End every open task; returns the job, and the ids of messages that a worker may hold right now."""
    job = get_job(connection, owner, job_id)
    if job.state.is_final:
        return job, []
    held = _held(connection, job_id)
    connection.execute(_without_messages(job_id, OPEN))
    reason = dumps(error_to_dict(Cancelled("The job was cancelled.")))
    connection.execute(
        update(tasks)
        .where(tasks.c.job == job_id, tasks.c.state.in_(OPEN))
        .values(state=State.CANCELLED.value, ended=at, error=reason, released=False)
    )
    counts = replace(
        job.counts, queued=0, running=0, cancelled=job.counts.cancelled + job.counts.queued + job.counts.running
    )
    state = job_state(counts, sealed=True, cancelled=True)
    expires = job.expires if retention_s is None else at + retention_s
    job = replace(job, counts=counts, state=state, sealed=True, cancelled=True, ended=at, expires=expires)
    save_job(connection, job)
    log(connection, [job_event(owner, job_id, job.state, counts, at)])
    announce(connection, [(owner, job_id, job.state, counts, at)])
    return job, held


def retry(connection: Connection, owner: str, job_id: str, at: float, bounds: RunBounds | None) -> Job:
    """Put failed and cancelled tasks back, in a new run; raises :class:`IllegalTransition` if there are none.

    ``bounds`` None: the tasks wait for the outbox.
    """
    job = get_job(connection, owner, job_id)
    if not job.counts.failed + job.counts.cancelled:
        raise IllegalTransition("No task of this job has failed or was cancelled: there is nothing to retry.")
    return _again(
        connection, job, at, bounds, tasks.c.state.in_(ENDED_BADLY), replace(job.counts, failed=0, cancelled=0)
    )


def redrive(connection: Connection, job: Job, at: float, bounds: RunBounds | None, ids: Sequence[str]) -> Job:
    """Put these tasks of the job back, in a new run; the caller knows that all of them are dead."""
    counts = replace(job.counts, failed=job.counts.failed - len(ids))
    return _again(connection, job, at, bounds, tasks.c.id.in_(ids), counts)


def _again(
    connection: Connection, job: Job, at: float, bounds: RunBounds | None, which: ColumnElement[bool], left: Counts
) -> Job:
    """Put tasks that have ended back; ``left`` are the counts of the job without them."""
    condition = (tasks.c.job == job.id, which)
    waiting = []
    if bounds is not None:
        found = connection.execute(
            select(tasks.c.id, tasks.c.name, tasks.c.source, tasks.c.run).where(*condition).order_by(tasks.c.seq)
        )
        waiting = [(NewTask(row.id, row.name, row.source), row.run + 1) for row in found.all()]
    connection.execute(
        update(tasks)
        .where(*condition)
        .values(
            state=State.QUEUED.value,
            run=tasks.c.run + 1,
            attempts=0,
            released=False,
            queued=at,
            started=null(),
            ended=null(),
            outcome=null(),
            error=null(),
            target=null(),
            worker=null(),
            dead=False,
        )
    )
    counts = replace(left, queued=left.queued + job.counts.total - left.total)
    state = job_state(counts, sealed=job.sealed, cancelled=False)
    # One that is never sealed must not stay for ever: it still expires (see ``JobStore._with_counts``).
    expires = None if job.sealed else job.expires
    job = replace(job, counts=counts, state=state, cancelled=False, ended=None, expires=expires)
    next_rank = None if bounds is None else enqueue(connection, job, bounds, waiting, 0, at)
    save_job(connection, job, next_rank)
    log(connection, [job_event(job.owner, job.id, state, counts, at)])
    return job


def remove(connection: Connection, owner: str, job_id: str, at: float) -> list[str]:
    """Remove the job with all that belongs to it; returns the ids of messages that a worker may hold right now.

    Objects that nothing refers to any more become garbage rows in the same transaction, so a crash leaves no
    object behind that nobody knows of.
    """
    get_job(connection, owner, job_id)
    held = _held(connection, job_id)
    connection.execute(_without_messages(job_id, tuple(State)))
    _discard_results(connection, owner, job_id)
    _discard_inputs(connection, owner, job_id)
    findings_store.remove(connection, job_id)
    for table in (tasks, attempts, images, idempotency, events):
        connection.execute(delete(table).where(table.c.job == job_id))
    connection.execute(delete(jobs).where(jobs.c.id == job_id))
    log(connection, [(owner, job_id, "deleted", dumps({"id": job_id}), at)])
    return held


def _held(connection: Connection, job_id: str) -> list[str]:
    """Messages of tasks that run, are released, or are leased (and perhaps have begun without a word yet)."""
    leased = connection.execute(select(queue.c.id).where(queue.c.receipt.is_not(None))).scalars().all()
    ids = table_of("rows", id=Text).subquery("ids")
    query = (
        select(MESSAGE_ID)
        .select_from(ids.join(tasks, tasks.c.id == ids.c.id))
        .where(tasks.c.job == job_id, tasks.c.state.in_(OPEN))
        .union(
            select(MESSAGE_ID).where(tasks.c.job == job_id, tasks.c.state == State.RUNNING.value),
            select(MESSAGE_ID).where(tasks.c.job == job_id, tasks.c.released),
        )
    )
    rows = encode((split_message_id(one)[0],) for one in leased if "/" in one)
    return list(connection.execute(query, {"rows": rows}).scalars())


def _without_messages(job_id: str, states: tuple[str, ...]) -> Delete:
    mine = select(MESSAGE_ID).where(tasks.c.job == job_id, tasks.c.state.in_(states))
    return delete(queue).where(queue.c.id.in_(mine))


def _discard(connection: Connection, keys: Select[Any]) -> None:
    """Make garbage of the keys (columns ``key``, ``owner``) that are not garbage yet."""
    found = keys.subquery("found")
    new = select(found.c.key, found.c.owner).where(~exists().where(garbage.c.key == found.c.key))
    connection.execute(insert(garbage).from_select(["key", "owner"], new))


def _discard_results(connection: Connection, owner: str, job_id: str) -> None:
    """Result and document of each run of each task (see ``model.result_key``)."""
    last = connection.execute(select(func.max(tasks.c.run)).where(tasks.c.job == job_id)).scalar() or 0
    base = literal(f"results/{owner}/{job_id}/") + tasks.c.id
    for run in range(last + 1):
        for ending in ("", ".json"):
            key = base + (ending if run == 0 else f"-r{run}{ending}")
            _discard(
                connection,
                select(key.label("key"), tasks.c.owner).where(tasks.c.job == job_id, tasks.c.run >= run),
            )


def _discard_inputs(connection: Connection, owner: str, job_id: str) -> None:
    """Sources and images in our own store that no other job refers to, and the uploads they came from."""
    other, own = tasks.alias("other"), func.substr(tasks.c.source, len(KEY_PREFIX) + 1)
    sources = (
        select(own.label("key"), tasks.c.owner)
        .distinct()
        .where(
            tasks.c.job == job_id,
            tasks.c.source.startswith(KEY_PREFIX),
            ~exists().where(other.c.source == tasks.c.source, other.c.job != job_id),
            ~exists().where(images.c.key == own, images.c.job != job_id),
        )
    )
    connection.execute(
        delete(uploads).where(uploads.c.key.in_(select(sources.subquery("gone").c.key)), uploads.c.owner == owner)
    )
    _discard(connection, sources)
    again = images.alias("again")
    pictures = select(images.c.key, images.c.owner).where(
        images.c.job == job_id,
        ~exists().where(again.c.key == images.c.key, again.c.job != job_id),
        ~exists().where(tasks.c.source == KEY_PREFIX + images.c.key, tasks.c.job != job_id),
    )
    _discard(connection, pictures)
