from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.outbox import CheckedQueue, Outbox
from pixelmill.errors import StorageUnavailable
from pixelmill.jobs import release
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import Counts, JobBounds, Priority
from pixelmill.jobs.release import Releases
from pixelmill.jobs.store import JobStore
from pixelmill.testing.engine import Ledger, Script
from pixelmill.testing.job_store import event_of, job_of, tasks_of
from pixelmill.testing.slots import Slots

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[JobStore]:
    async with Database(f"sqlite:///{tmp_path}/s.sqlite") as db:
        yield JobStore(db, enqueue=False)


async def in_queue(queue: MemoryLeaseQueue) -> list[str]:
    leases = await queue.receive(1000, 0.0)
    return [lease.message.id for lease in leases]


async def test_a_window_is_released_in_fair_shares(store: JobStore) -> None:
    queue = MemoryLeaseQueue()
    await store.create_job(job_of("large", created=1.0), tasks_of("large", 100))
    await store.create_job(job_of("small", created=2.0), tasks_of("small", 3))
    outbox = Outbox(Releases(store), queue, window=10)
    assert await outbox.release() == 10
    assert sorted(await in_queue(queue)) == [f"large-{i}/0" for i in range(7)] + [f"small-{i}/0" for i in range(3)]
    assert await outbox.release() == 0
    await store.record([event_of("succeeded", "large-0"), event_of("failed", "small-0")])
    assert await outbox.release() == 2
    assert {"large-7/0", "large-8/0"} <= set(await in_queue(queue))


async def test_an_owner_with_more_jobs_than_share_a_window_holds_up_no_other(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "MAX_JOBS", 5)
    queue = MemoryLeaseQueue()
    for number in range(8):
        await store.create_job(job_of(f"many{number}", created=number), tasks_of(f"many{number}", 10))
    await store.create_job(job_of("one", owner="bob", created=9.0), tasks_of("one", 10))
    await Outbox(Releases(store), queue, window=10).release()
    sent = Counter(one.partition("-")[0] for one in await in_queue(queue))
    assert sent.pop("one") == 5
    assert sent.total() == 5


async def test_urgent_jobs_go_first(store: JobStore) -> None:
    queue = MemoryLeaseQueue()
    await store.create_job(job_of("slow", priority=Priority.BATCH), tasks_of("slow", 5))
    await store.create_job(job_of("fast", created=2.0, priority=Priority.INTERACTIVE), tasks_of("fast", 2))
    await Outbox(Releases(store), queue, window=3).release()
    assert await in_queue(queue) == ["fast-0/0", "fast-1/0", "slow-0/0"]


async def test_a_crash_between_sending_and_marking_sends_again_and_loses_nothing(store: JobStore) -> None:
    class Dying(Releases):
        async def mark(self, task_ids: object) -> None:
            raise RuntimeError("killed")

    queue = MemoryLeaseQueue()
    await store.create_job(job_of(), tasks_of("job", 3))
    with pytest.raises(RuntimeError):
        await Outbox(Dying(store), queue).release()
    assert await Outbox(Releases(store), queue).release() == 3
    assert len(await in_queue(queue)) == 3


async def test_what_was_cancelled_after_its_release_is_discarded_on_receipt(store: JobStore) -> None:
    queue, releases = MemoryLeaseQueue(), Releases(store)
    checked = CheckedQueue(queue, releases)
    await store.create_job(job_of("a"), tasks_of("a", 2))
    await store.create_job(job_of("b"), tasks_of("b", 1))
    outbox = Outbox(releases, checked)
    await outbox.release()
    _, held = await store.cancel("ann", "a")
    assert sorted(held) == ["a-0/0", "a-1/0"]
    await store.retry("ann", "a")  # in a new run, with messages of its own
    assert [lease.message.id for lease in await checked.receive(10, 60.0)] == ["b-0/0"]
    assert (await queue.depth()).waiting == 0
    await outbox.release()
    assert sorted(lease.message.id for lease in await checked.receive(10, 60.0)) == ["a-0/1", "a-1/1"]


async def test_a_job_runs_to_its_end_through_the_outbox(store: JobStore) -> None:
    releases, ledger = Releases(store), Ledger()
    queue = CheckedQueue(MemoryLeaseQueue(), releases)
    outbox = Outbox(releases, queue, window=4)

    class Recorder:
        engine: LeasedEngine

        async def emit(self, events: object) -> None:
            await store.record(events)  # type: ignore[arg-type] # the engine's events
            if await outbox.release():
                self.engine.wake()
            await ledger.emit(events)  # type: ignore[arg-type] # the engine's events

    recorder = Recorder()
    engine = recorder.engine = LeasedEngine(queue, Slots(2), Script(), recorder.emit, poll_s=1000.0)
    await store.create_job(job_of(), tasks_of("job", 30))
    await engine.start()
    assert await outbox.release() == 4
    engine.wake()
    await ledger.until(lambda: len(ledger.ended()) == 30)
    await engine.stop(5.0)
    assert (await store.job("ann", "job")).counts == Counts(succeeded=30)
    assert (await queue.depth()).waiting == 0


async def test_a_released_message_holds_what_the_one_in_the_table_would(store: JobStore) -> None:
    await store.create_job(job_of(images={"sha256:1": "blobs/1"}), tasks_of("job", 1))
    (one,) = await Releases(store).next("job", 5)
    assert one.message == TaskMessage(
        "job-0", 0, "job", "ann", "photo 0.jpg", '{"steps":[]}', "key:uploads/job/0", {"sha256:1": "blobs/1"}
    )


async def test_an_outage_of_the_job_store_costs_no_attempt(store: JobStore) -> None:
    """A task that was received, and of which nobody can say whether it is wanted, was not given out."""

    class Away(Releases):
        away = True

        async def wanted(self, message_ids: Sequence[str]) -> frozenset[str]:
            if self.away:
                raise StorageUnavailable("away")
            return await super().wanted(message_ids)

    queue, releases = MemoryLeaseQueue(), Away(store)
    await store.create_job(job_of(), tasks_of("job", 2))
    checked = CheckedQueue(queue, releases)
    await Outbox(releases, checked).release()
    for _ in range(5):
        with pytest.raises(StorageUnavailable):
            await checked.receive(10, 60.0)
    releases.away = False
    assert [lease.deliveries for lease in await checked.receive(10, 60.0)] == [1, 1]


async def test_an_urgent_job_does_not_wait_for_the_oldest_ones_to_end(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(release, "MAX_JOBS", 2)
    for i in range(3):
        await store.create_job(job_of(f"old{i}", created=float(i), priority=Priority.BATCH), tasks_of(f"old{i}", 5))
    await store.create_job(job_of("fast", created=9.0, priority=Priority.INTERACTIVE), tasks_of("fast", 1))
    waiting, _ = await Releases(store).waiting()
    assert list(waiting) == ["fast", "old0"]


async def test_bounds_of_a_job_hold_in_every_run(store: JobStore) -> None:
    bounds = JobBounds(max_side=9, timeout_s=0.5, max_attempts=1)
    await store.create_job(job_of("job", bounds=bounds), tasks_of("job", 1))
    assert (await store.job("ann", "job")).bounds == bounds
    for _ in range(2):
        [released] = await Releases(store).next("job", 10)
        found = released.message
        assert (found.limits.max_side, found.timeout_s, found.max_attempts) == (9, 0.5, 1)
        assert found.limits.max_bytes == store.bounds.limits.max_bytes
        await store.record([event_of("failed", "job-0", run=found.run)])
        await store.retry("ann", "job")
