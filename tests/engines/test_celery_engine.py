"""The Celery engine on a real RabbitMQ: the contract of engines, and what only queues on a broker do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest

from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.queue import Message, QueueDepth
from pixelmill.engines.rabbit import Address, RabbitQueue
from pixelmill.errors import ConfigError
from pixelmill.fleet.gates import OPEN, AutoGate, Gate
from pixelmill.jobs.messages import TaskMessage
from pixelmill.testing.engine import BOUND_S, EngineConformance, Ledger, Rig, Script, message_of
from pixelmill.testing.slots import Slots

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
