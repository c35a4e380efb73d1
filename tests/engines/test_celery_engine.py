"""The Celery engine on a real RabbitMQ: the contract of engines, and what only queues on a broker do."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.celery_feed import UNCOUNTED
from pixelmill.engines.executor import Executor
from pixelmill.engines.queue import Message
from pixelmill.engines.rabbit import DELIVERY_LIMIT, Address, RabbitQueue
from pixelmill.errors import ConfigError, StorageUnavailable, WorkerCrashed
from pixelmill.fleet.gates import OPEN, AutoGate, Gate
from pixelmill.images.image import Size
from pixelmill.jobs.messages import TaskMessage
from pixelmill.pipelines.outcome import Outcome
from pixelmill.storage.memory import MemoryStore
from pixelmill.targets.target import RunRequest, RunResult
from pixelmill.testing.engine import BOUND_S, EngineConformance, Ledger, Rig, Script, message_of
from pixelmill.testing.slots import Slots
from servers import RabbitMQ, free_port

pytestmark = pytest.mark.anyio


class Door(AutoGate):
    """A gate that the test opens and shuts."""

    def __init__(self) -> None:
        self.open = True

    def verdict(self) -> Gate:
        return OPEN if self.open else Gate(open=False, reason="the test shut it")


class CeleryRig:
    def __init__(self, broker: RabbitQueue, script: Script, slots: Slots, gate: Door | None = None) -> None:
        self.broker, self.ledger = broker, Ledger()
        self.engine = CeleryEngine(broker, slots, script, self.ledger.emit, gate=gate, gate_s=0.05)

    async def submit(self, messages: Sequence[TaskMessage], priority: int = 1) -> None:
        await self.broker.send([Message(one.id, one.to_json(), priority=priority) for one in messages])


@asynccontextmanager
async def rig_on(url: str, script: Script, slots: Slots, gate: Door | None = None) -> AsyncIterator[CeleryRig]:
    async with RabbitQueue(Address.parse(url)) as broker:
        rig = CeleryRig(broker, script, slots, gate)
        try:
            yield rig
        finally:
            await rig.engine.stop(0.0)


class TestContract(EngineConformance):
    @pytest.fixture(autouse=True)
    def address(self, rabbitmq_url: str) -> None:
        self.url = rabbitmq_url

    @asynccontextmanager
    async def rig(self, script: Script, slots: Slots) -> AsyncIterator[Rig]:
        async with rig_on(self.url, script, slots) as rig:
            yield rig


# -- dead letters --------------------------------------------------------------------------------------------------


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what the broker does in its own time."""
    async with asyncio.timeout(BOUND_S):
        while not await condition():  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.02)  # between two questions


async def test_poison_is_listed_with_its_reason_and_runs_again_when_redriven(rabbitmq_url: str) -> None:
    well = asyncio.Event()

    async def crash(message: TaskMessage, attempt: int) -> None:
        if not well.is_set():
            raise WorkerCrashed("signal 9")

    async with rig_on(rabbitmq_url, Script({"poison": crash}), Slots(1)) as rig:
        await rig.engine.start()
        await rig.submit([message_of("poison", max_attempts=2), message_of("good")])
        await rig.ledger.until(lambda: len(rig.ledger.ended()) == 2)
        await until(lambda: has_dead(rig.broker))
        (letter,) = await rig.broker.dead(10)
        assert (letter.message.id, letter.reason, letter.deliveries) == ("poison/0", "signal 9", 2)
        assert await rig.broker.redrive(["nobody/0"]) == []
        well.set()
        assert await rig.broker.redrive(["poison/0"]) == ["poison/0"]
        await rig.ledger.until(lambda: rig.ledger.of("poison")[-1] == "succeeded")
        assert await rig.broker.dead(10) == []


async def has_dead(broker: RabbitQueue) -> bool:
    return bool(await broker.dead(1))


async def test_what_kills_its_worker_again_and_again_is_given_up(rabbitmq_url: str) -> None:
    async with rig_on(rabbitmq_url, Script(), Slots(1)) as rig:
        await rig.submit([message_of("killer")])
        for _ in range(DELIVERY_LIMIT + 1):
            async with RabbitQueue(Address.parse(rabbitmq_url)) as worker:
                await until(lambda worker=worker: took(worker))  # type: ignore[misc]  # the connection ends here
        await rig.engine.start()
        await rig.ledger.until(lambda: rig.ledger.ended() == ["killer"])
        assert rig.ledger.of("killer") == ["failed"]
        await until(lambda: has_dead(rig.broker))
        (letter,) = await rig.broker.dead(10)
        assert (
            letter.reason
            == f"The task was given out {DELIVERY_LIMIT + 1} times, and no worker lived to report its end."
        )


