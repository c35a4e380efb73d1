"""Workers that are killed at random lose and double nothing: on both databases, and on queues of clouds."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from buckets import s3_bucket
from worker_hub import BOUND_S, Hub, queue_settings, submit

from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.patience import when_there
from pixelmill.errors import StorageUnavailable
from pixelmill.jobs.model import Counts, Job, State
from servers import Moto, Postgres, free_port

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]  # what bounds them is progress: see `Hub.until`
SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture(
    params=[
        "sqlite",
        "postgresql",
        "sqs, events through redis",
        "rabbitmq",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("azure", "sqs", "rabbitmq, redis")),
    ]
)
async def hub(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path / "data", **queue_settings(request.param, request, monkeypatch))
    await hub.service.start()
    try:
        yield hub
    finally:
        hub.end()
        await hub.service.stop()


async def ended_once(hub: Hub, job: Job, tasks: int) -> None:
    """Each task ended exactly once in the log, and each has one whole result."""
    ends: Counter[str] = Counter()
    async for event in hub.service.events("ann", job_id=job.id, after=0):
        if event is not None and event.type == "task" and State(event.data["state"]).is_final:
            ends[event.data["id"]] += 1
    assert len(ends) == tasks
    assert set(ends.values()) == {1}
    results = hub.data / "objects" / "results" / "ann" / job.id
    stored = [path.name for path in results.iterdir()]
    assert sorted(stored) == sorted(name for task in ends for name in (task, f"{task}.json"))
    assert all(path.read_bytes()[:4] == b"\x89PNG" for path in results.iterdir() if path.suffix != ".json")


async def test_workers_killed_at_random_lose_and_double_nothing(hub: Hub, pictures: list[bytes]) -> None:
    tasks, kills = 240, 3
    job = await submit(hub, pictures, tasks)
    chance = random.Random(5)
    alive = [hub.start_worker(), hub.start_worker()]
    for kill in range(kills):
        await hub.until(job, min(tasks - 20, (kill + 1) * tasks // (kills + 2)))
        victim = alive.pop(chance.randrange(2))
        assert victim.poll() is None, (hub.data.parent / "workers.log").read_text()[-3000:]
        victim.send_signal(signal.SIGKILL)
        alive.append(hub.start_worker())
    ended = await hub.until(job, tasks)
    assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=tasks))
    await ended_once(hub, job, tasks)


async def test_workers_whose_images_lie_in_a_bucket_are_killed_and_lose_nothing(
    request: pytest.FixtureRequest, tmp_path: Path, pictures: list[bytes], moto_server: Moto
) -> None:
    bucket = s3_bucket(moto_server)
    hub = Hub(
        tmp_path / "data",
        database_url=request.getfixturevalue("postgres_url"),
        store=bucket.uri,
        store_options=dict(bucket.options),
    )
    await hub.service.start()
    try:
        job = await submit(hub, pictures, 120)
        victim = hub.start_worker()
        await hub.until(job, 30)
        victim.send_signal(signal.SIGKILL)
        hub.start_worker()
        ended = await hub.until(job, 120)
        assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=120))
        store = hub.service._parts.store
        stored = {found.key.rpartition("/")[2]: found.key async for found in store.list(f"results/ann/{job.id}/")}
        tasks = (await hub.service.tasks("ann", job.id, limit=200)).items
        assert sorted(stored) == sorted(name for task in tasks for name in (task.id, f"{task.id}.json"))
        for task in tasks:
            assert (await store.get(stored[task.id]))[:4] == b"\x89PNG"
            assert json.loads(await store.get(stored[f"{task.id}.json"]))["state"] == "succeeded"
        assert not (hub.data / "objects").exists(), "nothing fell back to the folder"
    finally:
        hub.end()
        await hub.service.stop()


async def test_a_worker_that_is_asked_to_end_gives_the_rest_back(hub: Hub, pictures: list[bytes]) -> None:
    job = await submit(hub, pictures, 120)
    first = hub.start_worker()
    await hub.until(job, 10)
    first.send_signal(signal.SIGTERM)
    assert await asyncio.to_thread(first.wait, 40) == 0
    hub.start_worker()
    ended = await hub.until(job, 120)
    assert ended.counts == Counts(succeeded=120)
    page = await hub.service.tasks("ann", job.id, limit=200)
    assert {task.attempts for task in page.items} == {1}


async def test_a_task_that_kills_its_worker_ends_in_the_dead_letters(hub: Hub, pictures: list[bytes]) -> None:
    """The worker is killed whenever it runs the task: here, by us, since no pipeline can."""
    parts = hub.service._parts
    if isinstance(parts.engine, CeleryEngine):
        pytest.skip("its leases last as long as connections; see tests/engines/test_celery_engine.py")
    job = await submit(hub, pictures, 1)
    async with asyncio.timeout(BOUND_S):
        for _ in range(6):  # as often as the task may be tried, somebody takes it and dies
            while not await parts.queue.receive(1, 1.0):  # noqa: ASYNC110 -- another process does it
                await asyncio.sleep(0.05)  # until the lease before has ended
    hub.start_worker()
    ended = await hub.until(job, 1)
    assert ended.counts == Counts(failed=1)
    (task,) = (await hub.service.tasks("ann", job.id)).items
    assert task.error is not None
    async with asyncio.timeout(BOUND_S):
        while not (letters := await parts.queue.dead(10)):  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.05)
    assert [letter.message.id for letter in letters] == [f"{task.id}/0"]
    assert letters[0].reason == task.error["detail"]
    assert "given out 6 times" in letters[0].reason


async def test_poisonous_tasks_end_as_dead_letters_and_run_again_when_the_cause_is_gone(
    hub: Hub, pictures: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their images crash the processes of the pools, each time; other tasks are not harmed."""
    cause = tmp_path / "cause"
    cause.touch()
    monkeypatch.setenv("PIXELMILL_TEST_POISON", str(cause))
    poison = [picture + b"poison" for picture in pictures[:2]]
    job = await submit(hub, [*poison, *pictures[2:]], 24)
    other = await submit(hub, pictures[2:], 10)
    for _ in range(2):
        hub.start_worker(str(SUPPORT / "poisoned.py"))
    ended = await hub.until(job, 24)
    assert (ended.state, ended.counts) == (State.FAILED, Counts(succeeded=18, failed=6))
    assert (await hub.until(other, 10)).counts == Counts(succeeded=10)

    letters = hub.service.dead_letters
    found = (await letters.list("ann")).items
    assert {task.name for task in found} == {f"{number}.jpg" for number in (0, 1, 8, 9, 16, 17)}
    for task in found:
        assert (task.state, task.attempts, task.job) == (State.FAILED, 6, job.id)
        assert task.error is not None
        assert (task.error["type"], task.error["context"]["signal"]) == ("worker-crashed", signal.SIGSEGV)
        assert len(await hub.service.attempts("ann", task.id)) == 5
    assert not (await letters.list("bob")).items

    async with asyncio.timeout(BOUND_S):
        while len(await hub.service._parts.queue.dead(50)) < 6:  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.05)  # the queue's copies come after the outcomes

    cause.unlink()
    first = found[0].id
    assert not (await letters.redrive("bob", [first])).tasks
    assert (await letters.redrive("ann", [first])).tasks == [first]
    assert not (await letters.redrive("ann", [first])).tasks
    assert len((await letters.redrive_job("ann", job.id)).tasks) == 5
    ended = await hub.until(job, 24)
    assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=24))
    runs = Counter(task.run for task in (await hub.service.tasks("ann", job.id)).items)
    assert runs == {0: 18, 1: 6}
    assert not (await letters.list(None)).items
    assert [letter.message.id for letter in await hub.service._parts.queue.dead(50)] == []


