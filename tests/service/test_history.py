"""The metrics history: what processes of a fleet tell each other makes one table."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis_tools import until
from worker_hub import Hub, submit

from pixelmill.jobs.model import State, TaskEvent
from pixelmill.jobs.recorder import TaskChange
from pixelmill.metrics import Run
from pixelmill.service.history import History
from pixelmill.service.tallies import MAX_TARGETS
from servers import Redis

pytestmark = pytest.mark.anyio


def ended(after: State, waited: float, ran: float, error: str | None = None, target: str = "local") -> TaskChange:
    event = TaskEvent(
        after.value, "t", "j", "ann", 0, 1, 10.0 + waited + ran, target=target, error={"type": error} if error else None
    )
    return TaskChange("t", "j", "ann", State.RUNNING, after, 10.0, 10.0 + waited, event)


_endings = st.builds(
    ended,
    st.sampled_from([State.SUCCEEDED, State.FAILED, State.CANCELLED]),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.sampled_from([None, "corrupt-image", "busy"]),
    st.sampled_from(["local", "cloud"]),
)


@given(st.lists(st.tuples(st.integers(0, 2), _endings), max_size=40))
def test_a_history_of_what_others_tell_is_that_of_one_who_saw_it_all(changes: list[tuple[int, TaskChange]]) -> None:
    replicas, whole = [History() for _ in range(3)], History()
    cloud = frozenset({"cloud"})
    for history in (*replicas, whole):
        history.tick(100.0, waiting=0, oldest_s=0.0, running=0)
    for where, change in changes:
        for history in (replicas[where], whole):
            history.ran(Run.of_task(change))
            history.throttled()
            history.paid(0.25)
    for name in (1, 2):
        told = json.loads(json.dumps(replicas[name].take(name, cloud)))
        replicas[0].merge(100.5, f"replica-{name}", told)
        assert not sum(replicas[name].take(name)["counts"].values()), "nothing is told twice"
    replicas[0].tick(101.0, waiting=4, oldest_s=2.0, running=5, overflow=cloud)
    whole.tick(101.0, waiting=4, oldest_s=2.0, running=8, overflow=cloud)
    table, told = whole.table("hour"), replicas[0].table("hour")
    # Sums of the same numbers in another order differ in their last digits.
    averages = [(one["columns"].pop("wait_avg_s"), one["columns"].pop("run_avg_s")) for one in (table, told)]
    assert [one or 0.0 for (one,) in averages[0]] == pytest.approx([one or 0.0 for (one,) in averages[1]], rel=1e-6)
    assert told == table
    assert table["columns"]["throttled"] == [len(changes)]
    assert table["columns"]["cost"] == [0.25 * len(changes)]
    assert table["targets"] == Counter(change.event.target for _, change in changes)
    replicas[0].tick(110.0, waiting=0, oldest_s=0.0, running=5)
    assert replicas[0].table("hour")["columns"]["running"][-1] == 5, "who says nothing any more runs nothing"


@pytest.mark.parametrize(
    "record",
    [
        {},
        {"counts": {"succeeded": -1}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0},
        {"counts": {}, "reasons": {}, "times": {"wait": [[200, 1]], "run": []}, "running": 0},
        {"counts": {}, "reasons": {}, "times": {"wait": [[-1, 1]], "run": []}, "running": 0},
        {"counts": {"succeeded": 3}, "reasons": {}, "times": {"wait": [], "run": []}, "running": "many"},
        {"counts": {}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0, "cost": -1},
        {"counts": {}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0, "cost": "nan"},
        {"counts": {}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0, "targets": {"local": -1}},
        {"counts": {"succeeded": 10**30}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0},
    ],
)
def test_what_is_no_record_leaves_no_trace(record: dict[str, object]) -> None:
    history = History()
    history.tick(100.0, waiting=0, oldest_s=0.0, running=0)
    with pytest.raises((ValueError, LookupError)):
        history.merge(100.5, "other", record)
    history.tick(101.0, waiting=0, oldest_s=0.0, running=0)
    assert history.table("hour")["columns"]["succeeded"] == [0.0]


def test_a_service_of_before_tells_neither_cost_nor_targets() -> None:
    history = History()
    history.tick(100.0, waiting=0, oldest_s=0.0, running=0)
    history.merge(
        100.5, "old", {"counts": {"succeeded": 3}, "reasons": {}, "times": {"wait": [], "run": []}, "running": 0}
    )
    history.tick(101.0, waiting=0, oldest_s=0.0, running=0)
    newest = history.newest()
    assert newest is not None
    assert (newest["succeeded"], newest["cost"], newest["targets"]) == (3.0, 0.0, {})


def test_the_names_of_targets_are_bounded_and_old_ones_leave() -> None:
    history = History()
    history.tick(0.0, waiting=0, oldest_s=0.0, running=0)
    for number in range(3 * MAX_TARGETS):
        history.ran(Run.of_task(ended(State.SUCCEEDED, 1.0, 1.0, target=f"node-{number}")))
        history.tick(number + 1.0, waiting=0, oldest_s=0.0, running=0)
    targets = history.table("hour")["targets"]
    assert len(targets) == MAX_TARGETS + 1
    assert targets["other"] == 2 * MAX_TARGETS
    for second in range(3 * MAX_TARGETS, 3 * MAX_TARGETS + 3600):
        history.tick(second + 1.0, waiting=0, oldest_s=0.0, running=0)
    assert history.table("hour")["targets"] == {}


async def test_what_workers_with_a_database_record_is_in_the_history_of_the_service(
    tmp_path: Path, redis_server: Redis, pictures: list[bytes]
) -> None:
    hub = Hub(tmp_path / "data", redis_url=redis_server.url)
    await hub.service.start()
    try:
        hub.start_worker()
        job = await submit(hub, pictures, 12)
        await hub.until(job, 12)

        def counted() -> bool:
            return bool(sum(hub.service.history("hour")["columns"]["succeeded"]) == 12)

        await until(counted, "the worker has told it")
    finally:
        hub.end()
        await hub.service.stop()