async def took(worker: RabbitQueue) -> bool:
    return bool(await worker.receive(1, 1.0))


async def test_workers_that_die_with_what_they_only_fetched_cost_a_task_nothing(rabbitmq_url: str) -> None:
    async with rig_on(rabbitmq_url, Script(), Slots(1)) as rig:
        await rig.submit([message_of("t", max_attempts=1)])
        for _ in range(UNCOUNTED):
            async with RabbitQueue(Address.parse(rabbitmq_url)) as worker:
                await until(lambda worker=worker: took(worker))  # type: ignore[misc]  # the connection ends here
        await rig.engine.start()
        await rig.ledger.until(lambda: rig.ledger.ended() == ["t"])
        assert rig.ledger.of("t") == ["started", "succeeded"]


async def test_strange_messages_are_set_aside(rabbitmq_url: str) -> None:
    async with rig_on(rabbitmq_url, Script(), Slots(1)) as rig:
        queue = rig.broker.address.queue("normal")
        await rig.broker._call(lambda channel: rig.broker._publish(channel, queue, "hello"))
        await rig.broker.send([Message("unread/0", "no task")])
        await rig.submit([message_of("good")])
        await rig.engine.start()
        await rig.ledger.until(lambda: rig.ledger.ended() == ["good"])
        await until(lambda: counts_dead(rig.broker, 2))
        reasons = {letter.message.id.split("/")[0]: letter.reason for letter in await rig.broker.dead(10)}
        assert reasons.keys() == {"unreadable", "unread"}
        assert all("can't be read" in reason for reason in reasons.values())


async def counts_dead(broker: RabbitQueue, count: int) -> bool:
    return len(await broker.dead(10)) == count


# -- order, duplicates, cancel -------------------------------------------------------------------------------------


async def test_the_most_urgent_of_what_waits_comes_first(rabbitmq_url: str) -> None:
    async def wait(message: TaskMessage, attempt: int) -> None:
        async def all_here() -> bool:
            return sum(map(len, rig.engine._feed._waiting)) == 9

        await until(all_here)

    names = {2: ["b0", "b1", "b2"], 1: ["n0", "n1", "n2"], 0: ["i0", "i1", "i2"]}
    async with rig_on(rabbitmq_url, script := Script({"first": wait}), Slots(1)) as rig:
        await rig.engine.start()
        await rig.submit([message_of("first")])
        await script.until(lambda: "first" in script.running)
        for priority, some in names.items():
            await rig.submit([message_of(name) for name in some], priority)
        await rig.ledger.until(lambda: len(rig.ledger.ended()) == 10)
        assert [task for task, _ in script.begun] == ["first", *names[0], *names[1], *names[2]]


async def test_duplicates_change_nothing(rabbitmq_url: str) -> None:
    async def run(request: RunRequest) -> RunResult:
        outcome = Outcome(b"picture", "png", "image/png", Size(1, 1), Size(1, 1), "png")
        return RunResult(outcome, "here", "1")

    store, ledger = MemoryStore(), Ledger()
    await store.put("picture", b"source")
    message = replace(message_of("t"), source="key:picture")
    async with RabbitQueue(Address.parse(rabbitmq_url)) as broker:
        engine = CeleryEngine(broker, Slots(1, run), Executor(store), ledger.emit)
        await broker.send([Message(message.id, message.to_json())] * 3)
        await engine.start()
        try:
            await ledger.until(lambda: ledger.ended() == ["t"] * 3)
        finally:
            await engine.stop(BOUND_S)
        outcomes = [event for event in ledger.events if event.kind == "succeeded"]
        assert len({(event.at, event.task, event.run) for event in outcomes}) == 1
        assert sorted([found.key async for found in store.list("results/")]) == [
            "results/ann/job/t",
            "results/ann/job/t.json",
        ]


async def test_a_worker_that_starts_later_knows_what_was_cancelled(rabbitmq_url: str) -> None:
    async with rig_on(rabbitmq_url, script := Script(), Slots(1)) as rig:
        await rig.submit([message_of("unwanted"), message_of("wanted")])
        await rig.broker.tell_cancelled(["unwanted/0", "wanted/1"])
        await rig.engine.start()
        await rig.ledger.until(lambda: rig.ledger.ended() == ["wanted"])
        await rig.engine.stop(BOUND_S)
        assert [task for task, _ in script.begun] == ["wanted"]
        assert await rig.broker.receive(1, 1.0) == []


