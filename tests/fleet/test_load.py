"""Load samples: they tell our own load from everybody else's, and an hour of them needs no more room than at first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.fleet.load import LoadHistory, LoadMonitor, LoadSample, PsutilSampler


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_our_own_work_counts_as_own() -> None:
    sampler = PsutilSampler()
    begun = time.monotonic()
    first = sampler.sample()
    assert first.own_cpu == first.host_cpu == 0.0
    assert first.own_rss > 1_000_000
    assert 0 < first.host_ram < 100
    busy(0.4)
    second = sampler.sample()
    passed = time.monotonic() - begun  # more than 0.4 s where others have the processors
    assert second.own_cpu > 100 * 0.3 / (passed * (os.cpu_count() or 1))
    assert second.foreign_cpu <= second.host_cpu


def test_the_work_of_processes_it_was_told_about_counts_even_when_they_have_ended() -> None:
    code = "import time, sys\nwhile time.process_time() < 0.5: pass\nprint(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        sampler = PsutilSampler(lambda: [child.pid, 2**22 - 1])
        before = sampler._tree()[0]
        child.stdout.readline()
        during = sampler._tree()[0]
        assert during - before >= 0.3
        child.communicate()
    # Reaped by us: its seconds are in our own count of children now.
    assert sampler._tree()[0] >= during


def sample(value: float) -> LoadSample:
    return LoadSample(value, value, value, value, int(value))


def test_an_empty_history_has_columns_without_values() -> None:
    history = LoadHistory(10)
    assert history.last() is None
    assert history.snapshot() == {"at": [], "host_cpu": [], "host_ram": [], "own_cpu": [], "own_ram": [], "own_rss": []}


@given(st.integers(1, 50), st.integers(0, 200), st.integers(1, 60))
def test_a_history_keeps_the_newest_in_order_and_never_grows(size: int, count: int, points: int) -> None:
    history = LoadHistory(size)
    for number in range(count):
        history.add(sample(number % 100), at=float(number))
    assert len(history) == min(size, count)
    table = history.snapshot(points)
    assert len({len(column) for column in table.values()}) == 1
    assert len(table["at"]) <= points
    assert table["at"] == sorted(table["at"])
    if count:
        last = history.last()
        assert last is not None
        assert table["at"][-1] == last["at"] == count - 1
        assert last["own_rss"] == (count - 1) % 100
    full = history.snapshot(10**6)
    assert full["at"] == [float(number) for number in range(max(0, count - size), count)]


def test_thinning_averages_neighbors() -> None:
    history = LoadHistory(10)
    for value in (0, 10, 20, 30):
        history.add(sample(value), at=value)
    assert history.snapshot(2)["host_cpu"] == [5.0, 25.0]


@pytest.mark.anyio
async def test_the_monitor_keeps_samples_and_tells_of_them() -> None:
    seen: asyncio.Queue[LoadSample] = asyncio.Queue()
    monitor = LoadMonitor(PsutilSampler(), LoadHistory(), seen.put_nowait, interval_s=0.01)
    task = asyncio.create_task(monitor.run())
    async with asyncio.timeout(10):
        samples = [await seen.get() for _ in range(3)]
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(monitor.history) >= 3
    assert all(0 <= one.host_cpu <= 100 for one in samples)


@pytest.mark.anyio
@pytest.mark.parametrize("error", [OSError(24, "Too many open files"), ValueError("a defect"), ZeroDivisionError()])
async def test_a_sample_that_can_not_be_taken_leaves_a_gap_and_no_more(error: Exception) -> None:
    class Failing:
        failures = 2

        def sample(self) -> LoadSample:
            if self.failures:
                self.failures -= 1
                raise error
            return LoadSample(1.0, 2.0, 0.0, 0.0, 3)

    seen: asyncio.Queue[LoadSample] = asyncio.Queue()
    monitor = LoadMonitor(Failing(), LoadHistory(), seen.put_nowait, interval_s=0.01)
    task = asyncio.create_task(monitor.run())
    async with asyncio.timeout(10):
        await seen.get()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert len(monitor.history) == 1 + seen.qsize()
