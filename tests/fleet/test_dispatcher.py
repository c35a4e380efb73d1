"""The dispatcher: who gets a slot, in which order, and that none is ever lost."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_target import StubTarget

from pixelmill.errors import (
    Busy,
    CorruptImage,
    ModelMissing,
    QueueFull,
    ShuttingDown,
    TargetUnavailable,
    UnsupportedFormat,
)
from pixelmill.fleet import slot as slot_module
from pixelmill.fleet.dispatcher import ORDER, Dispatcher
from pixelmill.fleet.gates import Gate
from pixelmill.fleet.slot import Slot
from pixelmill.jobs.model import Priority
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.needs import needs
from pixelmill.targets.target import RunRequest, RunResult

pytestmark = pytest.mark.anyio
REQUEST = RunRequest("one", "[]", b"")


@dataclass
class Switch:
    """A gate that a test opens and closes."""

    open: bool = True

    def verdict(self) -> Gate:
        return Gate(open=self.open, reason="" if self.open else "closed by the test")

    def rank(self) -> float:
        return 0.0

    def describe(self) -> dict[str, Any]:
        return {"rule": "switch"}


async def settled() -> None:
    """Let every task that can go on go on."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_task_runs_on_a_slot_and_gives_it_back() -> None:
    target = StubTarget()
    dispatcher = Dispatcher([target])
    result = await dispatcher.run(REQUEST, "interactive", 1)
    assert result.target == "stub"
    assert target.ids == ["one"]
    assert (dispatcher.running, dispatcher.waiting) == (0, 0)


async def test_a_slot_comes_back_from_a_task_that_fails() -> None:
    class Failing(StubTarget):
        async def run(self, request: RunRequest) -> RunResult:
            raise CorruptImage("It is broken.")

    dispatcher = Dispatcher([Failing()])
    with pytest.raises(CorruptImage):
        await dispatcher.run(REQUEST)
    assert dispatcher.running == 0


async def test_interactive_work_goes_before_normal_before_batch_and_in_turn_within() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1)])
    order: list[str] = []

    async def work(priority: str, name: str) -> None:
        async with await dispatcher.acquire(priority):
            order.append(name)
            await asyncio.sleep(0)

    slot = await dispatcher.acquire("batch")
    async with asyncio.TaskGroup() as group:
        for name in ("batch 1", "normal 1", "interactive 1", "batch 2", "interactive 2", "normal 2"):
            group.create_task(work(name.split()[0], name))
            await asyncio.sleep(0)
        assert dispatcher.snapshot()["waiting"] == {"interactive": 2, "normal": 2, "batch": 2}
        assert order == []
        slot.release()
    assert order == ["interactive 1", "interactive 2", "normal 1", "normal 2", "batch 1", "batch 2"]


async def test_the_last_slot_is_kept_for_interactive_work() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=3)], reserved=1)
    slots = [await dispatcher.acquire("normal"), await dispatcher.acquire("batch")]
    for priority in ("normal", "batch"):
        with pytest.raises(Busy):
            await dispatcher.acquire(priority, 0)
    slots.append(await dispatcher.acquire("interactive", 0))
    slots[0].release()
    with pytest.raises(Busy):  # two are busy, one of them interactive: the third stays free
        await dispatcher.acquire("normal", 0)
    for slot in slots:
        slot.release()
    assert dispatcher.running == 0


async def test_a_pool_of_one_slot_serves_all_classes() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1)], reserved=1)
    await dispatcher.run(REQUEST, "batch", 0)


async def test_nobody_overtakes_work_of_the_same_class() -> None:
    switch = Switch(open=False)
    dispatcher = Dispatcher([StubTarget()], gates={"stub": switch})
    first = asyncio.create_task(dispatcher.acquire("normal"))
    await settled()
    switch.open = True  # nobody has told the dispatcher yet
    with pytest.raises(Busy):
        await dispatcher.acquire("normal", 0)
    dispatcher.poke()
    (await first).release()


async def test_waiting_is_bounded_in_time() -> None:
    target = StubTarget(capacity=1)
    dispatcher = Dispatcher([target])
    async with await dispatcher.acquire("interactive"):
        with pytest.raises(Busy, match=r"within 0\.01 s") as caught:
            await dispatcher.acquire("interactive", 0.01)
    assert caught.value.context["retry_after"] >= 1
    assert dispatcher.waiting == 0


