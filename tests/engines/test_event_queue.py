"""Events of workers come back through a queue: in order, at least once, whatever their size."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pixelmill.engines.event_queue import BATCH_BYTES, EventIntake, QueueSink, pack, unpack
from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.queue import Message
from pixelmill.engines.rabbit import Address, RabbitQueue
from pixelmill.errors import JobError, StorageUnavailable
from pixelmill.jobs.model import TaskEvent
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of

pytestmark = pytest.mark.anyio

EVENTS = [event_of(kind, f"job-{i}") for i in range(300) for kind in ("started", "succeeded")]


def test_pack_and_unpack_are_inverse_and_bounded() -> None:
    bodies = pack(EVENTS)
    assert len(bodies) > 1
    assert max(map(len, bodies)) < 2 * BATCH_BYTES
    assert [event for body in bodies for event in unpack(body)] == EVENTS
    assert pack([]) == []


def test_a_field_of_a_newer_version_is_left_out() -> None:
    (body,) = pack(EVENTS[:1])
    assert unpack(body.replace('{"kind"', '{"cost":1,"kind"')) == EVENTS[:1]


@pytest.mark.parametrize("body", ["", "{", "[1]", '[{"kind":"started"}]', "null"])
def test_what_is_no_event_is_refused(body: str) -> None:
    with pytest.raises(JobError):
        unpack(body)


async def test_events_are_deleted_only_after_they_were_recorded() -> None:
    queue, recorded = MemoryLeaseQueue(now=Clock()), list[TaskEvent]()
    away = True

    async def record(events: Sequence[TaskEvent]) -> None:
        if away:
            raise StorageUnavailable("away")
        recorded.extend(events)

    await QueueSink(queue).emit(EVENTS[:10])
    intake = EventIntake(queue, record)
    with pytest.raises(StorageUnavailable):
        await intake.take()
    assert (await queue.depth()).waiting == 1, "they went back at once"
    away = False
    assert await intake.take() == 1
    assert recorded == EVENTS[:10]
    assert await intake.take() == 0


async def test_strange_messages_are_set_aside() -> None:
    queue, recorded = MemoryLeaseQueue(), list[TaskEvent]()

    async def record(events: Sequence[TaskEvent]) -> None:
        recorded.extend(events)

    await queue.send([Message("strange/0", "hello")])
    await QueueSink(queue).emit(EVENTS[:1])
    await EventIntake(queue, record).take()
    assert recorded == EVENTS[:1]
    assert [letter.message.id for letter in await queue.dead(5)] == ["strange/0"]


async def test_events_taken_while_the_database_was_away_come_again_on_the_same_connection(rabbitmq_url: str) -> None:
    """A lease on RabbitMQ lasts as long as its connection, which an outage of the database does not end."""
    recorded, failures = list[TaskEvent](), 3

    async def record(events: Sequence[TaskEvent]) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise StorageUnavailable("away")
        recorded.extend(events)

    async with RabbitQueue(Address.parse(rabbitmq_url).renamed("events"), queues=("tasks",)) as queue:
        await QueueSink(queue).emit(EVENTS[:10])
        intake = EventIntake(queue, record)
        for _ in range(3):
            with pytest.raises(StorageUnavailable):
                await intake.take()
        assert await intake.take() == 1
        assert recorded == EVENTS[:10]


async def test_an_event_of_a_kind_that_only_a_newer_version_knows_holds_up_no_other() -> None:
    queue, recorded = MemoryLeaseQueue(), list[TaskEvent]()

    async def record(events: Sequence[TaskEvent]) -> None:
        recorded.extend(events)

    (body,) = pack(EVENTS[:3])
    await queue.send([Message("events-1/0", body.replace('"kind":"succeeded"', '"kind":"weighed"'))])
    await EventIntake(queue, record).take()
    assert recorded == [EVENTS[0], EVENTS[2]]
    assert (await queue.depth()).dead == 0


async def test_an_event_that_the_recorder_can_not_take_holds_up_no_other() -> None:
    queue, recorded = MemoryLeaseQueue(), list[TaskEvent]()

    async def record(events: Sequence[TaskEvent]) -> None:
        if EVENTS[1] in events:
            raise ValueError("a defect")
        recorded.extend(events)

    await QueueSink(queue).emit(EVENTS[:4])
    assert await EventIntake(queue, record).take() == 1
    assert recorded == [EVENTS[0], *EVENTS[2:4]]
    assert (await queue.depth()).leased == 0
