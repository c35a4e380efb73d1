from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from pixelmill.jobs.model import Counts, State
from pixelmill.jobs.transitions import TaskFacts, advance, is_legal, moved
from pixelmill.testing.job_store import event_of

EVENTS = st.builds(
    event_of,
    kind=st.sampled_from(["started", "requeued", "returned", "succeeded", "failed"]),
    task=st.just("job-0"),
    run=st.integers(0, 1),
    attempt=st.integers(1, 4),
    at=st.floats(1.0, 100.0),
)
TASKS = st.builds(TaskFacts, state=st.sampled_from(State), run=st.integers(0, 1), attempts=st.integers(0, 3))


@given(TASKS, EVENTS)
def test_every_step_is_legal(task: TaskFacts, event) -> None:  # type: ignore[no-untyped-def] # a hypothesis value
    after, _ = advance(task, event)
    assert is_legal(task.state, after.state)
    assert after.attempts >= task.attempts - (event.kind == "returned")
    assert after.run == task.run


@given(TASKS, EVENTS)
def test_an_event_applied_twice_changes_nothing(task: TaskFacts, event) -> None:  # type: ignore[no-untyped-def] # a hypothesis value
    once, _ = advance(task, event)
    twice, lost = advance(once, event)
    assert twice is once
    assert lost is None


@given(TASKS, EVENTS)
def test_a_final_state_and_another_run_are_left_alone(task: TaskFacts, event) -> None:  # type: ignore[no-untyped-def] # a hypothesis value
    after, lost = advance(task, event)
    if task.state.is_final or event.run != task.run:
        assert after is task
        assert lost is None


@given(st.lists(EVENTS))
def test_each_attempt_is_lost_at_most_once(events) -> None:  # type: ignore[no-untyped-def] # hypothesis values
    task, lost = TaskFacts(State.QUEUED, 0, 0), []
    for event in events:
        task, attempt = advance(task, event)
        lost += [attempt.attempt] if attempt is not None else []
    assert len(lost) == len(set(lost))


def test_a_start_without_an_end_of_the_one_before_tells_that_it_was_lost() -> None:
    running, _ = advance(TaskFacts(State.QUEUED, 0, 0), event_of("started", "job-0", attempt=1, at=1.0))
    again, lost = advance(running, event_of("started", "job-0", attempt=2, at=9.0))
    assert again.state is State.RUNNING
    assert lost is not None
    assert (lost.attempt, lost.started, lost.ended) == (1, 1.0, 9.0)


def test_an_attempt_that_was_not_taken_does_not_count() -> None:
    running, _ = advance(TaskFacts(State.QUEUED, 0, 0), event_of("started", "job-0", attempt=1, at=1.0))
    returned, lost = advance(running, event_of("returned", "job-0", attempt=1, at=2.0))
    assert (returned.state, returned.attempts, lost) == (State.QUEUED, 0, None)
    again, _ = advance(returned, event_of("started", "job-0", attempt=1, at=3.0))
    assert (again.state, again.attempts, again.started) == (State.RUNNING, 1, 3.0)


@given(st.sampled_from(State), st.sampled_from(State), st.integers(1, 5))
def test_moving_tasks_keeps_their_number(before: State, after: State, tasks: int) -> None:
    counts = Counts(10, 10, 10, 10, 10)
    assert moved(counts, before, after, tasks).total == counts.total


def test_what_comes_back_unfinished_is_paid_for_too() -> None:
    task = TaskFacts(State.QUEUED, 0, 0)
    for kind, attempt, cost in (
        ("started", 1, 0.0),
        ("returned", 1, 0.25),
        ("returned", 1, 0.25),  # told twice
        ("started", 1, 0.0),
        ("requeued", 1, 0.5),
        ("requeued", 1, 0.5),
        ("started", 2, 0.0),
        ("succeeded", 2, 0.125),
        ("succeeded", 2, 0.125),
    ):
        task, _ = advance(task, replace(event_of(kind, "job-0", attempt=attempt, at=1.0), cost=cost))
    assert task.cost == 0.875
