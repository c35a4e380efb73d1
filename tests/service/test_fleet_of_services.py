"""Services with a real Redis: state rebuilt after losses, one list of nodes, events of workers without a database."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import httpx
import pytest
from live_service import LiveService
from redis_tools import look, own_redis, until
from worker_hub import Hub, queue_settings, submit

from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import ConfigError
from pixelmill.events.redis_stream import STREAM, RedisEventSink, RedisEventSource
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Counts, TaskEvent, result_key
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.taskevents import event_from_json, event_to_json
from pixelmill.service import ServiceConfig
from pixelmill.service.history import History
from pixelmill.service.parts import Parts
from pixelmill.service.reconcile import Reconcile
from pixelmill.storage.memory import MemoryStore
from pixelmill.testing.job_store import event_of, job_of, tally, tasks_of
from servers import Redis

pytestmark = pytest.mark.anyio


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[Database]:
    async with Database(f"sqlite:///{tmp_path}/state.sqlite") as db:
        yield db


async def keep_result(store: MemoryStore, task: str, job: str = "job", run: int = 0) -> None:
    """The document that an executor leaves."""
    document: dict[str, object] = {
        "state": "succeeded",
        "outcome": {"format": "jpeg", "bytes": 3},
        "error": None,
        "attempt": 1,
    }
    document |= {"target": "elsewhere", "worker": "7", "started": 2.0, "ended": 3.0}
    await store.put(f"{result_key('ann', job, task, run)}.json", json.dumps(document).encode())


async def test_lost_events_are_found_in_results_and_lost_tasks_are_queued_again(db: Database) -> None:
    """Ten tasks: some ended unheard, some vanished with their worker, some are leased, some wait."""
    jobs, objects, queue = JobStore(db), MemoryStore(), SqlLeaseQueue(db)
    await jobs.create_job(job_of(), tasks_of("job", 10))
    leases = await queue.receive(8, 60.0)
    ids = [lease.message.id.split("/")[0] for lease in leases]
    await jobs.record([event_of("started", one) for one in ids[:6]])
    for one in (ids[0], ids[1], ids[6]):  # ended; the last one's start was not even heard
        await keep_result(objects, one)
    await queue.delete([leases[0], leases[1], leases[6]])
    await queue.delete([leases[2]])  # running, without a message, without a result
    await queue.release([leases[3]])  # running, its message waits
    done = await Reconcile(jobs, objects, jobs.record).run()
    assert (done.ended, done.requeued) == (3, 2)
    assert await tally(jobs, "job") == Counts(queued=5, running=2, succeeded=3)
    again = await Reconcile(jobs, objects, jobs.record).run(thorough=True)
    assert (again.ended, again.requeued) == (0, 0), "a second round changes nothing"
    depth = await queue.depth()
    assert depth.waiting + depth.leased == 7, "each open task has one message"


async def test_a_thorough_round_looks_at_every_result_and_knows_runs(db: Database) -> None:
    jobs, objects, queue = JobStore(db), MemoryStore(), SqlLeaseQueue(db)
    await jobs.create_job(job_of(), tasks_of("job", 1_200))
    leases = await queue.receive(1_200, 60.0)
    ids = [lease.message.id.split("/")[0] for lease in leases]
    for one in ids[:1_100]:
        await keep_result(objects, one)
    await keep_result(objects, ids[1_150], run=1)  # of another run: not this one's end
    assert (await Reconcile(jobs, objects, jobs.record).run()).ended == 0, "all are attended to"
    seen: list[int] = []
    done = await Reconcile(jobs, objects, jobs.record).run(thorough=True, progress=lambda now: seen.append(now.ended))
    assert done.ended == 1_100
    assert len(seen) >= 3, "progress is told page by page"
    assert (await jobs.job("ann", "job")).counts.succeeded == 1_100


async def test_a_wiped_redis_in_the_middle_of_a_batch_loses_no_task(tmp_path: Path, db: Database) -> None:
    """A worker without a database stores results and emits; Redis is wiped and killed; every task ends once."""
    jobs, objects, queue = JobStore(db), MemoryStore(), SqlLeaseQueue(db)
    await jobs.create_job(job_of(), tasks_of("job", 300))
    changed: list[str] = []

    async def record(events: Sequence[TaskEvent]) -> None:
        changed.extend(change.task for change in (await jobs.record(events)).tasks if change.after.is_final)

    with own_redis(tmp_path) as server:
        reasons: list[str] = []
        sink = RedisEventSink(server.url, event_to_json)
        source = RedisEventSource(server.url, event_from_json, record, on_lost=reasons.append, idle_s=0.2)
        reading = asyncio.create_task(source.run())
        await until(lambda: bool(look(server).exists(STREAM)), "the service listens")
        for batch in range(30):
            leases = await queue.receive(10, 60.0)
            ids = [lease.message.id.split("/")[0] for lease in leases]
            for one in ids:
                await keep_result(objects, one)
            await sink.emit([event_of(kind, one) for one in ids for kind in ("started", "succeeded")])
            if batch in {7, 15}:
                look(server).flushall()  # what was not recorded yet is gone
            if batch == 22:
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            await queue.delete(leases)
        await until(lambda: look(server).xlen(STREAM) == 0 and bool(reasons), "all that is left is recorded")
        await Reconcile(jobs, objects, record).run(thorough=True)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
        await source.close()
        await sink.close()
    assert await tally(jobs, "job") == Counts(succeeded=300)
    assert len(changed) == len(set(changed)) == 300, "each task ended once"


def test_events_are_the_same_after_their_way() -> None:
    event = TaskEvent(
        "failed", "t", "j", "o", 1, 2, 3.5, target="a", error={"type": "x", "context": {"ü": [1]}}, cost=0.25
    )
    assert event_from_json(event_to_json(event)) == event


def test_a_wrong_address_of_redis_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_REDIS_URL") as caught:
        Parts(ServiceConfig(data=tmp_path, redis_url="http://:secret-word@host"))
    assert "secret-word" not in str(caught.value)


def test_a_wrong_prefix_is_refused_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_REDIS_PREFIX"):
        Parts(ServiceConfig(data=tmp_path, redis_url="redis://127.0.0.1:1/0", redis_prefix="a:b"))


async def test_installations_with_prefixes_of_their_own_share_a_redis(
    tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, pictures: list[bytes]
) -> None:
    """Each has its database, its queue, and a worker without a database: none hears what the other's say."""
    hubs = []
    try:
        for name in ("one", "two"):
            settings = queue_settings("sqs, redis", request, monkeypatch)
            hubs.append(Hub(tmp_path / name / "data", redis_prefix=name, **settings))
            (tmp_path / name).mkdir()
            await hubs[-1].service.start()
        jobs = [await submit(hub, pictures, 30) for hub in hubs]
        for hub in hubs:
            hub.start_worker()
        for hub, job in zip(hubs, jobs, strict=True):
            assert (await hub.until(job, 30)).counts == Counts(succeeded=30)
            assert len({node["replica"] for node in await hub.service.nodes()}) == 1
    finally:
        for hub in hubs:
            hub.end()
            await hub.service.stop()


