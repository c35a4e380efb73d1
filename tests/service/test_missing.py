"""A queue elsewhere that was wiped heals: its tasks are sent again, and end once."""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import amqp
import boto3
import pytest
from azure.storage.queue import QueueServiceClient
from worker_hub import Hub, submit

from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.outbox import Outbox
from pixelmill.engines.rabbit import TASK_QUEUES, Address
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Counts, State
from pixelmill.jobs.release import Releases
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.suspects import OpenTask, Suspects
from pixelmill.service import missing, wiring
from pixelmill.service.missing import MAX_TRIES, Missing
from pixelmill.service.reconcile import Rebuilt, Reconcile
from pixelmill.storage.memory import MemoryStore
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of, job_of, tally, tasks_of
from servers import Azurite, Moto

pytestmark = pytest.mark.anyio

SILENCE_S = 10.0
LONG_S = missing.LEAST_S + 3 * SILENCE_S


class Rig:
    """A job store whose queue is elsewhere, the outbox, and what looks for lost messages."""

    def __init__(self, db: Database) -> None:
        self.jobs, self.objects, self.queue, self.clock = (
            JobStore(db, enqueue=False),
            MemoryStore(),
            MemoryLeaseQueue(),
            Clock(),
        )
        self.outbox = Outbox(Releases(self.jobs), self.queue)
        self.reconcile = Reconcile(self.jobs, self.objects, self.jobs.record)
        self.missing = self.made(self.reconcile.send_again)

    def made(self, again: Callable[[Sequence[OpenTask]], Awaitable[Rebuilt]]) -> Missing:
        return Missing(Suspects(self.jobs), self.queue.depth, again, silence_s=SILENCE_S, now=self.clock)

    async def wipe(self) -> None:
        await self.queue.delete(await self.queue.receive(1000, 1000.0))

    async def waiting(self) -> list[str]:
        return sorted(lease.message.id for lease in await self.queue.receive(1000, 0.0))


@pytest.fixture
async def rig(sql_url: str) -> AsyncIterator[Rig]:
    async with Database(sql_url) as db:
        yield Rig(db)


async def test_tasks_of_a_wiped_queue_are_sent_again_once_they_were_silent_for_long(rig: Rig) -> None:
    await rig.jobs.create_job(job_of(), tasks_of("job", 4))
    await rig.outbox.release()
    await rig.wipe()
    await rig.jobs.record([event_of("started", "job-1"), event_of("succeeded", "job-2")])
    assert await rig.missing.look() == 0
    rig.clock.advance(LONG_S - 1)
    await rig.jobs.record([event_of("started", "job-3")])  # somebody works on it
    assert await rig.missing.look() == 0
    rig.clock.advance(1)
    assert await rig.missing.look() == 2
    assert await tally(rig.jobs, "job") == Counts(queued=2, running=1, succeeded=1)
    assert await rig.outbox.release() == 2
    assert await rig.waiting() == ["job-0/0", "job-1/0"]
    (lost,) = await rig.jobs.attempts("ann", "job-1")
    assert lost["error"]["type"] == "worker-crashed"


async def test_nothing_is_sent_again_while_something_waits_in_the_queue(rig: Rig) -> None:
    await rig.jobs.create_job(job_of(), tasks_of("job", 3))
    await rig.outbox.release()
    for _ in range(5):
        assert await rig.missing.look() == 0
        rig.clock.advance(LONG_S)


async def test_a_task_that_no_worker_can_read_is_not_sent_for_ever(rig: Rig) -> None:
    await rig.jobs.create_job(job_of(), tasks_of("job", 1))
    found = 0
    for _ in range(2 * MAX_TRIES + 2):
        await rig.outbox.release()
        await rig.wipe()
        await rig.missing.look()
        rig.clock.advance(LONG_S)
        found += await rig.missing.look()
    assert found == MAX_TRIES


async def test_reconcile_sends_again_where_it_is_asked_to_and_only_there(rig: Rig) -> None:
    await rig.jobs.create_job(job_of(), tasks_of("job", 1_200))
    await rig.outbox.release()
    await rig.wipe()
    assert (await rig.reconcile.run(thorough=True)).requeued == 0, "Redis was lost, not the queue"
    assert (await rig.reconcile.run(resend=True)).requeued == 1_000
    assert await rig.outbox.release() == 1_000
    assert len(await rig.waiting()) == 1_000


Wipe = Callable[[], Awaitable[None]]


@pytest.fixture(params=["sqs", "rabbitmq", pytest.param("azure", marks=pytest.mark.slow)])
async def wiped(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Hub, Wipe]]:
    """A service with a queue elsewhere, and what deletes its queues of tasks."""
    # Five seconds of silence, with time limits as they are.
    monkeypatch.setattr(missing, "LEAST_S", 5.0 - 3 * 60.0)
    monkeypatch.setattr(wiring, "LOOK_S", 0.5)
    prefix = f"t{secrets.token_hex(4)}"
    settings: dict[str, Any]
    if request.param == "sqs":
        moto: Moto = request.getfixturevalue("moto_server")
        aws = {"AWS_ENDPOINT_URL_SQS": moto.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}
        for name, value in (aws | {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}).items():
            monkeypatch.setenv(name, value)
        settings = {"queue_url": f"sqs:{prefix}"}

        def wipe() -> None:
            client = boto3.client("sqs")
            for name in TASK_QUEUES:
                client.delete_queue(QueueUrl=client.get_queue_url(QueueName=f"{prefix}-{name}")["QueueUrl"])

    elif request.param == "azure":
        azurite: Azurite = request.getfixturevalue("azurite_server")
        settings = {"queue_url": f"azure:{prefix}", "azure_connection": azurite.connection_string}

        def wipe() -> None:
            with QueueServiceClient.from_connection_string(azurite.connection_string) as client:
                for name in TASK_QUEUES:
                    client.delete_queue(f"{prefix}-{name}")

    else:
        settings = {"queue_url": request.getfixturevalue("rabbitmq_url")}
        one = Address.parse(settings["queue_url"])

        def wipe() -> None:
            with amqp.Connection(
                f"{one.host}:{one.port}", one.user, one.password, virtual_host=one.vhost
            ) as connection:
                for name in TASK_QUEUES:
                    connection.channel().queue_delete(one.queue(name))

    hub = Hub(tmp_path / "data", **settings)
    await hub.service.start()
    try:
        yield hub, lambda: asyncio.to_thread(wipe)
    finally:
        hub.end()
        await hub.service.stop()


async def test_a_batch_outlives_the_deletion_of_its_queues(wiped: tuple[Hub, Wipe], pictures: list[bytes]) -> None:
    hub, wipe = wiped
    job = await submit(hub, pictures, 300)
    hub.start_worker()
    await hub.until(job, 10)
    await wipe()
    assert (await hub.service.job("ann", job.id)).counts.done < 300, "tasks were lost with the queues"
    ended = await hub.until(job, 300)
    assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=300))
    ends: Counter[str] = Counter()
    async for event in hub.service.events("ann", job_id=job.id, after=0):
        if event is not None and event.type == "task" and State(event.data["state"]).is_final:
            ends[event.data["id"]] += 1
    assert (len(ends), set(ends.values())) == (300, {1})