async def test_postgresql_restarted_in_the_middle_of_a_batch_loses_and_doubles_nothing(
    tmp_path: Path, pictures: list[bytes]
) -> None:
    missing = Postgres.missing()
    if missing is not None:
        pytest.skip(missing)
    server = Postgres(tmp_path / "postgres").start()
    hub = Hub(tmp_path / "data", database_url=server.url())
    try:
        await hub.service.start()
        job = await submit(hub, pictures, 200)
        for _ in range(2):
            hub.start_worker()
        await hub.until(job, 50)
        await asyncio.to_thread(server.restart)
        await hub.until(job, 120)
        server.kill()
        await asyncio.to_thread(server.start)
        ended = await hub.until(job, 200)
        assert (ended.state, ended.counts) == (State.SUCCEEDED, Counts(succeeded=200))
        await ended_once(hub, job, 200)
        assert all(worker.poll() is None for worker in hub.workers), "they live through it"
    finally:
        hub.end()
        await hub.service.stop()
        server.close()


async def waits_for_its_database(hub: Hub) -> None:
    log = hub.data.parent / "workers.log"
    async with asyncio.timeout(BOUND_S):
        while "the database is not there" not in log.read_text():  # noqa: ASYNC110 -- another process writes it
            await asyncio.sleep(0.02)


async def test_what_starts_before_its_database_waits_for_it(tmp_path: Path, pictures: list[bytes]) -> None:
    missing = Postgres.missing()
    if missing is not None:
        pytest.skip(missing)
    server = Postgres(tmp_path / "postgres").start()
    server.stop()
    hub = Hub(tmp_path / "data", database_url=server.url())
    try:
        starting = asyncio.create_task(hub.service.start())
        worker = hub.start_worker()
        await waits_for_its_database(hub)
        assert not starting.done()
        await asyncio.to_thread(server.start)
        await starting
        job = await submit(hub, pictures, 4)
        assert (await hub.until(job, 4)).counts == Counts(succeeded=4)
        assert worker.poll() is None
    finally:
        hub.end()
        await hub.service.stop()
        server.close()


async def test_a_worker_that_waits_for_its_database_can_be_asked_to_end(tmp_path: Path) -> None:
    hub = Hub(tmp_path / "data", database_url=f"postgresql://nobody@127.0.0.1:{free_port()}/nothing")
    worker = hub.start_worker()
    try:
        await waits_for_its_database(hub)
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 20) == 0
    finally:
        hub.end()


async def test_the_wait_has_an_end() -> None:
    asked = 0

    async def away() -> None:
        nonlocal asked
        asked += 1
        raise StorageUnavailable("It is away.")

    with pytest.raises(StorageUnavailable, match="It is away"):
        await when_there(away, "the queue", patience_s=0.9)
    assert asked == 2
