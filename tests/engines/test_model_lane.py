"""Tasks with learned models have slots of their own: they hold up no others, none is lost, and their bound holds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_target import StubTarget

from pixelmill.engines.executor import Slot
from pixelmill.engines.lane import PARKED
from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.queue import Lease, LeaseQueue, Message, QueueTraits
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage, queue_number
from pixelmill.jobs.model import Priority, TaskEvent
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import Progress
from pixelmill.testing.engine import Act, Ledger, Script, message_of

pytestmark = pytest.mark.anyio
LEARNED = Pipeline.parse("remove_background").to_json()
CAPACITY, MODEL_SLOTS = 2, 2


class Blind(MemoryLeaseQueue):
    """A queue that can't tell tasks apart, as those of clouds are; what is put back goes to the end, as on RabbitMQ."""

    traits = QueueTraits(aside_s=0.0)

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        assert models is None, "it was not made for that"
        return await super().receive(limit, visibility_s)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        await super().release(leases, after_s=after_s, begun=begun)
        for entry in [self._entries[lease.message.id] for lease in leases if not begun]:
            entry.seq = next(self._seq)


class Rig:
    """An engine over a dispatcher with one target. Tasks whose names begin with m want models."""

    def __init__(self, queue: LeaseQueue, acts: Callable[[str], Act | None] | None = None, prefetch: int = 4) -> None:
        self.queue, self.ledger, self.script = queue, Ledger(), Script()
        self.most = {"m": 0, "c": 0}
        self._act = acts
        self.target = StubTarget(capacity=CAPACITY, model_slots=MODEL_SLOTS)
        self.dispatcher = Dispatcher([self.target], reserved=0)
        self.engine = LeasedEngine(
            queue, self.dispatcher, self, self.emit, prefetch=prefetch, poll_s=0.2, visibility_s=1000.0
        )

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        if self._act is not None and (act := self._act(message.task)) is not None:
            self.script.acts[message.task] = act
        running = asyncio.ensure_future(self.script.execute(message, attempt, slot, tell))
        await asyncio.sleep(0)
        for kind in self.most:
            count = sum(name.startswith(kind) for name in self.script.running)
            self.most[kind] = max(self.most[kind], count)
        return await running

    async def give_up(self, message: TaskMessage, attempt: int, error: object) -> TaskEvent:
        return await self.script.give_up(message, attempt, error)  # type: ignore[arg-type] # an error of the tree

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        await self.ledger.emit(events)

    async def submit(self, names: Sequence[str], priority: Priority = Priority.NORMAL) -> None:
        sent = []
        for name in names:
            learned = name.startswith("m")
            one = replace(message_of(name), pipeline=LEARNED if learned else "{}")
            number = queue_number(priority, models=learned and self.queue.traits.lanes)
            sent.append(Message(one.id, one.to_json(), priority=number, owner="ann"))
        await self.queue.send(sent)
        self.engine.wake()

    @asynccontextmanager
    async def started(self) -> AsyncIterator[None]:
        await self.engine.start()
        try:
            yield
        finally:
            await self.engine.stop(0.0)


@pytest.fixture(params=["memory", "blind", "sql"])
async def queue(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[LeaseQueue]:
    if request.param == "sql":
        async with Database(f"sqlite:///{tmp_path}/state.sqlite") as db:
            yield SqlLeaseQueue(db)
    else:
        yield MemoryLeaseQueue() if request.param == "memory" else Blind()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 -- of an engine that tells nobody
            await asyncio.sleep(0.01)


async def forever(message: TaskMessage, attempt: int) -> None:
    await asyncio.Event().wait()


def models_never_end(name: str) -> Act | None:
    return forever if name.startswith("m") else None


@pytest.mark.parametrize("prefetch", [0, 8])
async def test_with_all_model_slots_taken_a_classical_task_that_comes_later_runs(
    queue: LeaseQueue, prefetch: int
) -> None:
    rig = Rig(queue, models_never_end, prefetch)
    async with rig.started():
        await rig.submit([f"m{number}" for number in range(300)])
        await rig.script.until(lambda: len(rig.script.running) == MODEL_SLOTS)
        await rig.submit(["c1", "c2", "c3"])
        await rig.ledger.until(lambda: {"c1", "c2", "c3"} <= set(rig.ledger.ended()))
        assert rig.engine.held <= MODEL_SLOTS + PARKED + prefetch + CAPACITY + 3, "those, and what was not settled yet"
        assert rig.dispatcher.snapshot()["targets"][0]["models"] == {"running": 2, "capacity": 2}
    depth = await queue.depth()
    assert (depth.waiting, depth.leased, depth.dead) == (300, 0, 0), "none is lost: all come back when the engine stops"
    deliveries = [lease.deliveries for lease in await queue.receive(300, 10.0)]
    assert max(deliveries) <= 2, "only those that ran have lost an attempt"
    assert sum(count > 1 for count in deliveries) <= MODEL_SLOTS


async def test_model_tasks_do_not_starve_while_classical_ones_keep_coming(queue: LeaseQueue) -> None:
    rig = Rig(queue)
    async with rig.started():
        await rig.submit([f"c{number}" for number in range(20)])
        await rig.submit([f"m{number}" for number in range(12)])
        number = 20
        while not {f"m{one}" for one in range(12)} <= set(rig.ledger.ended()):
            await rig.submit([f"c{number}", f"c{number + 1}"])
            number += 2
            await asyncio.sleep(0.01)
            assert number < 20_000, "model tasks starve"


async def test_a_model_task_that_waits_is_stopped_when_it_is_cancelled(queue: LeaseQueue) -> None:
    rig = Rig(queue, models_never_end)
    async with rig.started():
        names = [f"m{number}" for number in range(MODEL_SLOTS + PARKED)]
        await rig.submit(names)
        await rig.script.until(lambda: len(rig.script.running) == MODEL_SLOTS)
        await until(lambda: rig.engine.held == len(names))
        waiting = next(name for name in names if name not in rig.script.running)
        await rig.engine.cancel([f"{waiting}/0"])
        await until(lambda: rig.engine.held == len(names) - 1)
        assert waiting not in rig.script.running
        assert (await queue.depth()).leased + (await queue.depth()).waiting == len(names) - 1


@given(st.lists(st.sampled_from("mc"), min_size=1, max_size=40), st.integers(0, 6), st.booleans(), st.data())
@settings(max_examples=25, deadline=None)
def test_bounds_hold_and_all_end_in_any_order(
    kinds: list[str], prefetch: int, blind: bool, data: st.DataObject
) -> None:
    naps = data.draw(st.lists(st.integers(0, 3), min_size=len(kinds), max_size=len(kinds)))

    async def check() -> None:
        async def nap(message: TaskMessage, attempt: int) -> None:
            for _ in range(naps[int(message.task[1:])]):
                await asyncio.sleep(0)

        rig = Rig(Blind() if blind else MemoryLeaseQueue(), lambda _: nap, prefetch)
        names = [f"{kind}{number}" for number, kind in enumerate(kinds)]
        async with rig.started():
            half = len(names) // 2
            await rig.submit(names[:half])
            await asyncio.sleep(0)
            await rig.submit(names[half:], Priority.BATCH)
            await rig.ledger.until(lambda: set(names) <= set(rig.ledger.ended()))
        assert rig.most["m"] <= MODEL_SLOTS
        assert rig.most["c"] <= CAPACITY
        assert rig.dispatcher.running == 0

    asyncio.run(check())
