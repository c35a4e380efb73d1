"""Paid targets: what is reserved before, settled after, counted, and refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import odd_server
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stub_target import StubTarget

from pixelmill.errors import CorruptImage, NodeLost, PixelmillError, TargetUnavailable
from pixelmill.fleet.circuit import Circuit, CircuitState
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import Gate
from pixelmill.fleet.overflow import PaidTarget, Price
from pixelmill.fleet.overflow_watch import OverflowWatch
from pixelmill.jobs.database import Database
from pixelmill.jobs.ledger import UNIT, Ledger
from pixelmill.jobs.model import Priority
from pixelmill.targets.serverless import ServerlessTarget
from pixelmill.targets.target import RunRequest, RunResult

pytestmark = pytest.mark.anyio

SPENDER = Path(__file__).parent.parent / "support" / "spender.py"


class Cloud(StubTarget):
    """A remote target whose calls end as a test says."""

    def __init__(self, name: str = "cloud", capacity: int = 10) -> None:
        super().__init__(name, capacity)
        self.error: PixelmillError | None = None
        self.warmed = 0
        self.began = asyncio.Event()

    async def warm(self) -> None:
        self.warmed += 1

    async def run(self, request: RunRequest) -> RunResult:
        self.began.set()
        result = await super().run(request)
        self.ids.remove(request.id)
        if self.error is not None:
            raise self.error
        return result


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Shut:
    """A gate that a test moves."""

    def __init__(self) -> None:
        self.open = False

    def verdict(self) -> Gate:
        return Gate(open=self.open, reason="" if self.open else "busy")

    def rank(self) -> float:
        return 0.0

    def describe(self) -> dict[str, object]:
        return {}


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path / 'state.sqlite'}") as database:
        yield database


def ask(name: str = "1") -> RunRequest:
    return RunRequest(name, "{}", b"")


async def settled(target: PaidTarget) -> None:
    while target._settling:
        await asyncio.wait(target._settling)


# -- prices --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("price", "seconds", "billionths"),
    [
        (Price(per_call=0.5), 10.0, UNIT // 2),
        (Price(per_second=1.0), 0.0, 0),
        (Price(per_second=1.0, step_s=0.1), 0.3, 300_000_000),
        (Price(per_second=1.0, step_s=0.1), 0.301, 400_000_000),
        (Price(per_second=1.0, minimum_s=1.0), 0.2, UNIT),
        (Price(0.0000002, 0.0000166667, step_s=0.001), 1.0, 16_867),
    ],
)
def test_prices_are_of_whole_steps_and_rounded_up(price: Price, seconds: float, billionths: int) -> None:
    assert price.of(seconds) == billionths


@given(st.floats(0, 1), st.floats(0, 1), st.floats(0, 100), st.floats(0, 100))
def test_a_longer_call_never_costs_less(per_call: float, per_second: float, one: float, other: float) -> None:
    price = Price(per_call, per_second, 0.1, 0.1)
    assert price.of(min(one, other)) <= price.of(max(one, other))


# -- one target ----------------------------------------------------------------------------------


async def test_a_call_is_reserved_at_its_worst_and_settled_at_what_it_took(database: Database) -> None:
    clock, cloud = Clock(), Cloud()
    ledger = Ledger(database, {"hour": 100 * UNIT})
    target = PaidTarget(cloud, Price(1.0, 0.5), ledger, timeout_s=20, now=clock)
    cloud.go.clear()
    running = asyncio.create_task(target.run(ask()))
    await cloud.began.wait()
    assert ledger.spend("hour").reserved == 11 * UNIT
    clock.time += 4
    cloud.go.set()
    result = await running
    await settled(target)
    assert result.cost == 3.0
    assert (ledger.spend("hour").spent, ledger.spend("hour").reserved) == (3 * UNIT, 0)
    assert target.gate.describe()["hour"]["cost"] == 3.0


@pytest.mark.parametrize(
    ("error", "cost", "failures"),
    [
        (TargetUnavailable("x", billed="none"), 0, 1),
        (TargetUnavailable("x", billed="elapsed"), UNIT, 1),
        (TargetUnavailable("x", billed="worst"), 11 * UNIT, 1),
        (TargetUnavailable("x"), 11 * UNIT, 1),
        (CorruptImage("x"), UNIT, 0),
    ],
)
async def test_failed_calls_cost_what_they_may_have_cost(
    database: Database, error: PixelmillError, cost: int, failures: int
) -> None:
    cloud, ledger = Cloud(), Ledger(database)
    target = PaidTarget(cloud, Price(1.0, 0.5), ledger, timeout_s=20, now=Clock())
    cloud.error = error
    with pytest.raises(type(error)):
        await target.run(ask())
    await settled(target)
    assert (ledger.spend("hour").used, ledger.spend("hour").failures) == (cost, failures)
    if isinstance(error, CorruptImage):
        assert error.context["cost"] == 1.0


async def test_a_cancelled_call_counts_at_its_worst(database: Database) -> None:
    cloud, ledger = Cloud(), Ledger(database)
    target = PaidTarget(cloud, Price(1.0), ledger, timeout_s=20)
    cloud.go.clear()
    running = asyncio.create_task(target.run(ask()))
    await cloud.began.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await settled(target)
    assert ledger.spend("hour").spent == UNIT


async def test_no_call_lasts_longer_than_was_reserved_for(database: Database) -> None:
    ledger = Ledger(database, {"hour": UNIT})
    cloud = Cloud()
    cloud.go.clear()
    paid = PaidTarget(cloud, Price(per_second=1.0), ledger, timeout_s=0.2)
    await paid.start()
    with pytest.raises(TargetUnavailable, match=r"not answered after 0\.2 s") as caught:
        await asyncio.wait_for(paid.run(RunRequest("1", "[]", b"", timeout_s=600.0)), 20)
    await paid.stop()
    assert (caught.value.context["billed"], caught.value.context["begun"]) == ("worst", True)
    assert (ledger.spend("hour").spent, ledger.spend("hour").reserved) == (UNIT // 5, 0)


async def test_what_does_not_fit_is_not_called_and_the_gate_says_why(database: Database) -> None:
    cloud, ledger = Cloud(), Ledger(database, {"hour": 2 * UNIT})
    target = PaidTarget(cloud, Price(1.0), ledger, timeout_s=20)
    assert target.load().capacity == 2  # as many as the budget has room for
    for _ in range(2):
        await target.run(ask())
    with pytest.raises(TargetUnavailable, match="budget of this hour"):
        await target.run(ask())
    await settled(target)
    assert "budget of this hour" in target.gate.verdict().reason
    assert target.load().capacity == 0
    assert target.circuit.state is CircuitState.CLOSED


async def test_a_task_whose_calls_end_badly_twice_counts_an_attempt(database: Database) -> None:
    """Else a task that makes every container hang would be tried for ever."""
    cloud = Cloud()
    target = PaidTarget(cloud, Price(), Ledger(database), timeout_s=20)
    cloud.error = TargetUnavailable("it hung", begun=True)
    with pytest.raises(TargetUnavailable):
        await target.run(ask())
    with pytest.raises(NodeLost):
        await target.run(ask())
    cloud.error = TargetUnavailable("busy", begun=False)
    for _ in range(3):
        with pytest.raises(TargetUnavailable):
            await target.run(ask("2"))


async def test_while_half_open_there_is_room_for_one_probe(database: Database) -> None:
    clock, cloud = Clock(), Cloud()
    circuit = Circuit(consecutive=1, pause_s=5, now=clock)
    target = PaidTarget(cloud, Price(), Ledger(database), timeout_s=20, circuit=circuit)
    cloud.error = TargetUnavailable("500")
    with pytest.raises(TargetUnavailable):
        await target.run(ask())
    assert not target.gate.verdict().open
    clock.time += 5
    assert target.gate.verdict().open
    assert target.load().capacity == 1
    cloud.error = None
    await target.run(ask())
    assert target.load().capacity == 10


async def test_several_are_ranked_by_price_or_by_speed(database: Database) -> None:
    ledger = Ledger(database)

    def make(order: str) -> list[str]:
        cheap = PaidTarget(Cloud("cheap"), Price(0.1), ledger, timeout_s=9, order=order)  # type: ignore[arg-type]
        quick = PaidTarget(Cloud("quick"), Price(0.2), ledger, timeout_s=9, order=order)  # type: ignore[arg-type]
        cheap.mean_s, quick.mean_s = 2.0, 1.0
        return [target.name for target in sorted((cheap, quick), key=lambda target: target.gate.rank())]

    assert make("price") == ["cheap", "quick"]
    assert make("speed") == ["quick", "cheap"]


# -- with a dispatcher ---------------------------------------------------------------------------


async def test_an_exhausted_budget_shuts_overflow_and_own_gates_count_as_open(database: Database) -> None:
    own, cloud, shut = StubTarget("own"), Cloud(), Shut()
    ledger = Ledger(database, {"hour": 3 * UNIT})
    target = PaidTarget(cloud, Price(1.0), ledger, timeout_s=20)
    dispatcher = Dispatcher([own], reserved=0, gates={"own": shut})
    dispatcher.add(target, target.gate, overflow=True)
    ran = [(await dispatcher.run(ask(str(number)))).target for number in range(6)]
    assert ran == ["cloud"] * 3 + ["own"] * 3


async def test_work_that_overflow_does_not_take_stays_at_home(database: Database) -> None:
    own, cloud, shut = StubTarget("own", 1), Cloud(), Shut()
    target = PaidTarget(cloud, Price(), Ledger(database), timeout_s=20)
    dispatcher = Dispatcher([own], reserved=0, gates={"own": shut})
    dispatcher.add(target, target.gate, overflow=True)
    first = await dispatcher.acquire(own=True)
    waiting = asyncio.create_task(dispatcher.acquire(Priority.INTERACTIVE, own=True))
    async with await dispatcher.acquire() as elsewhere:
        assert (first.target, elsewhere.target) == ("own", "cloud")
    assert not waiting.done()
    first.release()
    assert (await waiting).target == "own"


async def test_a_broken_target_gets_no_more_and_everything_runs_at_home(database: Database) -> None:
    own, cloud, shut = StubTarget("own"), Cloud(), Shut()
    target = PaidTarget(cloud, Price(), Ledger(database), timeout_s=20, circuit=Circuit(consecutive=5))
    dispatcher = Dispatcher([own], reserved=0, gates={"own": shut})
    dispatcher.add(target, target.gate, overflow=True)
    cloud.error = TargetUnavailable("500", begun=False)
    ran = []
    for number in range(10):
        try:
            ran.append((await dispatcher.run(ask(str(number)))).target)
        except TargetUnavailable:
            ran.append("returned")
    assert ran == ["returned"] * 5 + ["own"] * 5


async def test_the_watch_warms_up_once_when_gates_begin_to_shut(database: Database) -> None:
    own, cloud, shut = StubTarget("own"), Cloud(), Shut()
    ledger = Ledger(database, {"hour": UNIT})
    target = PaidTarget(cloud, Price(0.1), ledger, timeout_s=1)
    dispatcher = Dispatcher([own], reserved=0, gates={"own": shut})
    dispatcher.add(target, target.gate, overflow=True)
    shut.open = True

    async def nothing() -> dict[Priority, float]:
        return {}

    watch = OverflowWatch(dispatcher, ledger, [target], nothing, warm={"cloud": 3})
    await watch.tick()
    assert cloud.warmed == 0
    for _ in range(3):
        shut.open = False
        await watch.tick()
        while watch._warming:
            await asyncio.wait(watch._warming)
    assert cloud.warmed == 3
    await settled(target)
    assert ledger.spend("hour").calls == 3  # they are paid for too


async def test_work_that_waits_in_the_queue_overflows_by_the_patience_of_its_class(database: Database) -> None:
    own, cloud = StubTarget("own", 1), Cloud()
    target = PaidTarget(cloud, Price(), Ledger(database), timeout_s=20)
    dispatcher = Dispatcher([own], reserved=0, latency_s={Priority.NORMAL: 30.0})
    dispatcher.add(target, target.gate, overflow=True)
    ages = {Priority.NORMAL: 29.0, Priority.BATCH: 1e6}

    async def queued() -> dict[Priority, float]:
        return ages

    watch = OverflowWatch(dispatcher, Ledger(database), [target], queued)
    async with await dispatcher.acquire():  # our own machine is busy
        await watch.tick()
        assert dispatcher.overflowing() is None
        waiting = asyncio.create_task(dispatcher.acquire(Priority.NORMAL))
        patient = asyncio.create_task(dispatcher.acquire(Priority.BATCH))
        ages[Priority.NORMAL] = 31.0
        await watch.tick()
        slot = await waiting
        assert slot.target == "cloud"
        assert "longer than 30 s" in slot.reason
        assert not patient.done()
        slot.release()
        patient.cancel()


# -- with processes that die ---------------------------------------------------------------------


async def test_the_budget_is_never_passed_by_processes_that_are_killed(tmp_path: Path) -> None:
    """Fifty calls at once in each of three; two are killed in the middle, and the last one spends what is left."""
    url = f"sqlite:///{tmp_path / 'state.sqlite'}"
    async with Database(url):
        pass
    most, half = 400, asyncio.Event()

    async def act(writer: asyncio.StreamWriter) -> None:
        if server.posts >= most // 2:
            half.set()
        await odd_server.GOOD(writer)

    async with odd_server.odd_server(act) as server:
        command = [sys.executable, str(SPENDER), url, server.url, str(most * 0.01), "0.01", "100000"]
        first = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL) for _ in range(2)]
        async with asyncio.timeout(60):
            await half.wait()
        for process in first:
            process.kill()
            await process.wait()
        said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert server.posts <= most
        assert server.posts > most // 2
    assert "target-unavailable" in said.stdout, said.stderr
    _, spent, reserved, calls = said.stdout.splitlines()[-1].split()
    assert int(spent) + int(reserved) <= most * UNIT // 100
    assert server.posts <= int(calls) <= most
    assert int(spent) + int(reserved) == int(calls) * UNIT // 100  # what the killed had open still counts


async def test_fifty_calls_at_once_stay_within_the_budget(database: Database) -> None:
    async with odd_server.odd_server(odd_server.GOOD) as server:
        ledger = Ledger(database, {"day": 20 * UNIT})
        target = PaidTarget(ServerlessTarget("cloud", server.url, concurrency=50), Price(1.0), ledger, timeout_s=30)
        await target.start()
        ended = await asyncio.gather(*(target.run(ask(str(n))) for n in range(50)), return_exceptions=True)
        await target.stop()
        assert server.posts == 20
    assert sum(isinstance(one, RunResult) for one in ended) == 20
    assert sum(isinstance(one, TargetUnavailable) for one in ended) == 30
    assert ledger.spend("day").used == 20 * UNIT
