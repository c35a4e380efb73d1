"""Writing jobs, tasks and their queue rows, inside a transaction of the caller.

Ranks give the jobs of an owner fair shares: a job's i-th task gets the rank of the owner's head (of its priority) + i,
so a job of ten that comes after one of 100,000 is interleaved with it from where the large one stands *now*, and not
after it. (Owners take turns when messages are received: ``engines/turns.py``.)
A job that grows by pages goes on where its last page ended, so pages gain nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    Text,
    bindparam,
    false,
    func,
    insert,
    literal,
    null,
    select,
)

from pixelmill.errors import IdempotencyConflict
from pixelmill.jobs.messages import RunBounds, bodies, message_id, queue_number
from pixelmill.jobs.model import Job, NewTask, State
from pixelmill.jobs.outbox import first_rank
from pixelmill.jobs.records import bounds_column, counts_columns
from pixelmill.jobs.rows import clean, dumps, encode, table_of
from pixelmill.jobs.schema import idempotency, images, jobs, queue, tasks
from pixelmill.pipelines.learned import wants_models

CHUNK = 2000
"""Rows a statement: bounds the size of its parameter (about 1 MB)."""

T = TypeVar("T")

_new_rows = table_of("rows", id=Text, seq=Integer, name=Text, source=Text, size=BigInteger).subquery("new")
_INSERT_TASKS = insert(tasks).from_select(
    [
        "id",
        "seq",
        "name",
        "source",
        "size",
        "job",
        "owner",
        "queued",
        "state",
        "run",
        "attempts",
        "released",
    ],
    select(
        _new_rows.c.id,
        _new_rows.c.seq,
        _new_rows.c.name,
        _new_rows.c.source,
        _new_rows.c.size,
        bindparam("job", type_=Text),
        bindparam("owner", type_=Text),
        bindparam("queued", type_=Double),
        literal(State.QUEUED.value),
        literal(0),
        literal(0),
        false(),
    ),
)

_message_rows = table_of(
    "rows", id=Text, owner=Text, body=Text, priority=Integer, rank=BigInteger, sent=Double, trace=Text
).subquery("new")
INSERT_MESSAGES = insert(queue).from_select(
    ["id", "owner", "body", "priority", "rank", "sent", "trace", "visible", "deliveries", "receipt", "holder"],
    select(
        *_message_rows.c,
        _message_rows.c.sent,
        literal(0),
        null(),
        null(),
    ).where(~select(queue.c.seq).where(queue.c.id == _message_rows.c.id).exists()),
)
"""Queue rows ``[id, owner, body, priority, rank, sent, trace]``; an id that is queued already is left as it is."""

_INSERT_IMAGES = insert(images).from_select(["job", "key", "owner"], table_of("rows", job=Text, key=Text, owner=Text))


def chunks(values: Iterable[T], size: int = CHUNK) -> Iterator[list[T]]:
    """Lists of up to ``size`` values."""
    rest = iter(values)
    while chunk := list(islice(rest, size)):
        yield chunk


def insert_job(connection: Connection, job: Job, next_seq: int, next_rank: int) -> None:
    """The job's row and the references to its images."""
    connection.execute(
        insert(jobs),
        {
            "id": job.id,
            "owner": job.owner,
            "name": clean(job.name),
            "folded": clean(job.name).casefold(),
            "pipeline": job.pipeline,
            "priority": job.priority.value,
            "images": dumps(dict(job.images)),
            "tags": dumps(dict(job.tags)),
            "sealed": job.sealed,
            "cancelled": job.cancelled,
            "state": job.state.value,
            "next_seq": next_seq,
            "next_rank": next_rank,
            "created": job.created,
            "started": job.started,
            "ended": job.ended,
            "expires": job.expires,
            "bounds": bounds_column(job.bounds),
            "trace": job.trace or None,
            **counts_columns(job.counts),
        },
    )
    keys = sorted(set(job.images.values()))
    if keys:
        connection.execute(_INSERT_IMAGES, {"rows": encode((job.id, key, job.owner) for key in keys)})


def insert_tasks(connection: Connection, job: Job, new: Sequence[NewTask], first_seq: int, at: float) -> None:
    """Rows of ``tasks``, all queued."""
    numbered = ((task.id, first_seq + i, clean(task.name), task.source, task.size) for i, task in enumerate(new))
    for chunk in chunks(numbered):
        connection.execute(_INSERT_TASKS, {"rows": encode(chunk), "job": job.id, "owner": job.owner, "queued": at})


def enqueue(
    connection: Connection,
    job: Job,
    bounds: RunBounds,
    waiting: Sequence[tuple[NewTask, int]],
    next_rank: int,
    at: float,
) -> int:
    """Queue rows for tasks (each with its run); returns the rank that follows the last one."""
    number = queue_number(job.priority, models=wants_models(job.pipeline))
    rank = first_rank(head_rank(connection, job.owner, number), next_rank)
    numbered = (
        (message_id(task.id, run), job.owner, body, number, rank + i, at, job.trace or None)
        for i, ((task, run), body) in enumerate(zip(waiting, bodies(job, bounds, waiting), strict=True))
    )
    for chunk in chunks(numbered):
        connection.execute(INSERT_MESSAGES, {"rows": encode(chunk)})
    return rank + len(waiting)


def head_rank(connection: Connection, owner: str, number: int) -> int | None:
    """The smallest rank that an owner has queued in a class, or None where nothing is."""
    found = connection.execute(select(func.min(queue.c.rank)).where(queue.c.priority == number, queue.c.owner == owner))
    rank = found.scalar()
    return None if rank is None else int(rank)


def replayed(connection: Connection, owner: str, key: str, fingerprint: str) -> str | None:
    """The job that an idempotency key made, or None; raises :class:`IdempotencyConflict`."""
    row = connection.execute(
        select(idempotency.c.fingerprint, idempotency.c.job).where(
            idempotency.c.owner == owner, idempotency.c.key == key
        )
    ).one_or_none()
    if row is None:
        return None
    if row.fingerprint != fingerprint:
        raise IdempotencyConflict(
            f"The idempotency key {key!r} was used before, with another request. Use a new key for a new request.",
            job=row.job,
        )
    return str(row.job)


def remember(connection: Connection, owner: str, key: str, fingerprint: str, job: str, at: float) -> None:
    """Store an idempotency key with the job it made."""
    connection.execute(
        insert(idempotency), {"owner": owner, "key": key, "fingerprint": fingerprint, "job": job, "created": at}
    )
