from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from hypothesis import settings

from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.jobs.database import Database
from pixelmill.testing.clock import Clock
from pixelmill.testing.lease_queue import VISIBILITY_S, LeaseQueueConformance, lease_queue_machine, message


@pytest.fixture
def clock() -> Clock:
    return Clock()


class TestMemoryQueue(LeaseQueueConformance):
    @pytest.fixture
    def queue(self, clock: Clock) -> LeaseQueue:
        return MemoryLeaseQueue(now=clock)


class TestSqlQueue(LeaseQueueConformance):
    @pytest.fixture
    async def queue(self, sql_url: str, clock: Clock) -> AsyncIterator[LeaseQueue]:
        async with Database(sql_url) as db:
            yield SqlLeaseQueue(db, now=clock)


@asynccontextmanager
async def memory(clock: Clock) -> AsyncIterator[LeaseQueue]:
    yield MemoryLeaseQueue(now=clock)


@asynccontextmanager
async def sql(clock: Clock) -> AsyncIterator[LeaseQueue]:
    folder = tempfile.mkdtemp()
    try:
        async with Database(f"sqlite:///{folder}/q.sqlite") as db:
            yield SqlLeaseQueue(db, now=clock)
    finally:
        shutil.rmtree(folder)


TestMemoryHistories = lease_queue_machine(memory).TestCase
TestMemoryHistories.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestSqlHistories = lease_queue_machine(sql).TestCase
TestSqlHistories.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)


@pytest.mark.anyio
async def test_leases_of_dead_holders_are_visible_again_at_once(sql_url: str) -> None:
    async with Database(sql_url) as db:
        dead, living = SqlLeaseQueue(db, holder="dead"), SqlLeaseQueue(db, holder="living")
        await dead.send([message("a"), message("b")])
        await dead.receive(1, VISIBILITY_S)
        held = await living.receive(1, VISIBILITY_S)
        assert await SqlLeaseQueue(db, holder="dead").recover() == ["a/0"]
        (again,) = await living.receive(5, VISIBILITY_S)
        assert (again.message.id, again.deliveries) == ("a/0", 2)
        await living.delete(held)
        assert (await living.depth()).leased == 1


@pytest.mark.anyio
async def test_a_holder_whose_leases_were_taken_can_not_acknowledge(sql_url: str) -> None:
    async with Database(sql_url) as db:
        queue = SqlLeaseQueue(db)
        await queue.send([message("a")])
        lost = await queue.receive(1, VISIBILITY_S)
        await queue.recover()
        await queue.delete(lost)
        assert (await queue.depth()).waiting == 1
