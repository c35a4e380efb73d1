"""The ledger: sums of a window never pass its budget, whatever happens to who spends."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import func, select

from pixelmill.errors import TargetUnavailable
from pixelmill.jobs.database import Database
from pixelmill.jobs.ledger import PERIODS, UNIT, Ledger
from pixelmill.jobs.schema import overflow_calls

pytestmark = pytest.mark.anyio


class Clock:
    def __init__(self, time: float = 1_000_000 * 86_400.0) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.sqlite'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def databases(url: str) -> AsyncIterator[tuple[Database, Database]]:
    """Two of them on the same data, as two processes have."""
    async with Database(url) as one, Database(url) as other:
        yield one, other


async def test_a_reservation_is_made_only_while_it_fits_hour_and_day(databases: tuple[Database, Database]) -> None:
    clock = Clock()
    ledger = Ledger(databases[0], {"hour": 10, "day": 15}, now=clock)
    for _ in range(2):
        await ledger.reserve("cloud", 5)
    with pytest.raises(TargetUnavailable, match="this hour"):
        await ledger.reserve("cloud", 1)
    assert "this hour" in ledger.refusal(1)
    assert ledger.room(1, 9) == 0
    clock.time += 3600
    assert not ledger.refusal(5)  # known without asking: a new hour has begun
    await ledger.reserve("other", 5)
    with pytest.raises(TargetUnavailable, match="this day"):
        await ledger.reserve("cloud", 1)
    clock.time += 86_400
    await ledger.reserve("cloud", 10)


async def test_more_than_the_budget_is_never_reserved_even_first(databases: tuple[Database, Database]) -> None:
    with pytest.raises(TargetUnavailable):
        await Ledger(databases[0], {"day": 4}).reserve("cloud", 5)


async def test_a_refusal_leaves_nothing_behind(databases: tuple[Database, Database]) -> None:
    """The day's row is taken first: where the hour then refuses, it must be given back."""
    ledger = Ledger(databases[0], {"hour": 5, "day": 100}, now=Clock())
    await ledger.reserve("cloud", 5)
    for _ in range(3):
        with pytest.raises(TargetUnavailable):
            await ledger.reserve("cloud", 5)
    await ledger.refresh()
    assert (ledger.spend("day").used, ledger.spend("hour").used, ledger.spend("day").calls) == (5, 5, 1)


async def test_settling_frees_the_difference_in_the_window_of_the_reservation(
    databases: tuple[Database, Database],
) -> None:
    clock = Clock()
    ledger = Ledger(databases[0], {"hour": 10}, now=clock)
    first = await ledger.reserve("cloud", 10)
    clock.time += 3600
    await ledger.reserve("cloud", 10)
    await ledger.settle(first, 3, failed=True)
    assert ledger.spend("hour").used == 10  # of the second hour
    clock.time -= 3600
    await ledger.refresh()
    assert (ledger.spend("hour").spent, ledger.spend("hour").reserved) == (3, 0)
    assert ledger.spend("hour", "cloud").failures == 1


async def test_settling_again_changes_nothing(databases: tuple[Database, Database]) -> None:
    """As when a commit was done, and the answer that said so was lost."""
    ledger = Ledger(databases[0], {"hour": 100, "day": 100}, now=Clock())
    one, _other = [await ledger.reserve("cloud", 10) for _ in range(2)]
    for _ in range(3):
        await ledger.settle(one, 4, failed=True)
    for period in PERIODS:
        for target in ("", "cloud"):
            spend = ledger.spend(period, target)
            assert (spend.spent, spend.reserved, spend.failures) == (4, 10, 1)


async def test_rows_of_calls_go_when_they_are_settled_and_when_nobody_settles_them(
    databases: tuple[Database, Database],
) -> None:
    async def rows() -> int:
        query = select(func.count()).select_from(overflow_calls)
        return await databases[0].read(lambda connection: connection.execute(query).scalar_one())

    clock = Clock()
    ledger = Ledger(databases[0], now=clock)
    left, settled = [await ledger.reserve("cloud", 10) for _ in range(2)]
    await ledger.settle(settled, 1)
    await ledger.prune()
    assert await rows() == 1
    clock.time += 3 * 86_400
    await ledger.prune()
    assert await rows() == 0
    await ledger.settle(left, 1)  # far too late: it stays at its worst case
    clock.time -= 3 * 86_400
    await ledger.refresh()
    assert ledger.spend("day").used == 11


