"""Turns task events into the state of tasks and jobs, a batch a transaction; a batch applied twice changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, Connection, Double, Integer, RowMapping, Text, insert, select, update

from pixelmill.jobs import findings_store
from pixelmill.jobs.eventlog import EventRow, job_event, log
from pixelmill.jobs.findings import NOTHING, findings_of
from pixelmill.jobs.model import Counts, State, TaskEvent, job_state
from pixelmill.jobs.notices import announce
from pixelmill.jobs.records import counts_from
from pixelmill.jobs.rows import clean, dumps, encode, table_of
from pixelmill.jobs.schema import attempts, jobs, tasks
from pixelmill.jobs.transitions import LostAttempt, TaskFacts, advance, is_dead, is_legal, moved


@dataclass(frozen=True, slots=True)
class TaskChange:
    """A task that a batch changed: what it was, what it is, and its last event."""

    task: str
    job: str
    owner: str
    before: State
    after: State
    queued: float
    started: float | None
    event: TaskEvent


@dataclass(frozen=True, slots=True)
class JobChange:
    """A job that a batch changed; ``ended`` is True if this batch ended it."""

    job: str
    owner: str
    state: State
    counts: Counts
    ended: bool


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a batch changed; all empty if it changed nothing. ``moving``: owner and job of who told how far it is."""

    tasks: Sequence[TaskChange] = ()
    jobs: Sequence[JobChange] = ()
    moving: Sequence[tuple[str, str]] = ()


_ids = table_of("rows", id=Text).subquery("ids")
_FETCH = select(
    tasks.c.id,
    tasks.c.job,
    tasks.c.owner,
    tasks.c.seq,
    tasks.c.name,
    tasks.c.state,
    tasks.c.run,
    tasks.c.attempts,
    tasks.c.queued,
    tasks.c.started,
    tasks.c.target,
    tasks.c.worker,
    tasks.c.why,
    tasks.c.cost,
).select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))

_changed = table_of(
    "rows",
    id=Text,
    state=Text,
    attempts=Integer,
    started=Double,
    ended=Double,
    outcome=Text,
    error=Text,
    target=Text,
    worker=Text,
    why=Text,
    cost=Double,
    dead=Boolean,
    final=Boolean,
).subquery("changed")
_UPDATE = (
    update(tasks)
    .values(
        {
            name: _changed.c[name]
            for name in (
                "state",
                "attempts",
                "started",
                "ended",
                "outcome",
                "error",
                "target",
                "worker",
                "why",
                "cost",
                "dead",
            )
        }
        | {"released": tasks.c.released & ~_changed.c.final}
    )
    .where(tasks.c.id == _changed.c.id)
)

_LOST_COLUMNS = {
    "task": Text,
    "run": Integer,
    "attempt": Integer,
    "job": Text,
    "owner": Text,
    "started": Double,
    "ended": Double,
    "error": Text,
    "target": Text,
    "worker": Text,
}
_INSERT_LOST = insert(attempts).from_select(list(_LOST_COLUMNS), table_of("rows", **_LOST_COLUMNS))

_FETCH_JOBS = select(
    jobs.c.id,
    jobs.c.owner,
    jobs.c.sealed,
    jobs.c.cancelled,
    jobs.c.queued,
    jobs.c.running,
    jobs.c.succeeded,
    jobs.c.failed,
    jobs.c.cancelled_tasks,
    jobs.c.created,
    jobs.c.started,
    jobs.c.ended,
    jobs.c.expires,
).select_from(_ids.join(jobs, jobs.c.id == _ids.c.id))

_job_rows = table_of(
    "rows",
    id=Text,
    state=Text,
    queued=Integer,
    running=Integer,
    succeeded=Integer,
    failed=Integer,
    cancelled_tasks=Integer,
    started=Double,
    ended=Double,
    expires=Double,
).subquery("changed")
_UPDATE_JOBS = (
    update(jobs)
    .values({column.name: column for column in _job_rows.c if column.name != "id"})
    .where(jobs.c.id == _job_rows.c.id)
)


@dataclass(slots=True)
class _Entry:
    """A task while its events are applied."""

    row: RowMapping
    before: TaskFacts
    now: TaskFacts
    last: TaskEvent | None = None
    progress: TaskEvent | None = None


def record(connection: Connection, events: Sequence[TaskEvent], retention_s: float | None) -> Recorded:
    """Apply the events in order: tasks, what was found, lost attempts, counts and states of jobs, the event log."""
    entries = _fetch(connection, events)
    lost: list[tuple[RowMapping, LostAttempt]] = []
    for event in events:
        entry = entries.get(event.task)
        if entry is None or entry.row["owner"] != event.owner:
            continue  # the job was deleted meanwhile
        if event.kind == "progress":
            entry.progress = event
            continue
        after, given_up = advance(entry.now, event)
        if after is entry.now:
            continue
        assert is_legal(entry.now.state, after.state)
        entry.now, entry.last = after, event
        if given_up is not None:
            lost.append((entry.row, given_up))
    changed = [entry for entry in entries.values() if entry.last is not None]
    moving = [entry for entry in entries.values() if _moves(entry)]
    jobs_moving = list(dict.fromkeys((entry.row["owner"], entry.row["job"]) for entry in moving))
    if not changed:
        log(connection, list(map(_progress_row, moving)))
        return Recorded(moving=jobs_moving)
    connection.execute(_UPDATE, {"rows": encode(map(_task_row, changed))})
    if lost:
        connection.execute(_INSERT_LOST, {"rows": encode(_lost_row(row, attempt) for row, attempt in lost)})
    findings_store.write(connection, map(_found, changed))
    at = max(event.at for event in events)
    job_changes, job_entries = _record_jobs(connection, changed, retention_s)
    log(connection, [*map(_event_row, changed), *job_entries, *map(_progress_row, moving)])
    announce(connection, [(one.owner, one.job, one.state, one.counts, at) for one in job_changes if one.ended])
    return Recorded([_change(entry) for entry in changed], job_changes, jobs_moving)


