"""Starts of the pool that fail, a zygote that is lost, and one that was forked early."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from pool_tools import Announcement, Watched, request, running_pool

from pixelmill.errors import WorkerCrashed
from pixelmill.targets.local import LocalPool
from pixelmill.targets.spawner import exec_zygote

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("entry", "reason"), [("nowhere_to_be_found:act", "ModuleNotFoundError"), ("misbehaving:nothing", "AttributeError")]
)
async def test_an_entry_that_can_not_be_imported_fails_the_start_with_the_reason(entry: str, reason: str) -> None:
    pool = LocalPool(workers=1, entry=entry)
    with pytest.raises(WorkerCrashed, match=reason):
        await pool.start()
    assert pool.processes() == []


async def test_processes_that_die_at_birth_fail_the_start_after_a_few_tries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELMILL_TEST_STILLBORN", str(tmp_path))
    pool = LocalPool(workers=2, entry="stillborn:act")
    async with asyncio.timeout(30):
        with pytest.raises(WorkerCrashed, match="exit code 9 before its first task"):
            await pool.start()
    assert not pool.load().healthy


def deaths_left(folder: Path) -> int:
    return len(list(folder.iterdir()))


@pytest.mark.parametrize("deaths", [1, 4])
async def test_a_zygote_that_is_killed_while_it_starts_is_started_again(
    deaths: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIXELMILL_TEST_DOOMED", str(tmp_path))
    for number in range(deaths):
        (tmp_path / f"{number}").touch()
    async with running_pool(entry="doomed_zygote:act") as pool:
        assert (await pool.run(request("echo", b"at last"))).outcome.bytes == b"at last"
        assert pool.load().healthy
    assert deaths_left(tmp_path) == 0


async def test_a_zygote_that_is_always_killed_fails_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIXELMILL_TEST_DOOMED", str(tmp_path))
    for number in range(20):
        (tmp_path / f"{number}").touch()
    pool = LocalPool(workers=1, entry="doomed_zygote:act")
    async with asyncio.timeout(30):
        with pytest.raises(WorkerCrashed, match="ended while it started"):
            await pool.start()
    assert deaths_left(tmp_path) == 15, "five tries"
    assert pool.processes() == []


async def test_a_pool_that_can_not_replace_its_processes_is_unhealthy_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flag = tmp_path / "flag"
    monkeypatch.setenv("PIXELMILL_TEST_STILLBORN", str(flag))
    async with running_pool(entry="stillborn:act") as pool:
        await pool.run(request("echo"))
        flag.touch()
        with pytest.raises(WorkerCrashed):
            await pool.run(request("leave"))
        with pytest.raises(WorkerCrashed, match="can't start its processes"):
            await pool.run(request("echo"))
        assert not pool.load().healthy
        assert "exit code 9" in pool.load().reason
        flag.unlink()
        while not pool.load().healthy:  # noqa: ASYNC110 - running_pool() bounds it
            await asyncio.sleep(0.01)
        await pool.run(request("echo"))
        assert pool.load().reason == ""


async def test_a_lost_zygote_costs_what_ran_and_is_replaced(tmp_path: Path) -> None:
    announcement = Announcement(tmp_path)
    async with running_pool(workers=2) as pool:
        task = asyncio.create_task(pool.run(request("hang", source_name=str(announcement.path))))
        await announcement.pid()
        processes = [Watched(pid) for pid in pool.processes()]
        os.kill(processes[0].pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await task
        for process in processes:
            assert await asyncio.to_thread(process.ended_within, 2)
        assert (await pool.run(request("echo", b"again"))).outcome.bytes == b"again"
        assert not {process.pid for process in processes} & set(pool.processes())
    announcement.close()


async def test_a_worker_is_not_used_before_its_process_id_is_known(tmp_path: Path) -> None:
    announcement = Announcement(tmp_path)
    async with running_pool(recycle_after=1) as pool:
        crew, loop = pool._crew, asyncio.get_running_loop()
        assert crew._spawner is not None
        assert crew._spawner._zygote is not None
        control = crew._spawner._zygote.control.fileno()
        loop.remove_reader(control)  # reports of the zygote come late
        await pool.run(request("echo"))
        task = asyncio.create_task(pool.run(request("hang", source_name=str(announcement.path))))
        while not any(worker.greeted for worker in crew._workers.values()):  # noqa: ASYNC110 - running_pool() bounds it
            await asyncio.sleep(0.001)
        assert pool.load().running == 0
        loop.add_reader(control, crew._spawner._on_readable)
        process = Watched(await announcement.pid())
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(process.ended_within, 5)
    announcement.close()


def test_a_zygote_ends_with_its_control_socket_where_no_kernel_kills_it() -> None:
    zygote = exec_zygote()
    process = Watched(zygote.pid)
    zygote.control.close()  # this process lives on: only the end of the stream tells the zygote
    assert process.ended_within(10)
    zygote.wait()


def test_a_pool_on_a_zygote_that_was_forked_early(tmp_path: Path) -> None:
    script = tmp_path / "command.py"
    script.write_text(
        "from pixelmill.targets.spawner import prefork\n"
        "zygote = prefork()\n"
        "import asyncio, sys, threading\n"
        "from pool_tools import request, running_pool\n"
        "async def main():\n"
        "    async with running_pool(zygote=zygote) as pool:\n"
        "        assert pool.processes()[0] == zygote.pid\n"
        "        print((await pool.run(request('echo', b'early'))).outcome.bytes.decode())\n"
        "asyncio.run(main())\n"
        "over = threading.Event()\n"
        "threading.Thread(target=over.wait).start()\n"
        "try: prefork()\n"
        "except RuntimeError as error: print(error)\n"
        "over.set()\n"
    )
    ran = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.stdout.splitlines() == ["early", "prefork() must be called before the first thread is started"], (
        ran.stderr
    )
