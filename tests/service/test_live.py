"""Live samples: taken once for all who watch, and only while somebody does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from pixelmill.errors import StorageUnavailable
from pixelmill.jobs.model import State, TaskEvent
from pixelmill.jobs.recorder import TaskChange
from pixelmill.metrics import Run
from pixelmill.service import live
from pixelmill.service.history import COLUMNS, History
from pixelmill.service.live import Live

pytestmark = pytest.mark.anyio


class Source:
    """Numbered samples, some of which fail."""

    def __init__(self, failing: frozenset[int] = frozenset()) -> None:
        self.taken, self._failing = 0, failing

    async def __call__(self) -> bytes:
        self.taken += 1
        if self.taken in self._failing:
            raise StorageUnavailable("The database is away.")
        return b"%d" % self.taken


async def test_all_readers_get_the_same_sample_and_it_is_taken_once() -> None:
    source = Source()
    shared = Live(source, every_s=0.01)

    async def read() -> list[bytes]:
        async with aclosing(shared.follow()) as samples:
            found = [sample async for sample in take(samples, 3)]
        return [sample for sample in found if sample is not None]

    found = await asyncio.gather(*(read() for _ in range(20)))
    # The same objects: nothing is written down for each reader.
    assert all(mine is first for readers in zip(*found, strict=True) for first in readers[:1] for mine in readers)
    assert shared.readers == 0


async def take(samples: AsyncIterator[bytes | None], count: int) -> AsyncIterator[bytes | None]:
    for _ in range(count):
        yield await anext(samples)


async def test_nothing_is_taken_while_nobody_watches_and_who_comes_back_gets_a_new_sample() -> None:
    source = Source()
    shared = Live(source, every_s=0.01)
    async with aclosing(shared.follow()) as samples:
        assert await anext(samples) == b"1"
        await anext(samples)
    taken = source.taken
    await asyncio.sleep(0.1)  # ten samples' time: what must not happen has no event to wait for
    assert source.taken == taken
    async with aclosing(shared.follow()) as samples:
        assert await anext(samples) == b"%d" % (taken + 1)


async def test_who_comes_later_gets_the_newest_at_once() -> None:
    shared = Live(Source(), every_s=30.0)
    async with aclosing(shared.follow()) as first, asyncio.timeout(10):
        sample = await anext(first)
        async with aclosing(shared.follow()) as second:
            assert await anext(second) is sample


async def test_a_slow_reader_skips_what_it_missed() -> None:
    source = Source()
    shared = Live(source, every_s=0.01)
    async with aclosing(shared.follow()) as slow, aclosing(shared.follow()) as quick:
        assert await anext(slow) == b"1"
        while await anext(quick) != b"9":
            pass
        assert int(await anext(slow) or 0) >= 9


async def test_a_gap_ends_no_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "HEARTBEAT_S", 0.05)
    shared = Live(Source(failing=frozenset({2})), every_s=0.2)
    async with aclosing(shared.follow()) as samples:
        found: list[bytes | None] = []
        while found[-1:] != [b"3"]:
            found.append(await anext(samples))
    assert found[0] == b"1"
    assert b"2" not in found
    assert None in found, "heartbeats while there is no sample"


def test_the_newest_row_is_the_last_of_the_table() -> None:
    history = History()
    assert history.newest() is None
    event = TaskEvent(
        "failed", "t", "j", "ann", 0, 1, 101.5, target="pool", worker="1", error={"type": "corrupt-image"}
    )
    change = TaskChange("t", "j", "ann", State.RUNNING, State.FAILED, 100.0, 101.0, event)
    history.tick(100.0, waiting=3, oldest_s=1.5, running=1)
    history.ran(Run.of_task(change))
    history.tick(101.0, waiting=2, oldest_s=0.5, running=0)
    row, table = history.newest(), history.table("hour")
    assert row is not None
    assert row.pop("reasons") == {"corrupt-image": 1}
    assert row.pop("targets") == table["targets"] == {"pool": 1}
    assert list(row) == list(COLUMNS)
    assert row == {name: column[-1] for name, column in table["columns"].items()}
    history.tick(102.0, waiting=2, oldest_s=0.5, running=0)
    assert (history.newest() or {})["reasons"] == {}