async def test_two_services_show_one_fleet_and_record_what_workers_say(
    tmp_path: Path, redis_server: Redis, pictures: list[bytes]
) -> None:
    look(redis_server).flushall()
    options = {"redis_url": redis_server.url, "webhook_allow_private": True}
    with LiveService(tmp_path / "a", service=options) as one, LiveService(tmp_path / "b", service=options) as other:
        with one.client() as first, other.client() as second:

            def nodes(client: httpx.Client) -> int:
                return len({node["replica"] for node in client.get("/v1/nodes").json()["items"]})

            await until(lambda: nodes(first) == nodes(second) == 2, "each shows both")
            files = [("files", ("a.jpg", pictures[0], "image/jpeg"))]
            job = first.post("/v1/jobs", data={"pipeline": "grayscale"}, files=files).json()["id"]
            await until(lambda: first.get(f"/v1/jobs/{job}").json()["state"] == "succeeded", "it works as ever")

            def measured() -> bool:
                table = first.get("/v1/metrics/history").json()
                return bool(sum(table["columns"]["succeeded"]) == 1)

            await until(measured, "the history has it")
            assert other.stop() == 0, other.log()
            assert nodes(first) == 1, "a service that stops leaves the list"
        assert one.stop() == 0, one.log()


def test_the_history_is_bounded_and_knows_percentiles() -> None:
    history = History()
    for second in range(4_000):
        history.tick(960_000.0 + second, waiting=second, oldest_s=1.5, running=2)
    hour, day = history.table("hour"), history.table("day")
    assert {len(column) for column in hour["columns"].values()} == {3_600}
    assert {len(column) for column in day["columns"].values()} == {66}
    assert hour["columns"]["waiting"][-1] == 3_999
    assert hour["columns"]["run_p50_s"][-1] is None


async def test_two_services_on_postgresql_tell_each_others_readers(
    tmp_path: Path, redis_server: Redis, postgres_url: str, pictures: list[bytes]
) -> None:
    options = {"redis_url": redis_server.url, "database_url": postgres_url.replace("+psycopg", "")}
    with (
        LiveService(tmp_path / "data", service=options) as one,
        LiveService(tmp_path / "data", service=options) as other,
        one.client() as first,
        other.client() as second,
    ):
        files = [("files", (f"{n}.jpg", picture, "image/jpeg")) for n, picture in enumerate(pictures)]
        job = first.post("/v1/jobs", data={"pipeline": "grayscale"}, files=files).json()["id"]
        with second.stream("GET", f"/v1/jobs/{job}/events", params={"after": 0}) as stream:
            lines = list(stream.iter_lines())  # it ends with the job
        finals = [line for line in lines if line.startswith("data:") and '"state":"succeeded","name"' in line]
        assert len(finals) == len(pictures), "each task ended once"

        def counted(client: httpx.Client) -> bool:
            table = client.get("/v1/metrics/history").json()
            return bool(sum(table["columns"]["succeeded"]) == len(pictures))

        await until(lambda: counted(first) and counted(second), "both have the history of both")
