"""A process that is killed at any moment loses no task, and no task ends twice."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.model import Counts, State, TaskEvent
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.testing.engine import Script
from pixelmill.testing.job_store import job_of, tally, tasks_of
from pixelmill.testing.slots import Slots

TASKS = 1500
KILLS = 6


async def work(url: str) -> None:
    """Run the job on, from wherever a process before was killed; print a line for each batch that is durable."""
    async with Database(url) as db:
        store, leases = JobStore(db), SqlLeaseQueue(db)
        await Upkeep(store).reconcile(await leases.recover())
        ended = asyncio.Event()
        if (await store.job("ann", "job")).state.is_final:
            ended.set()

        async def emit(events: list[TaskEvent]) -> None:
            recorded = await store.record(events)
            print(len(recorded.tasks), flush=True)  # noqa: T201 -- how the parent knows where we are
            if any(job.ended for job in recorded.jobs):
                ended.set()

        engine = LeasedEngine(leases, Slots(3), Script(), emit)  # type: ignore[arg-type] # lists are sequences
        await engine.start()
        await ended.wait()
        await engine.stop(5.0)


def test_kill_at_random_moments_loses_and_doubles_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"

    async def submit() -> None:
        async with Database(url) as db:
            await JobStore(db).create_job(job_of(), tasks_of("job", TASKS))

    asyncio.run(submit())

    async def is_open() -> bool:
        async with Database(url) as db:
            return not (await JobStore(db).job("ann", "job")).state.is_final

    chance = random.Random(7)
    cut_off = 0
    for _ in range(KILLS):
        process = subprocess.Popen([sys.executable, __file__, url], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            for _ in range(1 + chance.randrange(3)):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
        process.wait(30)
        cut_off += asyncio.run(is_open())
    assert cut_off >= 3, "the job ended too early for the kills to mean anything"

    async def finish() -> None:
        async with asyncio.timeout(60):
            await work(url)
        async with Database(url) as db:
            store = JobStore(db)
            job = await store.job("ann", "job")
            assert (job.state, job.counts) == (State.SUCCEEDED, Counts(succeeded=TASKS))
            assert await tally(store, "job") == job.counts
            depth = await SqlLeaseQueue(db).depth()
            assert (depth.waiting, depth.leased, depth.dead) == (0, 0, 0)
            log, last, ends = EventLog(db), 0, Counter[str]()
            while events := await log.after("ann", last, limit=1000):
                last = events[-1].id
                ends.update(e.data["id"] for e in events if e.type == "task" and e.data["state"] == "succeeded")
            assert len(ends) == TASKS
            assert set(ends.values()) == {1}

    asyncio.run(finish())


@pytest.mark.parametrize("moment", range(3))
def test_kill_while_a_job_is_made_leaves_all_of_it_or_nothing(tmp_path: Path, moment: int) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"

    async def look() -> None:
        async with Database(url) as db:
            store = JobStore(db)
            found = (await store.list_jobs("ann")).items
            waiting = (await SqlLeaseQueue(db).depth()).waiting
            assert sum(job.counts.queued for job in found) == waiting
            for job in found:
                assert job.counts == Counts(queued=20_000)
                page = await store.list_tasks("ann", job.id, limit=1)
                assert page.items[0].seq == 0

    asyncio.run(look())  # migrated before the clock runs
    process = subprocess.Popen([sys.executable, __file__, url, "submit"], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        process.stdout.readline()  # it begins
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.02 + 0.15 * moment)
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    asyncio.run(look())


async def submit_for_ever(url: str) -> None:
    """Make large jobs until killed."""
    async with Database(url) as db:
        print("begin", flush=True)  # noqa: T201 -- how the parent knows where we are
        number = 0
        while True:
            number += 1
            await JobStore(db).create_job(job_of(f"job{number}"), tasks_of(f"job{number}", 20_000))


if __name__ == "__main__":
    asyncio.run(submit_for_ever(sys.argv[1]) if len(sys.argv) > 2 else work(sys.argv[1]))
