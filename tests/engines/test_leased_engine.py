from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.queue import Lease, LeaseQueue, Message
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import PixelmillError, StorageFull, StorageUnavailable, TargetUnavailable
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import Priority, TaskEvent
from pixelmill.testing.engine import BOUND_S, EngineConformance, Ledger, Rig, Script, message_of
from pixelmill.testing.slots import BareSlot, Slots

FOREVER = 1000.0


class LeasedRig:
    def __init__(
        self, queue: LeaseQueue, script: Script, slots: Slots, prefetch: int = 4, visibility_s: float = FOREVER
    ) -> None:
        self.queue = queue
        self.ledger = Ledger()
        # An engine that polls for ever would hide a wake that is missed.
        self.engine = LeasedEngine(
            queue, slots, script, self.emit, prefetch=prefetch, poll_s=FOREVER, visibility_s=visibility_s
        )

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        await self.ledger.emit(events)

    async def submit(self, messages: Sequence[TaskMessage]) -> None:
        await self.queue.send([Message(one.id, one.to_json()) for one in messages])
        self.engine.wake()


@asynccontextmanager
async def ending(rig: LeasedRig) -> AsyncIterator[Rig]:
    try:
        yield rig
    finally:
        await rig.engine.stop(0.0)


class TestOverMemory(EngineConformance):
    def rig(self, script: Script, slots: Slots) -> AbstractAsyncContextManager[Rig]:
        return ending(LeasedRig(MemoryLeaseQueue(), script, slots))


class TestOverSql(EngineConformance):
    @pytest.fixture(autouse=True)
    def address(self, sql_url: str) -> None:
        self.url = sql_url

    @asynccontextmanager
    async def rig(self, script: Script, slots: Slots) -> AsyncIterator[Rig]:
        async with (
            Database(self.url) as db,
            ending(LeasedRig(SqlLeaseQueue(db), script, slots)) as rig,
        ):
            yield rig


pytestmark = pytest.mark.anyio


async def forever(message: TaskMessage, attempt: int) -> None:
    await asyncio.Event().wait()


async def test_leases_held_are_bounded_by_slots_and_prefetch() -> None:
    script = Script({f"t{i}": forever for i in range(50)})
    rig = LeasedRig(MemoryLeaseQueue(), script, Slots(2), prefetch=3)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of(f"t{i}") for i in range(50)])
        await script.until(lambda: len(script.running) == 2)
        assert rig.engine.held <= 2 + 3
        assert (await rig.engine.depth()).leased <= 2 + 3


async def test_work_that_was_fetched_for_a_batch_holds_up_no_urgent_task() -> None:
    """Slots for batch work don't come free; those for other work do, as with overflow that batches wait longer for."""
    queue, script = MemoryLeaseQueue(), Script({"b0": forever})

    class Full(Slots):
        async def acquire(
            self, priority: Priority | str = Priority.NORMAL, wait_s: float | None = None, *, models: bool = False
        ) -> BareSlot:
            if priority == Priority.BATCH:
                await asyncio.Event().wait()
            return await super().acquire(priority, wait_s, models=models)

    rig = LeasedRig(queue, script, Full(2), prefetch=3)
    async with ending(rig):
        await rig.engine.start()
        batch = [message_of(f"b{i}") for i in range(20)]
        await queue.send([Message(one.id, one.to_json(), priority=2) for one in batch])
        rig.engine.wake()
        await script.until(lambda: "b0" in script.running)
        for number in range(3):
            one = message_of(f"n{number}")
            await queue.send([Message(one.id, one.to_json(), priority=1)])
            rig.engine.wake()
            await rig.ledger.until(lambda one=one: one.task in rig.ledger.ended())  # type: ignore[misc] # of this round
            assert rig.engine.held <= 1 + 3 + number + 1  # it runs, fetched ahead, perhaps not settled yet
        await rig.engine.stop(0.0)
    assert {lease.deliveries for lease in await queue.receive(20, FOREVER) if lease.message.id != "b0/0"} == {1}


async def test_what_was_only_fetched_ahead_does_not_count_as_delivered() -> None:
    queue = MemoryLeaseQueue()
    script = Script({"t0": forever})
    rig = LeasedRig(queue, script, Slots(1), prefetch=5)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of(f"t{i}") for i in range(4)])
        await script.until(lambda: "t0" in script.running)
        await rig.engine.stop(0.0)
    leases = await queue.receive(10, FOREVER)
    assert {lease.message.id: lease.deliveries for lease in leases} == {"t0/0": 2, "t1/0": 1, "t2/0": 1, "t3/0": 1}


