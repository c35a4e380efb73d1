"""`pixelmill worker --gate` on queues whose workers don't see each other: real workers, real queues."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
from worker_hub import BOUND_S, Hub, queue_settings, submit

from pixelmill.jobs.model import Counts

pytestmark = pytest.mark.anyio

SHUT = ("--gate", "threshold-0-0")  # other programs use some memory, always
SLOW = "resize:1500,1500,fit=fill/format:png"


@pytest.fixture(params=["sqlite", "postgresql", "sqs", pytest.param("azure", marks=pytest.mark.slow)])
async def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "data", **queue_settings(request.param, request, monkeypatch))
    await hub.service.start()
    try:
        yield hub
    finally:
        hub.end()
        await hub.service.stop()


async def until_logged(hub: Hub, text: str, times: int = 1) -> None:
    async with asyncio.timeout(BOUND_S):
        while (hub.data.parent / "workers.log").read_text().count(text) < times:  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.05)


async def test_a_worker_whose_gate_is_shut_rests_until_nobody_else_takes_tasks(hub: Hub, pictures: list[bytes]) -> None:
    shut = hub.start_worker(options=SHUT)
    await until_logged(hub, "this worker takes no tasks: other programs use")
    other = hub.start_worker()
    await until_logged(hub, "worker.started", 2)
    job = await submit(hub, pictures, 24, SLOW)
    await hub.until(job, 4)
    pool = {str(child.pid) for child in psutil.Process(other.pid).children(recursive=True)}
    ended = await hub.until(job, 24)
    assert ended.counts == Counts(succeeded=24)
    tasks = (await hub.service.tasks("ann", job.id, limit=100)).items
    assert {str(task.worker) for task in tasks} <= pool, "the one whose gate is open ran all of them"
    other.kill()
    left = await submit(hub, pictures, 4)
    ended = await hub.until(left, 4)
    assert ended.counts == Counts(succeeded=4), "thresholds decide where, never whether"
    assert shut.poll() is None
    for task in (await hub.service.tasks("ann", left.id, limit=100)).items:
        assert (task.why or "").startswith("nobody else takes tasks, so a shut gate (other programs use")
