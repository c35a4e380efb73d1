from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import JobError
from pixelmill.images.limits import Limits
from pixelmill.jobs.messages import (
    RunBounds,
    TaskMessage,
    bodies,
    message_id,
    queue_number,
    split_message_id,
    urgency,
)
from pixelmill.jobs.model import JobBounds, NewTask, Priority
from pixelmill.jobs.outbox import Waiting, first_rank, plan_release
from pixelmill.testing.job_store import job_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


@given(TEXT, TEXT, TEXT, st.integers(0, 99), st.dictionaries(TEXT, TEXT, max_size=3))
def test_a_message_and_its_json_are_inverse(
    name: str, source: str, pipeline: str, run: int, images: dict[str, str]
) -> None:
    message = TaskMessage("t", run, "j", "o", name, pipeline, source, images, Limits(1, 2, 3), 5.0, 7)
    assert TaskMessage.from_json(message.to_json()) == message


@given(st.lists(st.tuples(TEXT, TEXT, st.integers(0, 3)), max_size=5))
def test_bodies_made_together_are_those_made_one_by_one(values: list[tuple[str, str, int]]) -> None:
    job, bounds = job_of(images={"sha256:1": "k"}), RunBounds(Limits(max_side=5), 3.0, 2)
    waiting = [(NewTask(str(i), name, source), run) for i, (name, source, run) in enumerate(values)]
    made = [TaskMessage.from_json(body) for body in bodies(job, bounds, waiting)]
    assert [(one.task, one.name, one.source, one.run) for one in made] == [
        (task.id, task.name, task.source, run) for task, run in waiting
    ]
    assert all((one.limits, one.timeout_s, one.max_attempts) == (bounds.limits, 3.0, 2) for one in made)


@pytest.mark.parametrize("body", ["", "[]", "{}", "null", '{"task":1}', '{"limits":{"max_bytes":1,"colour":2}}'])
def test_a_body_of_another_kind_is_refused(body: str) -> None:
    with pytest.raises(JobError):
        TaskMessage.from_json(body)


def test_ids_of_messages_name_task_and_run() -> None:
    assert split_message_id(message_id("a/b", 12)) == ("a/b", 12)
    with pytest.raises(ValueError, match="not the id"):
        split_message_id("nothing")


JOBS = st.sampled_from(["a", "b", "c", "d", "e"])
OWNERS = st.sampled_from(["ann", "bob", "cid"])
WAITING = st.dictionaries(JOBS, st.builds(Waiting, st.integers(0, 50), st.integers(0, 2), OWNERS))
FLYING = st.dictionaries(JOBS, st.integers(0, 20))


@given(WAITING, FLYING, st.integers(0, 100))
def test_the_window_holds_and_no_room_is_left_while_work_waits(
    waiting: dict[str, Waiting], in_flight: dict[str, int], window: int
) -> None:
    plan = plan_release(waiting, in_flight, window)
    room = max(0, window - sum(in_flight.values()))
    assert sum(plan.values()) == min(room, sum(job.tasks for job in waiting.values()))
    assert all(0 < count <= waiting[job].tasks for job, count in plan.items())


@given(WAITING, FLYING, st.integers(0, 100))
def test_nobody_gets_a_task_while_an_equal_with_less_in_flight_waits(
    waiting: dict[str, Waiting], in_flight: dict[str, int], window: int
) -> None:
    plan = plan_release(waiting, in_flight, window)
    level = {job: in_flight.get(job, 0) + plan.get(job, 0) for job in waiting}
    for served in plan:
        for other, job in waiting.items():
            if plan.get(other, 0) < job.tasks:  # it still waits
                assert job.priority >= waiting[served].priority
                if (job.priority, job.owner) == (waiting[served].priority, waiting[served].owner):
                    assert level[served] <= level[other] + 1


@given(WAITING, FLYING, st.integers(0, 100))
def test_no_owner_gets_a_task_while_another_with_less_in_flight_waits(
    waiting: dict[str, Waiting], in_flight: dict[str, int], window: int
) -> None:
    plan = plan_release(waiting, in_flight, window)
    level: Counter[tuple[str, int]] = Counter()
    for name, job in waiting.items():
        level[job.owner, job.priority] += in_flight.get(name, 0) + plan.get(name, 0)
    for served in plan:
        mine = waiting[served]
        for other, job in waiting.items():
            if plan.get(other, 0) < job.tasks and job.priority == mine.priority:  # it still waits
                assert level[mine.owner, mine.priority] <= level[job.owner, job.priority] + 1


def test_an_owner_with_many_jobs_gets_no_more_than_one_with_a_single_job() -> None:
    waiting = {f"many-{i}": Waiting(10, owner="ann") for i in range(100)} | {"one": Waiting(1000, owner="bob")}
    plan = plan_release(waiting, {}, 100)
    assert plan.pop("one") == 50
    assert set(plan.values()) == {1}


def test_an_urgent_job_is_served_first() -> None:
    assert plan_release({"slow": Waiting(9, 2), "fast": Waiting(3, 0)}, {}, 4) == {"fast": 3, "slow": 1}


@given(st.one_of(st.none(), st.integers(0, 100)), st.integers(0, 100))
def test_a_rank_is_neither_before_the_head_nor_before_the_jobs_own(head: int | None, own: int) -> None:
    rank = first_rank(head, own)
    assert rank >= own
    assert head is None or rank >= head
    assert rank in {head, own}


SOME = st.none() | st.integers(1, 100)


@given(SOME, SOME, SOME, SOME, SOME, st.integers(1, 100))
def test_bounds_of_a_job_narrow_those_of_the_service_and_never_widen_them(
    size: int | None, pixels: int | None, side: int | None, seconds: int | None, attempts: int | None, own: int
) -> None:
    service = RunBounds(Limits(own, own, own), float(own), own)
    job = job_of(bounds=JobBounds(size, pixels, side, seconds, attempts))
    [body] = bodies(job, service, [(NewTask("t", "n", "s"), 0)])
    message = TaskMessage.from_json(body)
    got = (message.limits.max_bytes, message.limits.max_pixels, message.limits.max_side)
    assert (*got, message.timeout_s, message.max_attempts) == tuple(
        min(own, own if wanted is None else wanted) for wanted in (size, pixels, side, seconds, attempts)
    )


def test_tasks_with_models_get_a_quarter_of_the_window_and_others_the_rest() -> None:
    waiting = {"cut": Waiting(900, models=True), "small": Waiting(900)}
    assert plan_release(waiting, {}, 100) == {"cut": 25, "small": 75}
    assert plan_release({"cut": Waiting(900, models=True)}, {"cut": 20}, 100) == {"cut": 5}
    assert plan_release(waiting, {"cut": 25, "small": 70}, 100) == {"small": 5}
    assert plan_release(waiting, {"small": 100}, 100) == {}
    assert plan_release({"cut": Waiting(1, models=True)}, {}, 1) == {"cut": 1}


def test_messages_with_models_have_classes_of_their_own_of_the_same_urgency() -> None:
    numbers = {queue_number(priority, models=models) for priority in Priority for models in (False, True)}
    assert len(numbers) == 6
    for priority in Priority:
        assert urgency(queue_number(priority, models=True)) == queue_number(priority)