async def test_a_recorder_that_fails_is_asked_again_and_leases_stay_until_it_succeeds() -> None:
    failures: list[PixelmillError] = [StorageFull("no space"), StorageUnavailable("locked")]
    held_during_failure: list[int] = []

    class Failing(LeasedRig):
        async def emit(self, events: Sequence[TaskEvent]) -> None:
            if failures:
                held_during_failure.append((await self.queue.depth()).leased)
                raise failures.pop()
            await super().emit(events)

    script = Script()
    rig = Failing(MemoryLeaseQueue(), script, Slots(2))
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of(f"t{i}") for i in range(3)])
        await rig.ledger.until(lambda: len(rig.ledger.ended()) == 3)
        await rig.engine.stop(BOUND_S)
        assert min(held_during_failure) > 0
        assert sorted(rig.ledger.ended()) == ["t0", "t1", "t2"]
        assert (await rig.engine.depth()).leased == 0


async def test_an_event_that_the_recorder_can_not_take_holds_up_no_other() -> None:
    class Picky(LeasedRig):
        async def emit(self, events: Sequence[TaskEvent]) -> None:
            if any(event.task == "odd" for event in events):
                raise ValueError("a defect")
            await super().emit(events)

    rig = Picky(MemoryLeaseQueue(), Script(), Slots(1))
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("odd"), message_of("even")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["even"])
        await rig.engine.stop(BOUND_S)
        # Its message is kept: a task without an end and without a message would stay open for ever.
        (dead,) = await rig.queue.dead(10)
        assert dead.message.id == "odd/0"
        assert "could not be recorded: ValueError: a defect" in dead.reason
        assert (await rig.queue.depth()).leased == 0


async def test_a_message_that_can_not_be_read_is_set_aside() -> None:
    queue = MemoryLeaseQueue()
    rig = LeasedRig(queue, Script(), Slots(1))
    async with ending(rig):
        await queue.send([Message("strange/0", "not json")])
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
        assert (await rig.engine.depth()).dead == 1


async def test_a_long_task_keeps_its_lease() -> None:
    class Counting(MemoryLeaseQueue):
        extended = 0
        enough = asyncio.Event()

        async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
            await super().extend(leases, visibility_s)
            self.extended += 1
            if self.extended == 6:  # twice the visibility time
                self.enough.set()

    queue = Counting()

    async def long(message: TaskMessage, attempt: int) -> None:
        async with asyncio.timeout(BOUND_S):
            await queue.enough.wait()

    script = Script({"t": long})
    rig = LeasedRig(queue, script, Slots(2), visibility_s=0.3)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await script.until(lambda: "t" in script.running)
        for _ in range(5):
            rig.engine.wake()  # it looks, and must find nothing
            await asyncio.sleep(0)
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
        assert script.begun == [("t", 1)]


async def test_a_queue_that_fails_for_a_while_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelmill.engines.leased.PAUSE_S", 0.01)

    class Away(MemoryLeaseQueue):
        failures = 2

        async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
            if self.failures:
                self.failures -= 1
                raise StorageUnavailable("away")
            return await super().receive(limit, visibility_s, models=models)

    slots = Slots(1)
    rig = LeasedRig(Away(), Script(), slots)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
    assert slots.out == 0


async def test_a_task_given_out_too_often_fails_without_being_run() -> None:
    queue = MemoryLeaseQueue()
    script = Script()
    rig = LeasedRig(queue, script, Slots(1))
    async with ending(rig):
        one = message_of("poison", max_attempts=2)
        await queue.send([Message(one.id, one.to_json())])
        for _ in range(2):  # two processes took it and died
            await queue.release(await queue.receive(1, FOREVER))
        await rig.engine.start()
        await rig.ledger.until(lambda: rig.ledger.ended() == ["poison"])
        await rig.engine.stop(BOUND_S)
        assert script.begun == []
        assert rig.ledger.events[-1].attempt == 2
        assert (await rig.engine.depth()).dead == 1


async def test_a_target_that_takes_nothing_costs_no_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pixelmill.engines.leased.PAUSE_S", 0.0)
    refusals = 5

    async def refuse(message: TaskMessage, attempt: int) -> None:
        nonlocal refusals
        assert attempt == 1
        if refusals:
            refusals -= 1
            raise TargetUnavailable("It answers 503.")

    rig = LeasedRig(MemoryLeaseQueue(), Script({"t": refuse}), Slots(1))
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t", max_attempts=2)])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
    assert [event.kind for event in rig.ledger.events] == ["started", "returned"] * 5 + ["started", "succeeded"]


