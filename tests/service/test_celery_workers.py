"""Celery workers and RabbitMQ under fire: every task ends exactly once, in state and store."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from worker_hub import Hub, submit

from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.jobs.model import Counts, State
from servers import RabbitMQ

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # what bounds them is progress: see `Hub.until`


@pytest.fixture
async def hub(rabbitmq_url: str, tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "data", queue_url=rabbitmq_url)
    await hub.service.start()
    try:
        yield hub
    finally:
        hub.end()
        await hub.service.stop()


def kill_a_pool_process(worker: int, chance: random.Random) -> None:
    """The zygote's children run the tasks."""
    running = [child for child in psutil.Process(worker).children(recursive=True) if not child.children()]
    if running:
        chance.choice(running).send_signal(signal.SIGKILL)


async def test_nothing_is_lost_while_processes_workers_and_the_broker_die(
    hub: Hub, rabbitmq_server: RabbitMQ, pictures: list[bytes]
) -> None:
    tasks, blows = 300, 3
    job = await submit(hub, pictures, tasks)
    chance = random.Random(7)
    alive = [hub.start_worker(), hub.start_worker()]
    for blow in range(blows):
        await hub.until(job, (blow + 1) * tasks // (blows + 2))
        if blow % 3 == 0:
            kill_a_pool_process(chance.choice(alive).pid, chance)
        elif blow % 3 == 1:
            alive.pop(chance.randrange(2)).send_signal(signal.SIGKILL)
            alive.append(hub.start_worker())
        else:
            await asyncio.to_thread(rabbitmq_server.restart)
    # What a worker got, but ended before, is delivered once more: nothing may come of it.
    ended = await hub.until(job, tasks)
    assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=tasks))
    ends: Counter[str] = Counter()
    async for event in hub.service.events("ann", job_id=job.id, after=0):
        if event is not None and event.type == "task" and State(event.data["state"]).is_final:
            ends[event.data["id"]] += 1
    assert len(ends) == tasks
    assert set(ends.values()) == {1}
    results = hub.data / "objects" / "results" / "ann" / job.id
    stored = sorted(path.name for path in results.iterdir())
    assert stored == sorted(name for task in ends for name in (task, f"{task}.json"))
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in results.iterdir() if path.suffix != ".json")
    assert await hub.service._parts.queue.dead(10) == []


async def test_what_is_cancelled_after_its_release_is_discarded(hub: Hub, pictures: list[bytes]) -> None:
    parts = hub.service._parts
    assert isinstance(parts.engine, CeleryEngine)
    unwanted = await submit(hub, pictures, 50)
    async with asyncio.timeout(30):
        while (await parts.queue.depth()).waiting < 50:  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.05)
    await hub.service.cancel("ann", unwanted.id)
    hub.start_worker()
    wanted = await submit(hub, pictures, 5)
    assert (await hub.until(wanted, 5)).counts == Counts(succeeded=5)
    assert not (hub.data / "objects" / "results" / "ann" / unwanted.id).exists()
    assert (await hub.service.job("ann", unwanted.id)).counts == Counts(cancelled=50)
