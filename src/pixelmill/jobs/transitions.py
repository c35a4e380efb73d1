"""What an event makes of a task, as pure functions; the job store applies them in batches.

Laws that the tests hold: an event applied twice changes nothing the second time; nothing changes a task in a final
state; an event of another run changes nothing; attempts only decrease, by one, where a target did not take the task.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from pixelmill.errors import ERROR_TYPES, Cancelled, PixelmillError, WorkerCrashed, error_to_dict
from pixelmill.jobs.model import TRANSITIONS, Counts, State, TaskEvent


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """The part of a task that events change."""

    state: State
    run: int
    attempts: int
    started: float | None = None
    ended: float | None = None
    target: str | None = None
    worker: str | None = None
    why: str | None = None
    cost: float = 0.0
    outcome: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class LostAttempt:
    """An attempt that did not end the task."""

    attempt: int
    started: float | None
    ended: float
    error: Mapping[str, Any] | None
    target: str | None
    worker: str | None


def advance(task: TaskFacts, event: TaskEvent) -> tuple[TaskFacts, LostAttempt | None]:
    """The task after the event (the same object where nothing changes), and the attempt that the event gave up."""
    if event.run != task.run or task.state.is_final:
        return task, None
    if event.kind == "progress":
        return task, None
    if event.kind == "started":
        return _start(task, event)
    if event.kind == "requeued":
        return _requeue(task, event)
    if event.kind == "returned":
        return _return(task, event), None
    if event.kind in {"succeeded", "failed"}:
        return _end(task, event), None
    raise ValueError(f"unknown kind of task event: {event.kind!r}")


def _start(task: TaskFacts, event: TaskEvent) -> tuple[TaskFacts, LostAttempt | None]:
    if event.attempt <= task.attempts:  # heard before, or of an attempt that was given up
        return task, None
    lost = None
    if task.state is State.RUNNING:
        # Nobody reported the end of the attempt before: its lease ran out.
        reason = error_to_dict(WorkerCrashed("The worker stopped reporting, and the task was given to another one."))
        lost = LostAttempt(task.attempts, task.started, event.at, reason, task.target, task.worker)
    started = replace(
        task,
        state=State.RUNNING,
        attempts=event.attempt,
        started=event.at,
        target=event.target,
        worker=event.worker,
        why=event.why,
    )
    return started, lost


def _requeue(task: TaskFacts, event: TaskEvent) -> tuple[TaskFacts, LostAttempt | None]:
    if event.attempt < task.attempts or (event.attempt == task.attempts and task.state is State.QUEUED):
        return task, None
    running = task.state is State.RUNNING and event.attempt == task.attempts
    lost = LostAttempt(
        event.attempt,
        task.started if running else None,
        event.at,
        event.error,
        event.target or task.target,
        event.worker or task.worker,
    )
    return replace(task, state=State.QUEUED, attempts=event.attempt, started=None, cost=task.cost + event.cost), lost


def _return(task: TaskFacts, event: TaskEvent) -> TaskFacts:
    if task.state is not State.RUNNING or event.attempt != task.attempts:
        return task
    return replace(task, state=State.QUEUED, attempts=event.attempt - 1, started=None, cost=task.cost + event.cost)


def _end(task: TaskFacts, event: TaskEvent) -> TaskFacts:
    # An end counts whichever attempt it comes from: its outcome is stored, and the first one stored stands.
    return replace(
        task,
        state=State.SUCCEEDED if event.kind == "succeeded" else State.FAILED,
        attempts=max(task.attempts, event.attempt),
        started=event.at if task.started is None else task.started,
        ended=event.at,
        target=event.target or task.target,
        worker=event.worker or task.worker,
        why=event.why or task.why,
        cost=task.cost + event.cost,  # what came back unfinished is paid for too
        outcome=event.outcome,
        error=event.error,
    )


def is_dead(task: TaskFacts) -> bool:
    """Whether the task failed because its attempts were used up, not for what its image or its pipeline are.

    Told by the type of its error: those that an engine tries again stand at the end only when nothing is left to try
    (retryable ones, a process that was ended under the task, defects).
    """
    if task.state is not State.FAILED or task.error is None:
        return False
    kind = ERROR_TYPES.get(str(task.error.get("type")), PixelmillError)
    return kind.retryable or kind in (Cancelled, PixelmillError)


def is_legal(before: State, after: State) -> bool:
    """Whether the model allows the step (staying is always allowed)."""
    return before is after or after in TRANSITIONS[before]


def moved(counts: Counts, before: State, after: State, tasks: int = 1) -> Counts:
    """The counts of a job when ``tasks`` of its tasks go from one state to another."""
    if before is after:
        return counts
    return replace(
        counts,
        **{before.value: getattr(counts, before.value) - tasks, after.value: getattr(counts, after.value) + tasks},
    )