async def test_an_idle_engine_holds_no_slot() -> None:
    slots = Slots(1)
    rig = LeasedRig(MemoryLeaseQueue(), Script(), slots)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
        async with asyncio.timeout(BOUND_S):
            (await slots.acquire()).release()


async def test_a_task_cancelled_before_its_first_step_gives_back_slot_and_lease() -> None:
    class Abrupt(LeasedEngine):
        cuts = 1

        def _begin(self, held: Any, slot: Any) -> None:
            super()._begin(held, slot)
            if self.cuts:
                self.cuts -= 1
                held.running.cancel()

    script, slots = Script(), Slots(1)
    rig = LeasedRig(MemoryLeaseQueue(), script, slots)
    rig.engine = Abrupt(rig.queue, slots, script, rig.emit, poll_s=FOREVER, visibility_s=FOREVER)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
        await rig.engine.stop(BOUND_S)
    assert rig.ledger.of("t")[0] == "requeued"
    assert script.begun == [("t", 2)]
    assert slots.out == 0


class Held(MemoryLeaseQueue):
    """Messages are leased at once, and handed over when the test says so: as over a network."""

    def __init__(self) -> None:
        super().__init__()
        self.leased, self.go = asyncio.Event(), asyncio.Event()

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        leases = await super().receive(limit, visibility_s, models=models)
        if leases:
            self.leased.set()
            await self.go.wait()
        return leases


async def test_a_task_cancelled_while_its_lease_is_on_the_way_never_begins() -> None:
    queue, script = Held(), Script()
    rig = LeasedRig(queue, script, Slots(1))
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("gone"), message_of("stays")])
        await queue.leased.wait()
        cancelling = asyncio.create_task(rig.engine.cancel(["gone/0"]))
        await asyncio.sleep(0)  # one step: it is on its way too
        queue.go.set()
        await cancelling
        await rig.ledger.until(lambda: rig.ledger.ended() == ["stays"])
        await rig.engine.stop(BOUND_S)
    assert script.begun == [("stays", 1)]
    depth = await queue.depth()
    assert (depth.waiting, depth.leased) == (0, 0)


async def test_what_arrives_while_the_engine_stops_is_given_back_uncounted() -> None:
    queue, script = Held(), Script()
    rig = LeasedRig(queue, script, Slots(1))
    await rig.engine.start()
    await rig.submit([message_of("t")])
    await queue.leased.wait()
    stopping = asyncio.create_task(rig.engine.stop(0.0))
    await asyncio.sleep(0)
    queue.go.set()
    await stopping
    (lease,) = await queue.receive(1, FOREVER)
    assert (lease.message.id, lease.deliveries) == ("t/0", 1)


async def test_a_defect_of_the_queue_does_not_end_the_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    class Defective(MemoryLeaseQueue):
        defects = 1

        async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
            if self.defects:
                self.defects -= 1
                raise RuntimeError("a defect")
            return await super().receive(limit, visibility_s, models=models)

    monkeypatch.setattr("pixelmill.engines.leased.PAUSE_S", 0.01)
    rig = LeasedRig(Defective(), Script(), Slots(1))
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("t")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])


async def test_a_defect_while_leases_are_settled_or_extended_ends_neither_loop() -> None:
    class Defective(MemoryLeaseQueue):
        deletes = extends = 0

        async def delete(self, leases: Sequence[Lease]) -> None:
            self.deletes += bool(leases)
            if self.deletes == 1:
                raise RuntimeError("a defect")
            await super().delete(leases)

        async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
            self.extends += 1
            if self.extends == 1:
                raise RuntimeError("a defect")
            await super().extend(leases, visibility_s)

    queue, go = Defective(), asyncio.Event()

    async def wait(message: TaskMessage, attempt: int) -> None:
        await go.wait()

    rig = LeasedRig(queue, Script({"long": wait}), Slots(1), visibility_s=0.15)
    async with ending(rig):
        await rig.engine.start()
        await rig.submit([message_of("first")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["first"])
        await rig.submit([message_of("long")])
        async with asyncio.timeout(30):
            while queue.extends < 3:  # noqa: ASYNC110 -- another loop does it
                await asyncio.sleep(0.01)
        go.set()
        await rig.ledger.until(lambda: "long" in rig.ledger.ended())
