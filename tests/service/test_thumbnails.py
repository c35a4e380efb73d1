"""Thumbnails: made once for all who ask, given up when nobody does, kept within a bound."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pixelmill.errors import IllegalTransition, NoImage
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.model import State, Task, result_key
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.thumbnails import ENTRY_BYTES, Thumbnails, Wanted
from pixelmill.storage.memory import MemoryStore
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad

pytestmark = pytest.mark.anyio
SMALL = Wanted("result", 64, ("webp",))


class Slow:
    """A target that holds each run until it may go on, and counts them."""

    name = "slow"

    def __init__(self, size: int = 1_000) -> None:
        self.begun, self.cancelled, self.size = 0, 0, size
        self.go = asyncio.Event()

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def load(self) -> TargetLoad:
        return TargetLoad(running=0, capacity=8)

    async def run(self, request: RunRequest) -> RunResult:
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        outcome: Any = SimpleNamespace(bytes=bytes(self.size), media_type="image/webp")
        return RunResult(outcome=outcome, target=self.name, worker="1")


def task_of(number: int = 0, **values: Any) -> Task:
    outcome = {"format": "png", "bytes": 3}
    return Task(
        **{
            "id": f"task_{number}",
            "job": "job",
            "owner": "ann",
            "seq": number,
            "name": "a.png",
            "source": "key:uploads/ann/up",
            "state": State.SUCCEEDED,
            "queued": 1.0,
            "outcome": outcome,
            **values,
        }
    )


async def made(target: Slow, tmp_path: Path, count: int, cache_bytes: int = 100_000) -> Thumbnails:
    store = MemoryStore()
    for number in range(count):
        task = task_of(number)
        await store.put(result_key(task.owner, task.job, task.id, task.run), b"png")
    config = ServiceConfig(data=tmp_path)
    dispatcher = Dispatcher([target], reserved=0)
    nothing: Any = None
    return Thumbnails(store, nothing, dispatcher, config, cache_bytes=cache_bytes)


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  what is waited for has no event of its own
            await asyncio.sleep(0)


async def test_equal_requests_share_the_work_and_then_the_cache(tmp_path: Path) -> None:
    target = Slow()
    thumbnails = await made(target, tmp_path, 1)
    asked = [asyncio.create_task(thumbnails.get(task_of(), SMALL)) for _ in range(5)]
    await until(lambda: target.begun)
    target.go.set()
    found = await asyncio.gather(*asked)
    assert target.begun == 1
    assert all(one is found[0] for one in found)
    assert await thumbnails.get(task_of(), SMALL) is found[0]
    assert target.begun == 1
    await thumbnails.get(task_of(), Wanted("result", 65, ("webp",)))
    assert target.begun == 2


async def test_who_leaves_takes_nothing_from_who_stays_and_the_last_one_ends_the_work(tmp_path: Path) -> None:
    target = Slow()
    thumbnails = await made(target, tmp_path, 1)
    first, second = (asyncio.create_task(thumbnails.get(task_of(), SMALL)) for _ in range(2))
    await until(lambda: target.begun)
    first.cancel()
    await asyncio.wait([first])
    assert target.cancelled < 1
    second.cancel()
    await asyncio.wait([second])
    again = asyncio.create_task(thumbnails.get(task_of(), SMALL))
    await until(lambda: target.cancelled == 1 and target.begun == 2)
    target.go.set()
    assert (await again).media_type == "image/webp"


async def test_the_cache_has_a_bound_and_keeps_what_was_looked_at_last(tmp_path: Path) -> None:
    target = Slow(size=1_000)
    target.go.set()
    room = 3 * (1_000 + ENTRY_BYTES)
    thumbnails = await made(target, tmp_path, 5, cache_bytes=room)
    for number in (0, 1, 2, 0, 3, 4):
        await thumbnails.get(task_of(number), SMALL)
        assert thumbnails.kept_bytes <= room
    assert target.begun == 5
    for number in (0, 3, 4):
        await thumbnails.get(task_of(number), SMALL)
    assert target.begun == 5
    await thumbnails.get(task_of(1), SMALL)
    assert target.begun == 6


async def test_what_is_larger_than_its_share_is_not_kept(tmp_path: Path) -> None:
    target = Slow(size=5_000)
    target.go.set()
    thumbnails = await made(target, tmp_path, 1, cache_bytes=4_000)
    for _ in range(2):
        await thumbnails.get(task_of(), SMALL)
    assert (target.begun, thumbnails.kept_bytes) == (2, 0)


async def test_a_task_without_an_image_has_no_thumbnail(tmp_path: Path) -> None:
    thumbnails = await made(Slow(), tmp_path, 0)
    with pytest.raises(IllegalTransition):
        await thumbnails.get(task_of(state=State.RUNNING, outcome=None), SMALL)
    with pytest.raises(NoImage):
        await thumbnails.get(task_of(outcome={"format": None, "data": {}}), SMALL)