async def test_a_refused_call_leaves_no_row(databases: tuple[Database, Database]) -> None:
    ledger = Ledger(databases[0], {"hour": 5})
    with pytest.raises(TargetUnavailable):
        await ledger.reserve("cloud", 6)
    query = select(overflow_calls.c.id)
    assert await databases[0].read(lambda connection: connection.execute(query).all()) == []


async def test_a_call_never_costs_more_than_was_reserved(databases: tuple[Database, Database]) -> None:
    ledger = Ledger(databases[0], {"hour": 10})
    await ledger.settle(await ledger.reserve("cloud", 4), 400)
    assert ledger.spend("hour").used == 4


@pytest.mark.parametrize("seed", range(3))
async def test_two_processes_at_once_never_pass_the_budget(databases: tuple[Database, Database], seed: int) -> None:
    """Hundreds of calls at once, some of which are never settled, across the end of an hour."""
    rng, clock, budget = random.Random(seed), Clock(), 40 * UNIT
    ledgers = [Ledger(database, {"hour": budget, "day": 2 * budget}, now=clock) for database in databases]
    refused = 0

    async def call(ledger: Ledger, number: int) -> None:
        nonlocal refused
        worst = rng.randrange(1, 2 * UNIT)
        try:
            reservation = await ledger.reserve("cloud", worst)
        except TargetUnavailable:
            refused += 1
            return
        if number == 60:
            clock.time += 3600
        if rng.random() < 0.7:
            await ledger.settle(reservation, rng.randrange(worst + 1))

    await asyncio.gather(*(call(ledger, number) for number in range(120) for ledger in ledgers))
    for hours in (0, -3600):
        clock.time += hours
        await ledgers[0].refresh()
        assert ledgers[0].spend("hour").used <= budget
        assert ledgers[0].spend("day").used <= 2 * budget
        for period in PERIODS:
            assert ledgers[0].spend(period).used == ledgers[0].spend(period, "cloud").used
    assert refused


async def test_old_windows_are_forgotten_and_this_one_is_not(databases: tuple[Database, Database]) -> None:
    clock = Clock()
    ledger = Ledger(databases[0], {"day": 100}, now=clock)
    await ledger.reserve("cloud", 7)
    await ledger.prune()
    await ledger.refresh()
    assert ledger.spend("day").used == 7
    clock.time += 100 * 86_400
    await ledger.prune()
    clock.time -= 100 * 86_400
    await ledger.refresh()
    assert ledger.spend("day").used == 0


SPENDS_FOR_EVER = """
import asyncio, sys
from pixelmill.jobs.database import Database
from pixelmill.jobs.ledger import Ledger

async def lane(ledger, number):
    while True:
        reservation = await ledger.reserve("cloud", 5)
        print("reserved", flush=True)
        await asyncio.sleep(0.001 * number)  # the call
        await ledger.settle(reservation, 2)

async def main():
    async with Database(sys.argv[1]) as database:
        ledger = Ledger(database, {"hour": 10**9, "day": 10**9}, now=lambda: 86_400.0 * 365)
        await asyncio.gather(*(lane(ledger, number) for number in range(8)))

asyncio.run(main())
"""
LANES = 8


@pytest.mark.parametrize("lines", [1, 40, 200])
async def test_what_a_killed_process_had_reserved_stays_reserved_and_sums_agree(url: str, lines: int) -> None:
    """Killed between reservation and call, in the call, or in the transaction of either."""
    async with Database(url) as database:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SPENDS_FOR_EVER, url, stdout=asyncio.subprocess.PIPE
        )
        try:
            assert process.stdout is not None
            async with asyncio.timeout(60):
                for _ in range(lines):
                    assert await process.stdout.readline() == b"reserved\n"
        finally:
            process.kill()
            await process.wait()
        ledger = Ledger(database, {"hour": 10**9, "day": 10**9}, now=lambda: 86_400.0 * 365)
        await ledger.refresh()
        sums = {(period, target): ledger.spend(period, target) for period in PERIODS for target in ("", "cloud")}
        assert len(set(sums.values())) == 1, "hour and day, one target and all of them"
        (found,) = set(sums.values())
        unsettled, rest = divmod(found.reserved, 5)
        assert rest == 0
        assert 0 <= unsettled <= LANES
        assert found.spent == 2 * (found.calls - unsettled), "each call is settled or reserved, never both or neither"
        assert found.calls >= lines
        # A budget of exactly what is used up has no room, and one of a call more has room for one.
        tight = Ledger(database, {"hour": found.used + 5}, now=lambda: 86_400.0 * 365)
        await tight.reserve("cloud", 5)
        with pytest.raises(TargetUnavailable):
            await tight.reserve("cloud", 1)