async def test_waiting_is_bounded_in_number() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1)], max_waiting=2)
    async with await dispatcher.acquire("batch"):
        line = [asyncio.create_task(dispatcher.run(REQUEST, priority)) for priority in ("batch", "interactive")]
        await settled()
        with pytest.raises(QueueFull) as caught:
            await dispatcher.acquire("interactive", 5)
        assert caught.value.context["retry_after"] >= 1
    await asyncio.gather(*line)


async def test_releasing_twice_gives_one_slot() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1)])
    slot = await dispatcher.acquire()
    slot.release()
    slot.release()
    again = await dispatcher.acquire("normal", 0)
    with pytest.raises(Busy):
        await dispatcher.acquire("normal", 0)
    again.release()


async def test_the_first_target_with_room_and_an_open_gate_is_taken() -> None:
    near, far = StubTarget("near", 1), StubTarget("far", 1)
    gate = Switch()
    dispatcher = Dispatcher([near, far], gates={"near": gate})
    first, second = await dispatcher.acquire(), await dispatcher.acquire()
    assert (first.target, second.target) == ("near", "far")
    first.release()
    second.release()
    gate.open = False
    async with await dispatcher.acquire("normal", 0) as slot:
        assert slot.target == "far"
    gate.open, near.healthy = True, False
    async with await dispatcher.acquire("normal", 0) as slot:
        assert slot.target == "far"
    gates = [target["gate"] for target in dispatcher.snapshot()["targets"]]
    assert gates == [
        {"open": False, "reason": "ill", "rule": "switch"},
        {"open": True, "reason": "", "rule": "auto"},
    ]


async def test_a_gate_that_opens_is_noticed_without_being_told() -> None:
    gate = Switch(open=False)
    dispatcher = Dispatcher([StubTarget()], gates={"stub": gate})
    task = asyncio.create_task(dispatcher.acquire("batch"))
    await settled()
    gate.open = True
    async with asyncio.timeout(5):
        (await task).release()


async def test_a_target_that_joins_takes_what_waits() -> None:
    dispatcher = Dispatcher([])
    waiting = asyncio.create_task(dispatcher.acquire("batch"))
    await settled()
    assert not waiting.done()
    dispatcher.add(StubTarget("joined", 1))
    assert (await waiting).target == "joined"
    with pytest.raises(ValueError, match="joined"):
        dispatcher.add(StubTarget("joined", 1))


async def test_a_target_that_leaves_gets_no_more_and_its_slots_stay_counted() -> None:
    dispatcher = Dispatcher([StubTarget("stays", 1), StubTarget("leaves", 1)])
    stays, leaves = await dispatcher.acquire(), await dispatcher.acquire()
    dispatcher.remove("leaves")
    dispatcher.remove("leaves")
    assert [target["name"] for target in dispatcher.snapshot()["targets"]] == ["stays"]
    waiting = asyncio.create_task(dispatcher.acquire())
    leaves.release()
    await settled()
    assert not waiting.done()
    assert dispatcher.running == 1
    stays.release()
    assert (await waiting).target == "stays"


async def test_overflow_takes_work_when_the_last_gate_shuts_and_gives_it_back_when_one_opens() -> None:
    gate, bursts = Switch(), Switch()
    dispatcher = Dispatcher([StubTarget("own", 1)], gates={"own": gate})
    dispatcher.add(StubTarget("cloud", 1), bursts, overflow=True)
    async with await dispatcher.acquire(wait_s=0) as own:
        assert (own.target, own.reason) == ("own", "its gate is open")
        with pytest.raises(Busy):
            await dispatcher.acquire(wait_s=0)  # full is no reason to pay
        gate.open = False
        async with await dispatcher.acquire(wait_s=0) as cloud:
            assert cloud.target == "cloud"
            assert cloud.reason == "every gate is shut (own: closed by the test)"
    bursts.open = False  # the budget is spent: work goes on all the same
    async with await dispatcher.acquire(wait_s=0) as own:
        assert (own.target, own.reason[:15]) == ("own", "no gate is open")
    gate.open = bursts.open = True
    async with await dispatcher.acquire(wait_s=0) as own:
        assert own.target == "own"


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


