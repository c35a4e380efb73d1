"""Two services on one PostgreSQL: they share work and state, and hear of each other's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from pixelmill.errors import ConfigError
from pixelmill.jobs.model import Counts, State
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service, ServiceConfig

pytestmark = pytest.mark.anyio
BOUND_S = 60.0


async def started(stack: AsyncExitStack, data: Path, **settings: object) -> Service:
    service = Service(ServiceConfig(data=data, workers=1, **settings))  # type: ignore[arg-type] # as the test says
    await service.start()
    stack.push_async_callback(service.stop)
    return service


async def one(body: bytes) -> AsyncIterator[bytes]:
    yield body


async def test_a_job_of_one_replica_is_followed_and_run_by_the_other(
    tmp_path: Path, postgres_url: str, pictures: list[bytes]
) -> None:
    async with AsyncExitStack() as stack:
        first = await started(stack, tmp_path / "data", database_url=postgres_url, local_work=False)
        second = await started(stack, tmp_path / "data", database_url=postgres_url)
        uploads = [await first.put_upload("ann", f"{i}.jpg", one(picture)) for i, picture in enumerate(pictures)]
        job, _ = await first.submit(
            "ann", Pipeline.parse("grayscale/format:png"), uploads=[upload.id for upload in uploads]
        )
        last = ""
        async with asyncio.timeout(BOUND_S):
            # The first one runs nothing: all that it tells was recorded by the other.
            async for event in first.events("ann", job_id=job.id, after=0):
                if event is not None and event.type == "job":
                    last = event.data["state"]
        assert last == "succeeded"
        assert (await second.job("ann", job.id)).counts == Counts(succeeded=len(pictures))


async def test_a_replica_that_starts_leaves_the_tasks_of_the_others_alone(
    tmp_path: Path, postgres_url: str, pictures: list[bytes]
) -> None:
    async with AsyncExitStack() as stack:
        first = await started(stack, tmp_path / "data", database_url=postgres_url)
        uploads = [await first.put_upload("ann", f"{i}.jpg", one(pictures[i % 8])) for i in range(60)]
        pipeline = Pipeline.parse("resize:800,800,fit=fill/median:9/format:png")
        job, _ = await first.submit("ann", pipeline, uploads=[upload.id for upload in uploads])
        async with asyncio.timeout(BOUND_S):
            async for event in first.events("ann", job_id=job.id, after=0):
                if event is not None and event.type == "task" and event.data["state"] == "running":
                    break
            second = await started(stack, tmp_path / "data", database_url=postgres_url)
            async for _ in second.events("ann", job_id=job.id, after=0):
                pass
        page = await second.tasks("ann", job.id, limit=100)
        assert {(task.state, task.attempts) for task in page.items} == {(State.SUCCEEDED, 1)}


async def test_a_second_service_on_sqlite_is_still_refused(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        await started(stack, tmp_path / "data")
        with pytest.raises(ConfigError, match="Another Pixelmill service"):
            await started(stack, tmp_path / "data")