def _fetch(connection: Connection, events: Iterable[TaskEvent]) -> dict[str, _Entry]:
    ids = encode((task,) for task in dict.fromkeys(event.task for event in events))
    entries = {}
    for row in connection.execute(_FETCH, {"rows": ids}).mappings():
        facts = TaskFacts(
            state=State(row["state"]),
            run=row["run"],
            attempts=row["attempts"],
            started=row["started"],
            target=row["target"],
            worker=row["worker"],
            why=row["why"],
            cost=row["cost"],
        )
        entries[row["id"]] = _Entry(row, facts, facts)
    return entries


def _record_jobs(
    connection: Connection, changed: Sequence[_Entry], retention_s: float | None
) -> tuple[list[JobChange], list[EventRow]]:
    """Counts and states of the jobs of the changed tasks; one event a job and batch."""
    by_job: dict[str, list[_Entry]] = {}
    for entry in changed:
        by_job.setdefault(entry.row["job"], []).append(entry)
    changes, rows, entries = [], [], []
    for row in connection.execute(_FETCH_JOBS, {"rows": encode((job,) for job in by_job)}).mappings():
        mine = by_job[row["id"]]
        counts = counts_from(row)
        for entry in mine:
            counts = moved(counts, entry.before.state, entry.now.state)
        state = job_state(counts, sealed=row["sealed"], cancelled=row["cancelled"])
        times = [entry.last.at for entry in mine if entry.last is not None]
        started, ended, expires = row["started"], row["ended"], row["expires"]
        if started is None:
            begun = [entry.now.started for entry in mine if entry.now.started is not None]
            started = min(begun) if begun else None
        if state.is_final and ended is None:
            ended = max(times)
            # A worker whose clock is far behind must not make it expire at once.
            expires = max(ended, row["created"]) + retention_s if retention_s is not None else expires
        rows.append(
            (
                row["id"],
                state.value,
                counts.queued,
                counts.running,
                counts.succeeded,
                counts.failed,
                counts.cancelled,
                started,
                ended,
                expires,
            )
        )
        entries.append(job_event(row["owner"], row["id"], state, counts, max(times)))
        changes.append(JobChange(row["id"], row["owner"], state, counts, ended=state.is_final and row["ended"] is None))
    connection.execute(_UPDATE_JOBS, {"rows": encode(rows)})
    return changes, entries


def _task_row(entry: _Entry) -> tuple[Any, ...]:
    now = entry.now
    return (
        entry.row["id"],
        now.state.value,
        now.attempts,
        now.started,
        now.ended,
        None if now.outcome is None else dumps(now.outcome),
        None if now.error is None else dumps(now.error),
        _name(now.target),
        _name(now.worker),
        _name(now.why),
        now.cost,
        is_dead(now),
        now.state.is_final,
    )


def _found(entry: _Entry) -> findings_store.Found:
    row, now = entry.row, entry.now
    found = findings_of(now.outcome) if now.state is State.SUCCEEDED else NOTHING
    return (row["owner"], row["job"], row["id"], found)


def _lost_row(row: RowMapping, attempt: LostAttempt) -> tuple[Any, ...]:
    return (
        row["id"],
        row["run"],
        attempt.attempt,
        row["job"],
        row["owner"],
        attempt.started,
        attempt.ended,
        None if attempt.error is None else dumps(attempt.error),
        _name(attempt.target),
        _name(attempt.worker),
    )


def _name(text: str | None) -> str | None:
    """What a database stores: one event that it refuses would hold up those of everybody else."""
    return None if text is None else clean(text)


def _event_row(entry: _Entry) -> EventRow:
    row, now = entry.row, entry.now
    assert entry.last is not None
    data: dict[str, Any] = {"id": row["id"], "state": now.state.value, "name": row["name"], "seq": row["seq"]}
    if now.error is not None:
        data["error"] = now.error.get("type")
    return (row["owner"], row["job"], "task", dumps(data), entry.last.at)


def _moves(entry: _Entry) -> bool:
    """Whether it told how far it is and still runs, in the same attempt. Of several in a batch the last one counts."""
    told, now = entry.progress, entry.now
    return told is not None and now.state is State.RUNNING and (told.run, told.attempt) == (now.run, now.attempts)


def _progress_row(entry: _Entry) -> EventRow:
    row, told = entry.row, entry.progress
    assert told is not None
    data = {"id": row["id"], "name": row["name"], "seq": row["seq"], "attempt": told.attempt}
    return (row["owner"], row["job"], "progress", dumps(data | {"progress": dict(told.progress or {})}), told.at)


def _change(entry: _Entry) -> TaskChange:
    assert entry.last is not None
    return TaskChange(
        task=entry.row["id"],
        job=entry.row["job"],
        owner=entry.row["owner"],
        before=entry.before.state,
        after=entry.now.state,
        queued=entry.row["queued"],
        started=entry.now.started,
        event=entry.last,
    )