class Without(StubTarget):
    """A machine without the extra that HEIC files need."""

    async def run(self, request: RunRequest) -> RunResult:
        if "heic" in needs(request):
            self.ids.append(request.id)
            raise UnsupportedFormat("Reading heic files needs an extra.", format="heic", extra="heic")
        return await super().run(request)


async def test_a_task_goes_where_the_extra_is_that_its_formats_need() -> None:
    bare, full = StubTarget("bare", 4), StubTarget("full", 1)
    dispatcher = Dispatcher([], reserved=0)
    dispatcher.add(bare, lacks=frozenset({"jxl"}))
    photo = RunRequest("photo", "{}", b"\xff\xd8\xff\xe0")
    written = RunRequest("written", '{"operations":[],"output":{"format":"jxl"}}', b"\xff\xd8\xff\xe0")
    assert (await dispatcher.run(written)).target == "bare"  # it fails there, rightly: nobody can do it
    dispatcher.add(full)
    assert (await dispatcher.run(photo)).target == "bare"
    async with await dispatcher.acquire(wait_s=0) as slot:
        result = await slot.run(written)
        assert (result.target, slot.target) == ("full", "full")
        assert slot.reason == "its gate is open; bare lacks the extra jxl"
        async with await dispatcher.acquire(wait_s=0) as other:
            with pytest.raises(TargetUnavailable, match="bare lacks the extra jxl, and no machine that has it"):
                await other.run(written)
    assert dispatcher.running == 0
    assert (bare.ids, full.ids) == (["written", "photo"], ["written"])


async def test_a_machine_that_turns_out_to_lack_an_extra_is_remembered() -> None:
    bare, full = Without("bare", 4), StubTarget("full", 4)
    dispatcher = Dispatcher([bare], reserved=0)
    with pytest.raises(UnsupportedFormat):  # there is no other machine
        await dispatcher.run(RunRequest("1", "{}", HEIC))
    dispatcher.add(full)
    assert (await dispatcher.run(RunRequest("2", "{}", HEIC))).target == "full"
    dispatcher.remove("bare")
    dispatcher.add(again := Without("again", 4))
    dispatcher.remove("full")
    dispatcher.add(full)
    assert (await dispatcher.run(RunRequest("3", "{}", HEIC))).target == "full"
    assert (await dispatcher.run(RunRequest("4", "{}", HEIC))).target == "full"
    assert (bare.ids, again.ids, full.ids) == (["1"], ["3"], ["2", "3", "4"])
    assert dispatcher.running == 0


LEARNED = Pipeline.parse("remove_background").to_json()


class Weightless(StubTarget):
    """A machine without the weights of a model, until they are brought."""

    brought = False

    async def run(self, request: RunRequest) -> RunResult:
        if "model:u2netp" in needs(request) and not self.brought:
            self.ids.append(request.id)
            raise ModelMissing("The weights of u2netp are not here.", model="u2netp")
        return await super().run(request)


async def test_a_task_goes_where_the_weights_are_and_back_once_they_are_brought(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slot_module, "FORGET_S", 0.0)
    own, node = Weightless("own", 4), StubTarget("node", 1)
    dispatcher = Dispatcher([own], reserved=0)
    with pytest.raises(ModelMissing):  # there is no other machine
        await dispatcher.run(RunRequest("1", LEARNED, b""))
    dispatcher.add(node)
    async with await dispatcher.acquire(wait_s=0) as slot:
        assert slot.target == "own"
        assert (await slot.run(RunRequest("2", LEARNED, b""))).target == "node"
        assert slot.reason == "its gate is open; own lacks the weights of u2netp"
        async with await dispatcher.acquire(wait_s=0) as other:
            with pytest.raises(TargetUnavailable, match="own lacks the weights of u2netp, and no machine that has"):
                await other.run(RunRequest("3", LEARNED, b""))
    own.brought = True
    await settled()
    assert (await dispatcher.run(RunRequest("4", LEARNED, b""))).target == "own"
    assert (own.ids, node.ids) == (["1", "2", "3", "4"], ["2"])
    assert dispatcher.running == 0


