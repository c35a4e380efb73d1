"""Between rows and the values of the model, and between pages and their cursors. No I/O."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import RowMapping

from pixelmill.errors import NotFound, RequestError
from pixelmill.jobs.model import UNBOUND, Counts, Job, JobBounds, LoggedEvent, Page, Priority, State, Task, Upload
from pixelmill.jobs.rows import dumps

MAX_PAGE = 1000
MAX_POSITION = 2**62
"""Numbers in a cursor are smaller: any database can compare with them."""


def job_from(row: RowMapping) -> Job:
    """A job from a row of ``jobs``."""
    return Job(
        id=row["id"],
        owner=row["owner"],
        pipeline=row["pipeline"],
        state=State(row["state"]),
        counts=counts_from(row),
        created=row["created"],
        name=row["name"],
        priority=Priority(row["priority"]),
        images=json.loads(row["images"]),
        tags=json.loads(row["tags"]),
        sealed=bool(row["sealed"]),
        cancelled=bool(row["cancelled"]),
        started=row["started"],
        ended=row["ended"],
        expires=row["expires"],
        bounds=bounds_from(row["bounds"]),
    )


def bounds_from(column: str) -> JobBounds:
    """The bounds of a job from its row: JSON of those that it has, or nothing."""
    return JobBounds(**json.loads(column)) if column else UNBOUND


def bounds_column(bounds: JobBounds) -> str:
    """The inverse of :func:`bounds_from`."""
    given = {name: value for name, value in asdict(bounds).items() if value is not None}
    return dumps(given) if given else ""


def counts_from(row: RowMapping) -> Counts:
    """The counts that stand on a row of ``jobs``."""
    return Counts(
        queued=row["queued"],
        running=row["running"],
        succeeded=row["succeeded"],
        failed=row["failed"],
        cancelled=row["cancelled_tasks"],
    )


def counts_columns(counts: Counts) -> dict[str, int]:
    """The inverse of :func:`counts_from`."""
    return {
        "queued": counts.queued,
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled_tasks": counts.cancelled,
    }


def counts_dict(counts: Counts) -> dict[str, int]:
    """Counts as events and APIs show them."""
    return {state.value: getattr(counts, state.value) for state in State}


def task_from(row: RowMapping) -> Task:
    """A task from a row of ``tasks``."""
    return Task(
        id=row["id"],
        job=row["job"],
        owner=row["owner"],
        seq=row["seq"],
        name=row["name"],
        source=row["source"],
        state=State(row["state"]),
        queued=row["queued"],
        run=row["run"],
        attempts=row["attempts"],
        started=row["started"],
        ended=row["ended"],
        outcome=json.loads(row["outcome"]) if row["outcome"] else None,
        error=json.loads(row["error"]) if row["error"] else None,
        target=row["target"],
        worker=row["worker"],
        why=row["why"],
        cost=row["cost"],
    )


def upload_from(row: RowMapping) -> Upload:
    """An upload from a row of ``uploads``."""
    return Upload(**{name: row[name] for name in ("id", "owner", "name", "key", "size", "created", "expires")})


def event_from(row: RowMapping) -> LoggedEvent:
    """An entry of the event log from a row of ``events``."""
    return LoggedEvent(
        id=row["id"],
        owner=row["owner"],
        job=row["job"],
        type=row["type"],
        data=json.loads(row["data"]),
        at=row["at"],
    )


def attempt_from(row: RowMapping) -> Mapping[str, Any]:
    """A lost attempt as plain values."""
    record = {name: row[name] for name in ("run", "attempt", "started", "ended", "target", "worker")}
    return record | {"error": json.loads(row["error"]) if row["error"] else None}


def no_job(job_id: str) -> NotFound:
    """The error for a job that is not there, or is another owner's."""
    return NotFound(f"There is no job {job_id!r}.", job=job_id)


def no_task(task_id: str) -> NotFound:
    """The error for a task that is not there, or is another owner's."""
    return NotFound(f"There is no task {task_id!r}.", task=task_id)


def check_limit(limit: int) -> int:
    """``limit`` if it is from 1 to :data:`MAX_PAGE`; raises :class:`RequestError`."""
    if not 1 <= limit <= MAX_PAGE:
        raise RequestError(f"limit must be from 1 to {MAX_PAGE:,}, not {limit}.", parameter="limit")
    return limit


def cursor_of(*position: Any) -> str:
    """An opaque cursor for the position of the last item on a page."""
    return base64.urlsafe_b64encode(dumps(position).encode()).decode().rstrip("=")


def position_of(cursor: str, *kinds: type) -> tuple[Any, ...]:
    """The inverse of :func:`cursor_of`; raises :class:`RequestError` unless it holds values of ``kinds``."""
    try:
        position = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError):
        position = None
    if (
        not isinstance(position, list)
        or len(position) != len(kinds)
        or not all(_is_position(value, kind) for value, kind in zip(position, kinds, strict=True))
    ):
        raise RequestError(
            "The cursor can't be read. Use the value of 'next' of the page before, unchanged.", parameter="cursor"
        )
    return tuple(position)


def _is_position(value: Any, kind: type) -> bool:
    """Whether a database can compare with it: a cursor may be forged."""
    if isinstance(value, str):
        return kind is str and value.isprintable()
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return isinstance(value, kind) and abs(value) < MAX_POSITION


def page_of(items: Sequence[Any], limit: int, cursor: Any) -> Page:
    """A page from up to ``limit + 1`` items; ``cursor`` maps the last item shown to the cursor after it."""
    shown = items[:limit]
    return Page(items=shown, next=cursor(shown[-1]) if len(items) > limit else None)
