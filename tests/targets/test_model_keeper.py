"""One model process for all pools of a user: who starts it, who ends it, and what its death costs."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from pool_requests import picture_request
from tiny_models import fill

from pixelmill.errors import WorkerCrashed
from pixelmill.models.meeting import hello, private_address, shared_address
from pixelmill.targets import model_keeper
from pixelmill.targets.local import LocalPool
from pixelmill.targets.model_keeper import ModelProcess
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.target import RunResult

pytestmark = pytest.mark.anyio
CUT = "remove_background:model=bright/format:png"


@pytest.fixture
def meeting(monkeypatch: pytest.MonkeyPatch) -> str:
    """A place where the pools of this test meet, and no others."""
    address = private_address()
    monkeypatch.setattr(model_keeper, "shared_address", lambda: address)
    return address


@asynccontextmanager
async def pool_of(folder: Path) -> AsyncIterator[LocalPool]:
    pool = LocalPool(workers=1, models=PoolModels(folder, shared=True, slots=1))
    await pool.start()
    try:
        yield pool
    finally:
        await pool.stop()


async def met(keeper: ModelProcess) -> int:
    """The process that a pool has joined."""
    async with asyncio.timeout(60):
        while keeper.pid is None:  # noqa: ASYNC110 -- it tells nobody
            await asyncio.sleep(0.01)
    return keeper.pid


def started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


async def ended(pid: int) -> bool:
    """Whether it ends soon."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool((await asyncio.to_thread(select.select, [descriptor], [], [], 20))[0])
    finally:
        os.close(descriptor)


async def test_pools_share_a_process_that_ends_with_the_last_of_them(tmp_path: Path, meeting: str) -> None:
    fill(tmp_path / "a")
    fill(tmp_path / "b")
    async with pool_of(tmp_path / "a") as second:
        async with pool_of(tmp_path / "b") as first:
            for pool in (first, second):
                assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4
            pid = await met(first.models)
            assert await met(second.models) == pid
            assert (first.models.address, second.models.address) == (meeting, meeting)
        assert (await second.run(picture_request(CUT))).outcome.image.channels == 4, "who started it has left"
        assert await met(second.models) == pid
        assert second.models.restarts == 0
    assert await ended(pid)


async def test_of_many_that_start_at_once_one_starts_the_process(tmp_path: Path, meeting: str) -> None:
    fill(tmp_path)
    keepers = [ModelProcess(PoolModels(tmp_path, shared=True)) for _ in range(8)]
    for keeper in keepers:
        assert keeper.prepare()["address"] == meeting
    async with AsyncExitStack() as stack:
        await asyncio.gather(*(stack.enter_async_context(keeper.used()) for keeper in keepers))
        assert len({await met(keeper) for keeper in keepers}) == 1
    pid = await met(keepers[0])
    for keeper in keepers:
        keeper.stop()
    assert await ended(pid)


_JOIN = """
import asyncio, sys
from pathlib import Path
from pixelmill.targets import model_keeper
from pixelmill.targets.modelling import PoolModels
async def main():
    model_keeper.shared_address = lambda: "\\0" + sys.argv[2]
    keeper = model_keeper.ModelProcess(PoolModels(Path(sys.argv[1]), shared=True))
    keeper.prepare()
    sys.stdin.readline()
    async with keeper.used():
        while keeper.pid is None:
            await asyncio.sleep(0.01)
        print(keeper.pid, flush=True)
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_processes_that_start_at_once_meet_and_its_starter_may_be_killed(tmp_path: Path, meeting: str) -> None:
    fill(tmp_path)
    command = [sys.executable, "-c", _JOIN, str(tmp_path), meeting[1:]]
    others = [started(command) for _ in range(3)]
    for other in others:
        assert other.stdin is not None
        other.stdin.write("go\n")
        other.stdin.flush()
    pids = set()
    for other in others:
        assert other.stdout is not None
        pids.add(int(await asyncio.to_thread(other.stdout.readline)))
    assert len(pids) == 1
    async with pool_of(tmp_path) as pool:
        await pool.run(picture_request(CUT))
        assert {await met(pool.models)} == pids
        for other in others:
            other.kill()
            other.communicate()
        assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4
        assert pool.models.restarts == 0
    assert await ended(pids.pop())


async def test_when_it_is_killed_all_pools_meet_at_the_next_one(tmp_path: Path, meeting: str) -> None:
    del meeting
    fill(tmp_path)
    async with pool_of(tmp_path) as first, pool_of(tmp_path) as second:
        for pool in (first, second):
            await pool.run(picture_request(CUT))
        before = await met(first.models)
        os.kill(before, signal.SIGSTOP)
        running = [asyncio.ensure_future(pool.run(picture_request(CUT))) for pool in (first, second)]
        await asyncio.wait(running, timeout=0.5)  # they have asked by then, or find nobody: both end the same way
        os.kill(before, signal.SIGKILL)
        for end in await asyncio.gather(*running, return_exceptions=True):
            assert isinstance(end, RunResult | WorkerCrashed)
            assert isinstance(end, RunResult) or end.retryable
        for pool in (first, second):
            assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4
        after = await met(first.models)
        assert await met(second.models) == after != before
        assert [pool.models.restarts for pool in (first, second)] == [1, 1]


async def test_one_that_ended_for_being_idle_is_no_failure(tmp_path: Path, meeting: str) -> None:
    del meeting
    fill(tmp_path)
    async with pool_of(tmp_path) as pool:
        await pool.run(picture_request(CUT))
        before = await met(pool.models)
        connection = pool.models._connection
        assert connection is not None
        pool.models._take({"bye": "idle"})  # as it says; and it ends, for nobody else is there
        assert await ended(before)
        assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4
        assert await met(pool.models) != before
        assert pool.models.restarts == 0


async def test_what_a_dying_process_said_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(model_keeper, "_COMMAND", "raise SystemExit('no room here')")
    keeper = ModelProcess(PoolModels(tmp_path))
    keeper.prepare()
    try:
        async with asyncio.timeout(60), keeper.used():
            while keeper.restarts < model_keeper.MAX_FAILURES:  # noqa: ASYNC110 -- it tells nobody
                await asyncio.sleep(0.01)
        reasons = [getattr(line, "fields", {}).get("reason", "") for line in caplog.records]
        assert any("no room here" in reason for reason in reasons)
        with pytest.raises(WorkerCrashed, match="5 times in a row"):
            async with keeper.used():
                pass
    finally:
        keeper.stop()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
async def test_a_name_that_somebody_else_has_taken_is_left_alone(
    tmp_path: Path, meeting: str, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET);"
        "s.bind(chr(0) + sys.argv[1]); s.listen(); print('there', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, meeting[1:]]
    with started(command) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "there\n"
        fill(tmp_path)
        async with pool_of(tmp_path) as pool:
            assert (await pool.run(picture_request(CUT))).outcome.image.channels == 4
            assert pool.models.address not in {"", meeting}
        other.communicate("")
    assert "not shared: a process of another user listens there" in caplog.text


def test_the_name_is_of_this_user_and_this_program() -> None:
    assert shared_address() == shared_address()
    assert shared_address().startswith(f"\0pixelmill-models-{os.getuid()}-")
    assert len(shared_address()) < 108
    assert json.dumps(hello("pool", Path("here")))