async def test_where_a_target_has_no_slots_for_models_they_go_in_turn_with_all_others() -> None:
    """However many thumbnails stand in line, and whatever comes anew, a caption gets its turn."""
    dispatcher = Dispatcher([StubTarget("far", 1)], reserved=0)
    order: list[str] = []

    async def work(name: str, priority: str = "normal", *, models: bool = False) -> None:
        async with await dispatcher.acquire(priority, models=models):
            order.append(name)
            await settled()

    first = await dispatcher.acquire(wait_s=0)
    tasks = [
        asyncio.create_task(work("thumbnail 1")),
        asyncio.create_task(work("caption 1", models=True)),
        asyncio.create_task(work("thumbnail 2")),
        asyncio.create_task(work("caption 2", models=True)),
        asyncio.create_task(work("batch", "batch")),
        asyncio.create_task(work("urgent caption", "interactive", models=True)),
    ]
    await settled()
    first.release()
    await asyncio.gather(*tasks)
    assert order == ["urgent caption", "thumbnail 1", "caption 1", "thumbnail 2", "caption 2", "batch"]


async def test_work_that_must_stay_at_home_holds_up_nobody_who_may_overflow() -> None:
    gate = Switch(open=False)
    dispatcher = Dispatcher([StubTarget("own", 1)], gates={"own": gate}, reserved=0)
    first = await dispatcher.acquire("interactive", 0, own=True)
    dispatcher.add(StubTarget("cloud", 2), Switch(), overflow=True)
    stays = [asyncio.create_task(dispatcher.acquire("interactive", own=True)) for _ in range(2)]
    await settled()
    others = [asyncio.create_task(dispatcher.acquire("interactive")) for _ in range(3)]
    await settled()
    assert [task.done() for task in (*stays, *others)] == [False, False, True, True, False]
    assert {(await task).target for task in others[:2]} == {"cloud"}
    first.release()  # those who stay are first at home, in turn
    assert (await stays[0]).target == "own"
    (await stays[0]).release()
    assert (await stays[1]).target == "own"
    (await others[0]).release()
    assert (await others[2]).target == "cloud"


async def test_overflow_helps_a_class_that_waits_too_long_by_its_own_measure() -> None:
    dispatcher = Dispatcher([StubTarget("own", 1)], latency_s={Priority.NORMAL: 5.0})
    dispatcher.add(StubTarget("cloud", 1), overflow=True)
    async with await dispatcher.acquire():
        now = time.monotonic()
        dispatcher.note_queued({Priority.NORMAL: now - 4.0, Priority.BATCH: now - 1000.0})
        for priority in (Priority.NORMAL, Priority.BATCH):
            with pytest.raises(Busy):
                await dispatcher.acquire(priority, 0)
        batch, normal = (asyncio.create_task(dispatcher.acquire(kind)) for kind in (Priority.BATCH, Priority.NORMAL))
        await settled()
        dispatcher.note_queued({Priority.NORMAL: now - 6.0})
        async with await normal as slot:
            assert slot.target == "cloud"
            assert "longer than 5 s" in slot.reason
        await settled()
        assert not batch.done()
    async with await batch as slot:
        assert slot.target == "own"


async def test_draining_ends_the_line_and_waits_for_what_runs() -> None:
    target = StubTarget(capacity=1)
    target.go.clear()
    dispatcher = Dispatcher([target])
    running = asyncio.create_task(dispatcher.run(REQUEST))
    waiting = asyncio.create_task(dispatcher.run(REQUEST))
    await settled()
    assert not await dispatcher.drain(0.01)
    with pytest.raises(ShuttingDown):
        await waiting
    with pytest.raises(ShuttingDown):
        await dispatcher.acquire("interactive", 5)
    drained = asyncio.create_task(dispatcher.drain(30))
    await settled()
    assert not drained.done()
    target.go.set()
    await running
    assert await drained
    assert dispatcher.snapshot()["draining"]


async def test_retry_after_follows_the_pace_of_recent_work_and_is_bounded() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1)])
    for _ in range(100):
        dispatcher.note_duration(20)
    assert 15 <= dispatcher.retry_after() <= 21
    for _ in range(100):
        dispatcher.note_duration(5000)
    assert dispatcher.retry_after() == 60


