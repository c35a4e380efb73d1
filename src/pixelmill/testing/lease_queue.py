"""What every lease queue must do: subclass :class:`LeaseQueueConformance`, give it fixtures ``queue`` and ``clock``.

Needs pytest, anyio and hypothesis. The queue must take its time from ``clock``; for one that is a service elsewhere the
clock is a :class:`pixelmill.testing.clock.RealClock`, and ``visibility_s`` a few seconds. What ``queue.traits`` says it
can't do is not asked of it. :func:`lease_queue_machine` makes the state machine that drives a queue through
random histories beside a model in memory.
"""

# A test's name is its sentence:
# ruff: noqa: D102

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pixelmill.engines.queue import Lease, LeaseQueue, Message
from pixelmill.testing.clock import Clock

T = TypeVar("T")

VISIBILITY_S = 10.0


def message(name: str, **values: Any) -> Message:
    """A message whose body tells its name."""
    return Message(id=f"{name}/0", body=f'{{"name":"{name}"}}', **values)


@pytest.mark.anyio
class LeaseQueueConformance:
    """The contract of :class:`pixelmill.engines.queue.LeaseQueue`, as tests."""

    visibility_s = VISIBILITY_S

    async def all_of(self, queue: LeaseQueue, limit: int = 100) -> list[Lease]:
        """What is there; a queue elsewhere may give a part at a time."""
        leases: list[Lease] = []
        while more := await queue.receive(limit, self.visibility_s):
            leases += more
        return leases

    async def test_a_message_comes_out_as_it_went_in(self, queue: LeaseQueue) -> None:
        trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01 vendor=1"
        sent = Message("täsk/3", '{"a": "ü\\u0000\\n"}', priority=2, rank=7, owner="ann", trace=trace)
        await queue.send([sent])
        (lease,) = await queue.receive(10, self.visibility_s)
        assert (lease.message, lease.deliveries) == (sent, 1)

    async def test_an_empty_queue_answers_at_once(self, queue: LeaseQueue) -> None:
        assert await queue.receive(10, self.visibility_s) == []

    async def test_urgent_messages_come_first(self, queue: LeaseQueue) -> None:
        await queue.send([message("batch", priority=2), message("normal"), message("urgent", priority=0)])
        leases = await queue.receive(10, self.visibility_s)
        assert [lease.message.id for lease in leases] == ["urgent/0", "normal/0", "batch/0"]

    async def test_order_is_priority_then_rank_then_order_of_sending(self, queue: LeaseQueue) -> None:
        if not queue.traits.ranks:
            pytest.skip("this queue keeps no order within a priority")
        await queue.send(
            [
                message("late", rank=5),
                message("batch", priority=2),
                message("first", rank=1),
                message("second", rank=1),
                message("urgent", priority=0, rank=99),
            ]
        )
        leases = await queue.receive(10, self.visibility_s)
        assert [lease.message.id for lease in leases] == ["urgent/0", "first/0", "second/0", "late/0", "batch/0"]

    async def test_no_more_than_the_limit_come(self, queue: LeaseQueue) -> None:
        await queue.send([message(str(i)) for i in range(5)])
        assert [len(await queue.receive(2, self.visibility_s)) for _ in range(4)] == [2, 2, 1, 0]

    async def test_what_is_queued_already_is_not_queued_twice(self, queue: LeaseQueue) -> None:
        if not queue.traits.deduplicates:
            pytest.skip("this queue may hold a message twice")
        await queue.send([message("a")])
        await queue.send([message("a", rank=9), message("b")])
        assert len(await queue.receive(10, self.visibility_s)) == 2

    async def test_a_leased_message_is_hidden_until_its_lease_ends(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        await queue.receive(1, self.visibility_s)
        clock.advance(self.visibility_s / 2)
        assert await queue.receive(1, self.visibility_s) == []
        clock.advance(self.visibility_s / 2)
        (again,) = await queue.receive(1, self.visibility_s)
        assert again.deliveries == 2

    async def test_extending_starts_the_time_anew(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        leases = await queue.receive(1, self.visibility_s)
        clock.advance(0.6 * self.visibility_s)
        await queue.extend(leases, self.visibility_s)
        clock.advance(0.6 * self.visibility_s)
        assert await queue.receive(1, self.visibility_s) == []

    async def test_a_deleted_message_never_comes_back(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        await queue.delete(await queue.receive(1, self.visibility_s))
        clock.advance(self.visibility_s)
        assert await queue.receive(1, self.visibility_s) == []

    async def test_a_released_message_is_visible_at_once(self, queue: LeaseQueue) -> None:
        await queue.send([message("a")])
        await queue.release(await queue.receive(1, self.visibility_s))
        (again,) = await queue.receive(1, self.visibility_s)
        assert again.deliveries == 2

    async def test_what_was_only_fetched_ahead_is_given_back_uncounted(self, queue: LeaseQueue) -> None:
        await queue.send([message("a")])
        await queue.release(await queue.receive(1, self.visibility_s))
        await queue.release(await queue.receive(1, self.visibility_s), begun=False)
        (again,) = await queue.receive(1, self.visibility_s)
        assert again.deliveries == 2

    async def test_an_extended_lease_is_still_one(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a"), message("b")])
        leases = await self.all_of(queue)
        await queue.extend(leases, self.visibility_s)
        await queue.extend(leases, self.visibility_s)
        await queue.delete(leases[:1])
        await queue.release(leases[1:])
        (again,) = await queue.receive(5, self.visibility_s)
        assert again.message == leases[1].message
        clock.advance(self.visibility_s)
        assert len(await self.all_of(queue)) == 1

    async def test_a_delayed_release_is_visible_later(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        await queue.release(await queue.receive(1, self.visibility_s), after_s=self.visibility_s / 2)
        assert await queue.receive(1, self.visibility_s) == []
        clock.advance(self.visibility_s / 2)
        assert len(await queue.receive(1, self.visibility_s)) == 1

    async def test_who_lost_the_lease_can_do_nothing_with_it(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        lost = await queue.receive(1, self.visibility_s)
        clock.advance(self.visibility_s)
        held = await queue.receive(1, self.visibility_s)
        await queue.delete(lost)
        await queue.release(lost)
        await queue.extend(lost, 100 * self.visibility_s)
        await queue.dead_letter(lost[0], "too late")
        assert await queue.receive(1, self.visibility_s) == []
        clock.advance(self.visibility_s)
        (again,) = await queue.receive(1, self.visibility_s)
        assert again.message == held[0].message
        assert (await queue.depth()).dead == 0

    async def test_a_dead_letter_is_counted_and_not_delivered(self, queue: LeaseQueue, clock: Clock) -> None:
        await queue.send([message("a")])
        (lease,) = await queue.receive(1, self.visibility_s)
        await queue.dead_letter(lease, "it crashed three times")
        clock.advance(self.visibility_s)
        assert await queue.receive(1, self.visibility_s) == []
        depth = await queue.depth()
        assert (depth.waiting, depth.leased, depth.dead) == (0, 0, 1)

    async def test_dead_letters_are_listed_with_their_reason(self, queue: LeaseQueue) -> None:
        sent = [message("a", priority=2, owner="ann"), message("b")]
        await queue.send(sent)
        for lease in await self.all_of(queue):
            await queue.dead_letter(lease, f"{lease.message.id} crashed")
        for _ in range(2):  # looking changes nothing
            letters = {letter.message.id: letter for letter in await queue.dead(10)}
            assert set(letters) == {"a/0", "b/0"}
            assert letters["a/0"].message == sent[0]
            assert (letters["a/0"].reason, letters["a/0"].deliveries) == ("a/0 crashed", 1)
        assert len(await queue.dead(1)) == 1

    async def test_dead_letters_can_be_queued_again_or_forgotten(self, queue: LeaseQueue) -> None:
        await queue.send([message(name) for name in "abc"])
        for lease in await self.all_of(queue):
            await queue.dead_letter(lease, "crashed")
        assert await queue.redrive(["a/0", "z/0"]) == ["a/0"]
        assert await queue.forget(["b/0"]) == ["b/0"]
        (again,) = await queue.receive(5, self.visibility_s)
        assert (again.message.id, again.deliveries) == ("a/0", 1)
        assert [letter.message.id for letter in await queue.dead(10)] == ["c/0"]

    async def test_depth_tells_what_waits_and_for_how_long(self, queue: LeaseQueue, clock: Clock) -> None:
        if not queue.traits.exact:
            pytest.skip("this queue tells its depth only roughly")
        assert (await queue.depth()).oldest_s == 0.0
        await queue.send([message("a")])
        clock.advance(3.0)
        await queue.send([message("b"), message("c")])
        clock.advance(4.0)
        depth = await queue.depth()
        assert (depth.waiting, depth.leased, depth.oldest_s) == (3, 0, 7.0)
        await queue.receive(1, self.visibility_s)
        depth = await queue.depth()
        assert (depth.waiting, depth.leased, depth.oldest_s) == (2, 1, 4.0)

    async def test_receivers_at_the_same_time_share_no_message(self, queue: LeaseQueue) -> None:
        await queue.send([message(str(i)) for i in range(60)])
        received = await asyncio.gather(*(queue.receive(7, self.visibility_s) for _ in range(12)))
        received.append(await self.all_of(queue))
        ids = [lease.message.id for leases in received for lease in leases]
        assert len(ids) == len(set(ids)) == 60

    async def test_nothing_to_do_is_no_error(self, queue: LeaseQueue) -> None:
        await queue.send([])
        await queue.delete([])
        await queue.extend([], self.visibility_s)
        await queue.release([])


@dataclass(slots=True)
class _Expected:
    """A message in the model."""

    message: Message
    seq: int
    visible: float
    deliveries: int = 0
    receipt: str | None = None


class LeaseQueueMachine(RuleBasedStateMachine):
    """Random histories of a queue beside a model: no message is lost, none has two holders, deliveries are counted."""

    make: Callable[[Clock], AbstractAsyncContextManager[LeaseQueue]]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.stack = AsyncExitStack()
        self.clock = Clock()
        self.expected: dict[str, _Expected] = {}
        self.dead: set[str] = set()
        self.leases: list[Lease] = []
        self.sent = 0

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one step."""
        return self.runner.run(work)

    @initialize()
    def begin(self) -> None:
        self.queue = self.do(self.stack.enter_async_context(type(self).make(self.clock)))

    def teardown(self) -> None:
        self.do(self.stack.aclose())
        self.runner.close()

    @rule(
        names=st.lists(st.integers(0, 30), max_size=6, unique=True),
        priority=st.integers(0, 2),
        rank=st.integers(0, 3),
    )
    def send(self, names: list[int], priority: int, rank: int) -> None:
        messages = [message(str(name), priority=priority, rank=rank) for name in names]
        self.do(self.queue.send(messages))
        for one in messages:
            if one.id not in self.expected:
                self.sent += 1
                self.expected[one.id] = _Expected(one, self.sent, self.clock())

    @rule(limit=st.integers(1, 5))
    def receive(self, limit: int) -> None:
        visible = [entry for entry in self.expected.values() if entry.visible <= self.clock()]
        visible.sort(key=lambda entry: (entry.message.priority, entry.message.rank, entry.seq))
        leases = self.do(self.queue.receive(limit, VISIBILITY_S))
        assert [lease.message for lease in leases] == [entry.message for entry in visible[:limit]]
        for lease in leases:
            entry = self.expected[lease.message.id]
            entry.deliveries += 1
            entry.visible = self.clock() + VISIBILITY_S
            entry.receipt = lease.receipt
            assert lease.deliveries == entry.deliveries
        self.leases += leases

    @rule(seconds=st.sampled_from([1.0, VISIBILITY_S / 2, VISIBILITY_S]))
    def time_passes(self, seconds: float) -> None:
        self.clock.advance(seconds)

    def pick(self, data: st.DataObject) -> tuple[Lease, _Expected | None] | None:
        """Any lease that was ever given out, and its entry if it still holds."""
        if not self.leases:
            return None
        lease = data.draw(st.sampled_from(self.leases))
        entry = self.expected.get(lease.message.id)
        return lease, entry if entry is not None and entry.receipt == lease.receipt else None

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        if picked := self.pick(data):
            lease, entry = picked
            self.do(self.queue.delete([lease]))
            if entry is not None:
                del self.expected[lease.message.id]

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        if picked := self.pick(data):
            lease, entry = picked
            self.do(self.queue.extend([lease], VISIBILITY_S))
            if entry is not None:
                entry.visible = self.clock() + VISIBILITY_S

    @rule(data=st.data(), after_s=st.sampled_from([0.0, 3.0]), begun=st.booleans())
    def release(self, data: st.DataObject, after_s: float, begun: bool) -> None:
        if picked := self.pick(data):
            lease, entry = picked
            self.do(self.queue.release([lease], after_s=after_s, begun=begun))
            if entry is not None:
                entry.visible = self.clock() + after_s
                entry.receipt = None
                entry.deliveries -= 0 if begun else 1

    @rule(data=st.data())
    def dead_letter(self, data: st.DataObject) -> None:
        if picked := self.pick(data):
            lease, entry = picked
            self.do(self.queue.dead_letter(lease, "why"))
            if entry is not None:
                del self.expected[lease.message.id]
                self.dead.add(lease.message.id)

    @invariant()
    def depth_agrees(self) -> None:
        if not hasattr(self, "queue"):
            return
        depth = self.do(self.queue.depth())
        visible = [entry for entry in self.expected.values() if entry.visible <= self.clock()]
        assert depth.waiting == len(visible)
        assert depth.leased == len(self.expected) - len(visible)
        assert depth.dead == len(self.dead)


def lease_queue_machine(make: Callable[[Clock], AbstractAsyncContextManager[LeaseQueue]]) -> type[LeaseQueueMachine]:
    """The machine for queues that ``make`` opens; its ``TestCase`` is collected by pytest."""
    return type("Machine", (LeaseQueueMachine,), {"make": staticmethod(make)})
