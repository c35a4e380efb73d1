"""The local pool in its ordinary life: results, errors, limits, recycling, cancelling."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from pool_tools import Announcement, Watched, open_descriptors, request, running_pool

from pixelmill.errors import OutOfMemory, RunError, ShuttingDown, TaskTimeout, WorkerCrashed
from pixelmill.images.limits import Limits
from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import RunRequest, Target
from pixelmill.testing.target import TargetConformance

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


class TestLocalPoolConforms(TargetConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.announcement = Announcement(tmp_path)
        yield
        self.announcement.close()

    def make(self) -> Target:
        return LocalPool(workers=2, entry="misbehaving:act")

    def good(self) -> RunRequest:
        return request("echo", b"photo")

    def bad(self) -> RunRequest:
        return request("corrupt")

    def endless(self) -> RunRequest:
        return request("hang", source_name=str(self.announcement.path))


async def test_bytes_and_files_and_images_reach_the_work(tmp_path: Path) -> None:
    path = tmp_path / "näme\udcff.bin"
    path.write_bytes(b"from a file")
    async with running_pool() as pool:
        result = await pool.run(
            request("echo", path, images={"logo": b"1234", "other": path, "last": b""}, limits=Limits(max_side=77))
        )
    assert result.outcome.bytes == b"from a file"
    assert result.outcome.data["images"] == {"logo": 4, "other": 11, "last": 0}
    assert result.outcome.data["limits"] == 77


async def test_large_sources_and_results_pass() -> None:
    async with running_pool() as pool:
        results = await asyncio.gather(*(pool.run(request("huge", bytes(7_000_000))) for _ in range(3)))
    assert [result.outcome.bytes for result in results] == [bytes(5_000_000)] * 3


async def test_five_hundred_tasks_over_three_processes_all_come_back_with_their_own_result() -> None:
    async with running_pool(workers=3, recycle_after=40) as pool:
        bodies = [b"%d" % number * 100 for number in range(500)]
        results = await asyncio.gather(*(pool.run(request("echo", body)) for body in bodies))
        assert [result.outcome.bytes for result in results] == bodies
        assert pool.load().running == 0
        assert len({result.worker for result in results}) >= 500 / 40


async def test_an_unexpected_exception_is_an_error_with_its_name_and_a_log_line(
    capfd: pytest.CaptureFixture[str],
) -> None:
    async with running_pool() as pool:
        first = await pool.run(request("echo"))
        with pytest.raises(RunError, match="KeyError") as caught:
            await pool.run(request("bug"))
        assert not caught.value.retryable
        assert (await pool.run(request("echo"))).worker == first.worker
    logged = capfd.readouterr().err
    assert '"event": "worker.unexpected_error"' in logged
    assert "in bug" in logged


async def test_a_process_is_replaced_after_its_share_of_tasks() -> None:
    async with running_pool(recycle_after=5) as pool:
        served = Counter([(await pool.run(request("echo"))).worker for _ in range(40)])
        assert max(served.values()) <= 5
        assert pool.load().restarts >= len(served) - 1 >= 7


async def test_a_process_that_keeps_memory_is_replaced() -> None:
    async with running_pool(memory_bytes=1_000_000_000, retire_rss=50_000_000) as pool:
        workers = {(await pool.run(request("keep_growing"))).worker for _ in range(40)}
    assert len(workers) >= 3


@pytest.mark.parametrize("action", ["hang", "hang_in_c"])
async def test_a_task_that_never_ends_is_ended(action: str, announcement: Announcement) -> None:
    async with running_pool() as pool:
        task = asyncio.create_task(pool.run(request(action, source_name=str(announcement.path), timeout_s=0.3)))
        process = Watched(await announcement.pid())
        with pytest.raises(TaskTimeout, match=r"0\.3 s"):
            await task
        assert await asyncio.to_thread(process.ended_within, 5)
        assert (await pool.run(request("echo"))).worker != str(process.pid)


@pytest.mark.parametrize("action", ["eat_numpy", "eat_cv2", "eat_malloc", "eat_shared"])
async def test_a_task_that_eats_memory_fails_alone_and_its_process_is_replaced(action: str) -> None:
    async with running_pool() as pool:
        before = (await pool.run(request("echo"))).worker
        with pytest.raises(OutOfMemory, match="300 MB") as caught:
            await pool.run(request(action))
        assert not caught.value.retryable
        assert (await pool.run(request("echo"))).worker != before


async def test_a_source_over_the_memory_limit_is_refused_before_it_is_read() -> None:
    async with running_pool(memory_bytes=50_000_000) as pool:
        for _ in range(3):
            with pytest.raises(OutOfMemory):
                await pool.run(request("echo", bytes(80_000_000)))
        await pool.run(request("echo"))


async def test_a_process_killed_in_mid_task_costs_that_task_alone(announcement: Announcement) -> None:
    async with running_pool(workers=2) as pool:
        task = asyncio.create_task(pool.run(request("hang", source_name=str(announcement.path))))
        os.kill(await announcement.pid(), signal.SIGKILL)
        others = await asyncio.gather(*(pool.run(request("echo", b"fine")) for _ in range(20)))
        with pytest.raises(WorkerCrashed, match="SIGKILL") as caught:
            await task
        assert caught.value.retryable
        assert caught.value.context == {"signal": 9}
        assert [other.outcome.bytes for other in others] == [b"fine"] * 20


@pytest.mark.parametrize(("action", "context"), [("segfault", {"signal": 11}), ("leave", {"exit_code": 3})])
async def test_a_crash_says_how_the_process_ended(action: str, context: dict[str, int]) -> None:
    async with running_pool() as pool:
        with pytest.raises(WorkerCrashed) as caught:
            await pool.run(request(action))
        assert caught.value.context == context
        await pool.run(request("echo"))


async def test_a_process_that_answers_with_nonsense_is_ended() -> None:
    async with running_pool() as pool:
        with pytest.raises(WorkerCrashed, match="could not talk"):
            await pool.run(request("nonsense"))
        await pool.run(request("echo"))


async def test_a_process_that_dies_while_idle_is_replaced() -> None:
    async with running_pool() as pool:
        process = Watched(int((await pool.run(request("echo"))).worker))
        os.kill(process.pid, signal.SIGKILL)
        assert await asyncio.to_thread(process.ended_within, 5)
        # The pool may hear of it before or after it hands the process out: lost once, never twice.
        for _ in range(2):
            try:
                result = await pool.run(request("echo"))
                break
            except WorkerCrashed:
                continue
        assert result.worker != str(process.pid)


async def test_cancelling_the_await_ends_the_process(announcement: Announcement) -> None:
    async with running_pool() as pool:
        task = asyncio.create_task(pool.run(request("hang", source_name=str(announcement.path))))
        process = Watched(await announcement.pid())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(process.ended_within, 5)
        await pool.run(request("echo"))


async def test_cancelling_those_who_wait_in_line_loses_no_process(announcement: Announcement) -> None:
    async with running_pool() as pool:
        busy = asyncio.create_task(pool.run(request("wait_for_end", source_name=str(announcement.path))))
        await announcement.pid()
        line = [asyncio.create_task(pool.run(request("echo", b"%d" % number))) for number in range(10)]
        await asyncio.sleep(0)
        for task in line[::2]:
            task.cancel()
        await asyncio.to_thread(announcement.let_go)
        await busy
        results = await asyncio.gather(*line, return_exceptions=True)
        kinds = [type(result).__name__ for result in results]
        assert kinds == ["CancelledError", "RunResult"] * 5
        load = pool.load()
        assert (load.running, load.capacity) == (0, 1)


async def test_stopping_leaves_no_process_behind() -> None:
    async with running_pool(workers=3) as pool:
        processes = [Watched(pid) for pid in pool.processes()]
        assert len(processes) >= 2
    assert all(process.ended_within(0) for process in processes)
    assert pool.processes() == []
    with pytest.raises(ShuttingDown):
        await pool.run(request("echo"))


async def test_two_hundred_restarts_leak_no_descriptor() -> None:
    async with running_pool(recycle_after=1) as pool:
        for _ in range(20):
            await pool.run(request("echo"))
        before = open_descriptors()
        for _ in range(100):
            await pool.run(request("echo", bytes(1000)))
            with pytest.raises(WorkerCrashed):
                await pool.run(request("leave"))
        assert pool.load().restarts >= 219
        assert open_descriptors() <= before + 1