async def test_what_runs_is_stopped_when_the_service_says_so(rabbitmq_url: str) -> None:
    async def forever(message: TaskMessage, attempt: int) -> None:
        await asyncio.Event().wait()

    async with rig_on(rabbitmq_url, script := Script({"running": forever}), Slots(1)) as rig:
        await rig.engine.start()
        await rig.submit([message_of("running"), message_of("last")])
        await script.until(lambda: "running" in script.running)
        await rig.broker.tell_cancelled([f"other{i}/0" for i in range(1200)] + ["running/0"])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["last"])
        assert rig.ledger.of("running") == ["started"]


# -- the gate ------------------------------------------------------------------------------------------------------


async def test_a_shut_gate_leaves_tasks_to_others_and_an_open_one_takes_them(rabbitmq_url: str) -> None:
    door = Door()
    async with (
        rig_on(rabbitmq_url, script := Script(), Slots(1), door) as rig,
        RabbitQueue(Address.parse(rabbitmq_url)) as other,
    ):
        await rig.engine.start()
        got = list[object]()
        # Another worker, which takes one task and keeps it.
        await other._call(lambda channel: channel.basic_qos(0, 1, False))
        await other._call(lambda channel: channel.basic_consume(other._queues[1], callback=got.append))
        door.open = False

        async def paused() -> bool:
            return rig.engine._worker.paused and await rig.broker.consumers() == 1

        await until(paused)
        await rig.submit([message_of("a"), message_of("b")])
        assert script.begun == []
        door.open = True
        await rig.ledger.until(lambda: len(rig.ledger.ended()) == 1)
        await other.close()  # it dies with its task
        await rig.ledger.until(lambda: sorted(rig.ledger.ended()) == ["a", "b"])


async def test_the_last_one_goes_on_although_its_gate_is_shut(rabbitmq_url: str) -> None:
    door = Door()
    door.open = False
    async with rig_on(rabbitmq_url, Script(), Slots(1), door) as rig:
        await rig.engine.start()
        await rig.submit([message_of("a")])
        await rig.ledger.until(lambda: rig.ledger.ended() == ["a"])


# -- the connection ------------------------------------------------------------------------------------------------


async def test_what_runs_while_the_broker_restarts_runs_once(rabbitmq_server: RabbitMQ, rabbitmq_url: str) -> None:
    go = asyncio.Event()

    async def wait(message: TaskMessage, attempt: int) -> None:
        await go.wait()

    async with rig_on(rabbitmq_url, script := Script({"long": wait}), Slots(2)) as rig:
        await rig.engine.start()
        await rig.submit([message_of("long")])
        await script.until(lambda: "long" in script.running)
        await asyncio.to_thread(rabbitmq_server.restart)

        # It has just started, and not all queues are there. What was refused for that may be in one all the same.
        tries = (f"after-{number}" for number in itertools.count())
        sent = list[str]()

        async def submitted() -> bool:
            sent.append(next(tries))
            try:
                await rig.submit([message_of(sent[-1])])
            except StorageUnavailable:
                return False
            return True

        await until(submitted)
        await rig.ledger.until(lambda: sent[-1] in rig.ledger.ended())
        go.set()
        await rig.ledger.until(lambda: "long" in rig.ledger.ended())
        await rig.engine.stop(BOUND_S)
        begun = [task for task, _ in script.begun]
        assert begun[0] == "long"
        assert begun.count("long") == begun.count(sent[-1]) == 1
        assert set(begun[1:]) <= set(sent)
        assert await rig.broker.receive(1, 1.0) == []


async def test_a_process_has_one_celery_worker(rabbitmq_url: str) -> None:
    async with rig_on(rabbitmq_url, Script(), Slots(1)) as rig, rig_on(rabbitmq_url, Script(), Slots(1)) as second:
        await rig.engine.start()
        with pytest.raises(ConfigError, match="Celery worker already"):
            await second.engine.start()


@pytest.mark.parametrize("url", ["amqp://", "http://h/", "amqp://h/?prefix=a%20b", "amqp://h:x/"])
def test_an_address_of_the_wrong_form_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="queue_url"):
        Address.parse(url)


def test_an_address_has_the_usual_defaults() -> None:
    assert Address.parse("amqps://ann:p%40ss@h") == Address("h", 5671, "ann", "p@ss", "/", True, "pixelmill")
    assert Address.parse("amqp://h:1/%2Fx?prefix=two").queue("batch") == "two-batch"


async def test_a_broker_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="can't be reached"):
        await RabbitQueue(Address.parse(f"amqp://127.0.0.1:{free_port()}/")).open()