@dataclass
class Story:
    """Random work on a dispatcher, with what must hold at every moment."""

    dispatcher: Dispatcher
    capacities: dict[str, int]
    gates: dict[str, Switch]
    tasks: list[tuple[Priority, asyncio.Task[Slot]]] = field(default_factory=list)
    held: list[Slot] = field(default_factory=list)

    async def act(self, action: str, number: int) -> None:
        if action == "acquire":
            priority = ORDER[number % 3]
            wait = 0 if number % 7 == 0 else None
            self.tasks.append((priority, asyncio.ensure_future(self.dispatcher.acquire(priority, wait))))
        elif action == "cancel" and self.tasks:
            self.tasks[number % len(self.tasks)][1].cancel()
        elif action == "release" and self.held:
            self.held.pop(number % len(self.held)).release()
        elif action == "gate":
            gate = list(self.gates.values())[number % len(self.gates)]
            gate.open = not gate.open
        elif action == "poke":
            self.dispatcher.poke()
        elif action == "tick":
            await asyncio.sleep(0)
            self.collect()
        self.check()

    def collect(self) -> None:
        for _, task in [entry for entry in self.tasks if entry[1].done()]:
            if not task.cancelled() and task.exception() is None:
                self.held.append(task.result())
        self.tasks = [entry for entry in self.tasks if not entry[1].done()]

    def check(self) -> None:
        for target in self.dispatcher.snapshot()["targets"]:
            assert 0 <= target["running"] <= self.capacities[target["name"]]
        assert self.dispatcher.running >= len(self.held)

    async def end(self) -> None:
        """Cancel and release everything: every slot must be there again."""
        for _, task in self.tasks:
            task.cancel()
        await settled()
        self.collect()
        assert not self.tasks
        assert self.dispatcher.running == len(self.held)
        for slot in self.held:
            slot.release()
        assert (self.dispatcher.running, self.dispatcher.waiting) == (0, 0)
        for gate in self.gates.values():
            gate.open = True
        slots = [await self.dispatcher.acquire("interactive", 0) for _ in range(sum(self.capacities.values()))]
        with pytest.raises(Busy):
            await self.dispatcher.acquire("interactive", 0)
        for slot in slots:
            slot.release()
        await self.dispatcher.drain(1)


actions = st.tuples(
    st.sampled_from(["acquire", "acquire", "acquire", "cancel", "release", "tick", "tick", "gate", "poke"]),
    st.integers(0, 30),
)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(actions, max_size=60),
    st.lists(st.integers(1, 3), min_size=1, max_size=3),
    st.integers(0, 2),
)
def test_no_slot_is_lost_or_given_twice_whatever_is_cancelled_when(
    story: list[tuple[str, int]], capacities: list[int], reserved: int
) -> None:
    async def play() -> None:
        targets = [StubTarget(str(index), capacity) for index, capacity in enumerate(capacities)]
        gates = {target.name: Switch() for target in targets}
        dispatcher = Dispatcher(targets, reserved=reserved, gates=gates)
        told = Story(dispatcher, {target.name: target.capacity for target in targets}, gates)
        for action, number in story:
            await told.act(action, number)
        await told.end()

    asyncio.run(play())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(ORDER), min_size=1, max_size=12), st.data())
def test_slots_are_given_by_class_then_in_turn(priorities: list[Priority], data: st.DataObject) -> None:
    cancelled = set(data.draw(st.lists(st.integers(0, len(priorities) - 1), max_size=4)))

    async def play() -> list[int]:
        dispatcher = Dispatcher([StubTarget(capacity=1)])
        given: list[int] = []

        async def work(index: int) -> None:
            async with await dispatcher.acquire(priorities[index]):
                given.append(index)

        slot = await dispatcher.acquire("interactive", 0)
        tasks: list[asyncio.Task[Any]] = []
        for index in range(len(priorities)):
            tasks.append(asyncio.create_task(work(index)))
            await asyncio.sleep(0)
        for index in cancelled:
            tasks[index].cancel()
        slot.release()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert dispatcher.running == 0
        return given

    left = [index for index in range(len(priorities)) if index not in cancelled]
    assert asyncio.run(play()) == sorted(left, key=lambda index: (ORDER.index(priorities[index]), index))


