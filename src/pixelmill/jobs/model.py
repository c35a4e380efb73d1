"""Jobs, tasks, uploads and task events as plain values, with the legal transitions. No I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """States of tasks and of jobs."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """Succeeded, failed or cancelled."""
        return self in FINAL


FINAL = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED})

TRANSITIONS: Mapping[State, frozenset[State]] = {
    # queued -> final: a redelivered task whose outcome is already stored, or a cancel.
    State.QUEUED: frozenset({State.RUNNING, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    # running -> queued: a lost attempt; the task goes back.
    State.RUNNING: frozenset({State.QUEUED, State.SUCCEEDED, State.FAILED, State.CANCELLED}),
    State.SUCCEEDED: frozenset(),
    # retry puts failed and cancelled tasks back, in a new run.
    State.FAILED: frozenset({State.QUEUED}),
    State.CANCELLED: frozenset({State.QUEUED}),
}


class Priority(StrEnum):
    """Classes of work, most urgent first."""

    INTERACTIVE = "interactive"
    NORMAL = "normal"
    BATCH = "batch"


@dataclass(frozen=True, slots=True)
class Counts:
    """Tasks of a job by state."""

    queued: int = 0
    running: int = 0
    succeeded: int = 0
    failed: int = 0
    cancelled: int = 0

    @property
    def total(self) -> int:
        """All tasks."""
        return self.queued + self.running + self.succeeded + self.failed + self.cancelled

    @property
    def done(self) -> int:
        """Tasks in a final state."""
        return self.succeeded + self.failed + self.cancelled


def job_state(counts: Counts, *, sealed: bool, cancelled: bool) -> State:
    """The state of a job from its tasks: it ends when it is sealed and all its tasks have ended.

    A cancelled job with nothing left to run is ``cancelled``; else any failed task makes it ``failed``.
    """
    open_tasks = counts.queued + counts.running
    if open_tasks or not sealed:
        return State.RUNNING if counts.running or counts.done else State.QUEUED
    if cancelled:
        return State.CANCELLED
    return State.FAILED if counts.failed else State.SUCCEEDED


@dataclass(frozen=True, slots=True)
class JobBounds:
    """Bounds of the tasks of one job, each at most the service's own; None is that. Bytes, pixels, seconds.

    ``ranks``: over how many MPI ranks each of its images is to be spread; None: over none.
    """

    max_bytes: int | None = None
    max_pixels: int | None = None
    max_side: int | None = None
    timeout_s: float | None = None
    max_attempts: int | None = None
    ranks: int | None = None


UNBOUND = JobBounds()
"""The bounds of most jobs: those of the service."""


@dataclass(frozen=True, slots=True)
class Job:
    """A set of tasks submitted together. Times are seconds since the epoch.

    ``pipeline`` is canonical JSON with image parameters resolved. ``images`` maps each such reference
    (``sha256:HEX``) to its key in the object store. ``bounds`` hold for every run of its tasks.
    ``trace``: what its work belongs to (``tracing.TraceContext.to_text``), empty where nobody said.
    """

    id: str
    owner: str
    pipeline: str
    state: State
    counts: Counts
    created: float
    name: str = ""
    priority: Priority = Priority.NORMAL
    images: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    sealed: bool = True
    cancelled: bool = False
    started: float | None = None
    ended: float | None = None
    expires: float | None = None
    bounds: JobBounds = UNBOUND
    trace: str = ""


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task as it is submitted: the source's name for people, and where its bytes lie.

    ``source`` is a store key (``key:KEY``) or a URI that a configured store serves.
    """

    id: str
    name: str
    source: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One source through one pipeline.

    ``outcome`` is ``Outcome.to_dict()`` plus ``bytes`` (length of the result), ``source_bytes``, and ``cold`` (true
    where it was the first task of its process or instance); ``error`` is ``error_to_dict()``.
    ``run`` counts manual retries; ``attempts`` counts deliveries in this run. ``target``: where it ran last, ``why``
    there (a sentence). ``cost``: of all its calls, those that failed and those of earlier runs included (in
    the currency of the configured prices; 0 on own machines). ``trace``: that of its job.
    """

    id: str
    job: str
    owner: str
    seq: int
    name: str
    source: str
    state: State
    queued: float
    run: int = 0
    attempts: int = 0
    started: float | None = None
    ended: float | None = None
    outcome: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    target: str | None = None
    worker: str | None = None
    why: str | None = None
    cost: float = 0.0
    trace: str = ""


def result_key(owner: str, job: str, task: str, run: int) -> str:
    """Where the outcome's image lies; its document (data, timings, failure) lies at this key + ``.json``."""
    return f"results/{owner}/{job}/{task}" if run == 0 else f"results/{owner}/{job}/{task}-r{run}"


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """What a target's side says of a task; the recorder turns it into state.

    ``kind`` is one of ``started``, ``succeeded``, ``failed``, ``requeued`` (an attempt was lost; ``error`` says why),
    ``returned`` (the target did not take it: the attempt does not count), ``progress`` (how far a long attempt is, in
    ``progress``; it changes no state and is told again soon, so one that is lost is no loss).
    ``at`` is seconds since the epoch; ``cost`` is of this attempt alone.
    Applying an event twice, or after a final state, changes nothing.
    """

    kind: str
    task: str
    job: str
    owner: str
    run: int
    attempt: int
    at: float
    target: str | None = None
    worker: str | None = None
    outcome: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None
    why: str | None = None
    cost: float = 0.0
    progress: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """One entry of the event log that subscribers read; ``id`` grows and is never reused.

    ``type`` is ``task`` (state of one task changed), ``progress`` (a running task is so far), ``job`` (state or counts
    of a job changed) or ``deleted``.
    """

    id: int
    owner: str
    job: str
    type: str
    data: Mapping[str, Any]
    at: float


@dataclass(frozen=True, slots=True)
class Upload:
    """Bytes that wait to be used by a job; unused ones expire."""

    id: str
    owner: str
    name: str
    key: str
    size: int
    created: float
    expires: float


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list, and the cursor of the next one."""

    items: Sequence[Any]
    next: str | None
