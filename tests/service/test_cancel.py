"""Cancel reaches what runs in another process: its pool process is ended, its slot free, and no result stays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import psutil
import pytest
from worker_hub import LEASE, Hub, queue_settings, submit

from pixelmill.jobs.model import Counts, Job, State, TaskEvent, result_key

pytestmark = pytest.mark.anyio
WORKER = str(Path(__file__).parent.parent / "support" / "poisoned.py")
BOUND_S = 30.0
"""Tasks that are not stopped run much longer."""
LONG = 300.0
"""A lease that tells nothing within the test."""


@pytest.fixture(
    params=[
        ("sqlite", LONG),
        ("postgresql", LONG),
        ("sqs, events through redis", LONG),
        ("sqs", LEASE),
        ("rabbitmq", LONG),
        pytest.param(("azure", LEASE), marks=pytest.mark.slow),
    ],
    ids=lambda param: param[0],
)
async def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    kind, lease = request.param
    hub = Hub(tmp_path / "data", lease=lease, **queue_settings(kind, request, monkeypatch))
    await hub.service.start()
    try:
        yield hub
    finally:
        hub.end()
        await hub.service.stop()


@pytest.fixture
def stuck(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which processes name themselves that will never end."""
    folder = tmp_path / "stuck"
    folder.mkdir()
    monkeypatch.setenv("PIXELMILL_TEST_STUCK", str(folder))
    return folder


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.02)


def stored(hub: Hub, job: Job) -> list[Path]:
    return list((hub.data / "objects" / "results" / "ann" / job.id).glob("*"))


async def ends(hub: Hub, job: Job) -> list[str]:
    """What the log says of the ends of the job and of its tasks."""
    return [
        f"{event.type} {event.data['state']}"
        async for event in hub.service.events("ann", job_id=job.id, after=0)
        if event is not None and State(event.data["state"]).is_final
    ]


def named(stuck: Path) -> set[int]:
    return {int(path.name) for path in stuck.iterdir()}


async def begun(hub: Hub, stuck: Path, count: int) -> set[int]:
    """Process ids of tasks that will never end, once so many have begun."""
    await until(lambda: len(named(stuck)) == count or any(worker.poll() is not None for worker in hub.workers))
    assert len(named(stuck)) == count, (hub.data.parent / "workers.log").read_text()[-3000:]
    return named(stuck)


async def test_running_tasks_are_stopped_and_their_slots_free(hub: Hub, pictures: list[bytes], stuck: Path) -> None:
    job = await submit(hub, [picture + b"stuck" for picture in pictures], 2)
    hub.start_worker(WORKER)
    pids = await begun(hub, stuck, 2)
    async with asyncio.timeout(BOUND_S):
        while (await hub.service.job("ann", job.id)).counts.running < 2:  # noqa: ASYNC110 -- events are on their way
            await asyncio.sleep(0.02)
    assert (await hub.service.cancel("ann", job.id)).counts == Counts(cancelled=2)
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))

    other = await submit(hub, pictures, 6)  # all slots were taken
    assert (await hub.until(other, 6)).counts == Counts(succeeded=6)
    assert stored(hub, job) == []
    assert await ends(hub, job) == ["job cancelled"]
    assert (await hub.service.job("ann", job.id)).counts == Counts(cancelled=2)
    tasks = (await hub.service.tasks("ann", job.id)).items
    assert {(task.state, task.attempts) for task in tasks} == {(State.CANCELLED, 1)}
    async with asyncio.timeout(BOUND_S):
        while (depth := await hub.service._parts.queue.depth()).waiting + depth.leased:  # noqa: ASYNC110 -- see above
            await asyncio.sleep(0.05)
    assert depth.dead == 0
    assert named(stuck) == pids, "nobody began them again"


async def test_a_deleted_job_stops_too(hub: Hub, pictures: list[bytes], stuck: Path) -> None:
    job = await submit(hub, [pictures[0] + b"stuck"], 1)
    hub.start_worker(WORKER)
    (pid,) = await begun(hub, stuck, 1)
    await hub.service.delete("ann", job.id)
    await until(lambda: not psutil.pid_exists(pid))
    other = await submit(hub, pictures, 4)
    assert (await hub.until(other, 4)).counts == Counts(succeeded=4)
    assert stored(hub, job) == []


async def test_a_job_that_is_cancelled_and_tried_again_runs(hub: Hub, pictures: list[bytes], stuck: Path) -> None:
    """The cancel is of one run: it must not stop the next."""
    job = await submit(hub, [pictures[0] + b"stuck"], 1)
    hub.start_worker(WORKER)
    (first,) = await begun(hub, stuck, 1)
    await hub.service.cancel("ann", job.id)
    await hub.service.retry("ann", job.id)
    (second,) = await begun(hub, stuck, 2) - {first}
    await until(lambda: not psutil.pid_exists(first))
    other = await submit(hub, pictures, 4)
    assert (await hub.until(other, 4)).counts == Counts(succeeded=4)
    assert psutil.pid_exists(second)
    assert (await hub.service.job("ann", job.id)).counts == Counts(running=1)
    await hub.service.cancel("ann", job.id)
    await until(lambda: not psutil.pid_exists(second))


async def test_a_result_that_comes_after_the_cancel_does_not_stay(tmp_path: Path, pictures: list[bytes]) -> None:
    """Its worker had it stored before it could hear of the cancel."""
    hub = Hub(tmp_path / "data")
    await hub.service.start()
    try:
        parts = hub.service._parts
        late, good = await submit(hub, pictures, 2), await submit(hub, pictures, 1)
        await hub.service.cancel("ann", late.id)
        events = []
        for job in (late, good):
            for task in (await hub.service.tasks("ann", job.id)).items:
                key = result_key("ann", job.id, task.id, task.run)
                for name in (key, f"{key}.json"):
                    await parts.store.put(name, b"{}")
                events.append(TaskEvent("succeeded", task.id, job.id, "ann", task.run, 1, 1.0, outcome={}))
        await parts.recorder.emit(events)
        await parts.recorder.emit(events)  # told twice, as queues do
        assert stored(hub, late) == []
        assert len(stored(hub, good)) == 2
        assert (await hub.service.job("ann", late.id)).counts == Counts(cancelled=2)
        assert (await hub.service.job("ann", good.id)).counts == Counts(succeeded=1)
    finally:
        await hub.service.stop()