# -- the lane of tasks that want learned models -----------------------------------------------------


async def test_tasks_with_models_and_others_take_no_slots_from_each_other() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=2, model_slots=1)], reserved=1)
    learned = await dispatcher.acquire("batch", 0, models=True)
    with pytest.raises(Busy):
        await dispatcher.acquire("interactive", 0, models=True)
    others = [await dispatcher.acquire("batch", 0), await dispatcher.acquire("interactive", 0)]
    with pytest.raises(Busy):
        await dispatcher.acquire("interactive", 0)
    (told,) = dispatcher.snapshot()["targets"]
    assert (told["running"], told["capacity"], told["models"]) == (2, 2, {"running": 1, "capacity": 1})
    assert (dispatcher.running, dispatcher.model_room) == (3, 0)
    learned.release()
    learned.release()
    assert dispatcher.model_room == 1
    for slot in others:
        slot.release()
    assert dispatcher.running == 0


async def test_who_waits_for_models_holds_up_nobody_else_and_is_served_by_class() -> None:
    dispatcher = Dispatcher([StubTarget(capacity=1, model_slots=1)], reserved=0)
    held = await dispatcher.acquire("normal", models=True)
    batch = asyncio.create_task(dispatcher.acquire("batch", models=True))
    await settled()
    urgent = asyncio.create_task(dispatcher.acquire("interactive", models=True))
    await settled()
    assert dispatcher.snapshot()["waiting_for_models"] == 2
    await dispatcher.run(REQUEST, "batch", 0)
    held.release()
    await settled()
    assert urgent.done()
    assert not batch.done()
    (await urgent).release()
    (await batch).release()


async def test_a_task_with_models_goes_where_its_lane_has_room_and_takes_a_common_slot_where_there_is_no_lane() -> None:
    dispatcher = Dispatcher([StubTarget("own", 1, model_slots=1), StubTarget("node", 1, model_slots=2)], reserved=0)
    dispatcher.add(StubTarget("plain", 1))
    slots = [await dispatcher.acquire("normal", 0, models=True) for _ in range(4)]
    assert sorted(slot.target for slot in slots) == ["node", "node", "own", "plain"]
    with pytest.raises(Busy):
        await dispatcher.acquire("normal", 0, models=True)
    assert {(await dispatcher.acquire("normal", 0)).target for _ in range(2)} == {"own", "node"}


async def test_a_request_with_models_waits_in_its_lane_as_long_as_it_may() -> None:
    target = StubTarget(capacity=2, model_slots=1)
    target.go.clear()
    dispatcher = Dispatcher([target], reserved=0)
    learned = RunRequest("m", Pipeline.parse("remove_background").to_json(), b"")
    first = asyncio.create_task(dispatcher.run(learned, "interactive", 5))
    await settled()
    with pytest.raises(Busy):
        await dispatcher.run(learned, "interactive", 0.01)
    target.go.set()
    await first
    assert dispatcher.running == 0


@given(st.lists(st.tuples(st.sampled_from(list(Priority)), st.booleans(), st.integers(0, 4)), max_size=30))
@settings(max_examples=40, deadline=None)
def test_the_bounds_of_both_kinds_hold_in_any_order(tasks: list[tuple[Priority, bool, int]]) -> None:
    async def check() -> None:
        dispatcher = Dispatcher([StubTarget("a", 2, model_slots=1), StubTarget("b", 1, model_slots=2)], reserved=1)
        out = {False: 0, True: 0}

        async def work(priority: Priority, naps: int, *, models: bool) -> None:
            async with await dispatcher.acquire(priority, models=models):
                out[models] += 1
                assert out[False] <= 3
                assert out[True] <= 3
                for _ in range(naps):
                    await asyncio.sleep(0)
                out[models] -= 1

        async with asyncio.TaskGroup() as group:
            for priority, models, naps in tasks:
                group.create_task(work(priority, naps, models=models))
        assert (dispatcher.running, dispatcher.waiting) == (0, 0)

    asyncio.run(check())
