"""What every job store must do: subclass :class:`JobStoreConformance`, and give it a fixture ``store`` that enqueues.

Needs pytest and anyio. The store takes its time from the fixture ``clock``, and keeps jobs ``RETENTION_S``
after their end.
"""

# A test's name is its sentence:
# ruff: noqa: D102

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pixelmill.errors import IdempotencyConflict, IllegalTransition, NotFound, RequestError
from pixelmill.jobs.model import Counts, Job, NewTask, State, Task, TaskEvent
from pixelmill.jobs.store import JobStore
from pixelmill.testing.clock import Clock

RETENTION_S = 1000.0


def job_of(name: str = "job", owner: str = "ann", created: float = 1.0, **values: Any) -> Job:
    """A job as it is submitted."""
    return Job(name, owner, '{"steps":[]}', State.QUEUED, Counts(), created, **values)


def tasks_of(job: str, count: int, start: int = 0) -> list[NewTask]:
    """Its tasks."""
    return [
        NewTask(f"{job}-{i}", f"photo {i}.jpg", f"key:uploads/{job}/{i}", 100 + i) for i in range(start, start + count)
    ]


def event_of(kind: str, task: str, *, run: int = 0, attempt: int = 1, at: float = 5.0, owner: str = "ann") -> TaskEvent:
    """An event of a task of :func:`tasks_of`."""
    outcome = {"format": "jpeg", "bytes": 10} if kind == "succeeded" else None
    error = {"type": "corrupt-image", "detail": "no", "context": {}} if kind in {"failed", "requeued"} else None
    return TaskEvent(
        kind,
        task,
        task.rpartition("-")[0],
        owner,
        run,
        attempt,
        at,
        target="pool",
        worker="7",
        outcome=outcome,
        error=error,
    )


async def all_tasks(store: JobStore, job: str, owner: str = "ann", **filters: Any) -> list[Task]:
    """Every task of a job, page by page."""
    found: list[Task] = []
    cursor = None
    while True:
        page = await store.list_tasks(owner, job, cursor=cursor, limit=7, **filters)
        found += page.items
        cursor = page.next
        if cursor is None:
            return found


async def tally(store: JobStore, job: str, owner: str = "ann") -> Counts:
    """The counts by counting."""
    states = Counter(task.state.value for task in await all_tasks(store, job, owner))
    return Counts(**{state.value: states[state.value] for state in State})


@pytest.mark.anyio
class JobStoreConformance:
    """The contract of :class:`pixelmill.jobs.store.JobStore`, as tests."""

    async def make(self, store: JobStore, name: str = "job", count: int = 3, **values: Any) -> Job:
        job, created = await store.create_job(job_of(name, **values), tasks_of(name, count))
        assert created
        return job

    async def end(self, store: JobStore, kind: str, tasks: Sequence[str], **values: Any) -> None:
        await store.record([event_of(step, task, **values) for task in tasks for step in ("started", kind)])

    # -- making and looking ----------------------------------------------------------------------

    async def test_a_job_is_read_as_it_was_made(self, store: JobStore) -> None:
        made = await self.make(store, images={"sha256:ab": "blobs/ab"}, tags={"album": "höhle"})
        assert made == await store.job("ann", "job")
        assert made.counts == Counts(queued=3)
        assert (made.images, made.tags, made.state) == ({"sha256:ab": "blobs/ab"}, {"album": "höhle"}, State.QUEUED)
        first = (await store.list_tasks("ann", "job")).items[0]
        assert first == await store.task("ann", "job-0")
        assert (first.name, first.source, first.seq, first.state) == (
            "photo 0.jpg",
            "key:uploads/job/0",
            0,
            State.QUEUED,
        )

    @pytest.mark.parametrize("name", ["../../x", "a\0b", "x" * 300, "\udcff.jpg", "日本.png", "a\nb"])
    async def test_any_name_of_a_file_can_be_stored(self, store: JobStore, name: str) -> None:
        await store.create_job(job_of(), [NewTask("job-0", name, "key:k")])
        stored = (await store.task("ann", "job-0")).name
        assert stored == name.replace("\0", "\ufffd").replace("\udcff", "\ufffd")

    async def test_another_owner_sees_nothing(self, store: JobStore) -> None:
        await self.make(store)
        for look in (
            lambda: store.job("bob", "job"),
            lambda: store.list_tasks("bob", "job"),
            lambda: store.task("bob", "job-0"),
            lambda: store.attempts("bob", "job-0"),
            lambda: store.cancel("bob", "job"),
            lambda: store.retry("bob", "job"),
            lambda: store.delete("bob", "job"),
            lambda: store.add_tasks("bob", "job", []),
        ):
            with pytest.raises(NotFound):
                await look()
        assert (await store.list_jobs("bob")).items == []
        await store.record([event_of("succeeded", "job-0", owner="bob")])
        assert (await store.job("ann", "job")).counts == Counts(queued=3)

    async def test_the_same_request_twice_makes_one_job(self, store: JobStore) -> None:
        first, _ = await store.create_job(job_of("a"), tasks_of("a", 2), idempotency=("key", "print"))
        again, created = await store.create_job(job_of("b"), tasks_of("b", 2), idempotency=("key", "print"))
        assert (again, created) == (first, False)
        assert await store.replayed("ann", "key", "print") == first
        assert await store.replayed("bob", "key", "print") is None
        with pytest.raises(IdempotencyConflict):
            await store.create_job(job_of("c"), tasks_of("c", 2), idempotency=("key", "other"))
        assert [job.id for job in (await store.list_jobs("ann")).items] == ["a"]

    async def test_pages_of_jobs_are_stable_while_new_ones_arrive(self, store: JobStore) -> None:
        for i in range(9):
            await self.make(store, f"old{i}", 1, created=float(i // 2))  # some at the same moment
        seen: list[str] = []
        cursor = None
        while True:
            page = await store.list_jobs("ann", limit=2, cursor=cursor)
            seen += [job.id for job in page.items]
            await self.make(store, f"new{len(seen)}", 1, created=100.0 + len(seen))
            cursor = page.next
            if cursor is None:
                break
        assert seen == [f"old{i}" for i in reversed(range(9))]

    async def test_pages_of_tasks_are_stable_while_states_change(self, store: JobStore) -> None:
        await self.make(store, count=10)
        page = await store.list_tasks("ann", "job", limit=4, state=State.QUEUED)
        await self.end(store, "succeeded", ["job-0", "job-5"])
        rest = await store.list_tasks("ann", "job", limit=100, state=State.QUEUED, cursor=page.next)
        assert [task.seq for task in rest.items] == [4, 6, 7, 8, 9]
        assert [task.seq for task in await all_tasks(store, "job", state=State.SUCCEEDED)] == [0, 5]

    async def test_jobs_are_listed_by_state(self, store: JobStore) -> None:
        await self.make(store, "a", 1)
        await self.make(store, "b", 1)
        await self.end(store, "failed", ["b-0"])
        assert [job.id for job in (await store.list_jobs("ann", state=State.FAILED)).items] == ["b"]

    @pytest.mark.parametrize("cursor", ["", "x", "W10", "WyJhIiwgMV0", "é"])
    async def test_a_cursor_that_nobody_gave_is_refused(self, store: JobStore, cursor: str) -> None:
        with pytest.raises(RequestError):
            await store.list_jobs("ann", cursor=cursor)

    @pytest.mark.parametrize("limit", [0, -1, 1001])
    async def test_a_page_has_bounds(self, store: JobStore, limit: int) -> None:
        with pytest.raises(RequestError):
            await store.list_jobs("ann", limit=limit)

    # -- growing ---------------------------------------------------------------------------------

    async def test_a_job_grows_by_pages_until_it_is_sealed(self, store: JobStore) -> None:
        await self.make(store, count=2, sealed=False)
        await self.end(store, "succeeded", ["job-0", "job-1"])
        assert (await store.job("ann", "job")).state is State.RUNNING
        grown = await store.add_tasks("ann", "job", tasks_of("job", 2, start=2), seal=True)
        assert (grown.counts, grown.sealed) == (Counts(queued=2, succeeded=2), True)
        assert [task.seq for task in await all_tasks(store, "job")] == [0, 1, 2, 3]
        with pytest.raises(IllegalTransition):
            await store.add_tasks("ann", "job", tasks_of("job", 1, start=4))

    async def test_sealing_what_has_ended_ends_the_job(self, store: JobStore, clock: Clock) -> None:
        await self.make(store, count=1, sealed=False)
        await self.end(store, "succeeded", ["job-0"])
        job = await store.add_tasks("ann", "job", [], seal=True)
        assert (job.state, job.ended, job.expires) == (State.SUCCEEDED, clock(), clock() + RETENTION_S)

    # -- recording -------------------------------------------------------------------------------

    async def test_events_become_the_state_of_task_and_job(self, store: JobStore) -> None:
        await self.make(store, count=2)
        recorded = await store.record([event_of("started", "job-0", at=5.0)])
        assert [(change.before, change.after) for change in recorded.tasks] == [(State.QUEUED, State.RUNNING)]
        job = await store.job("ann", "job")
        assert (job.state, job.started, job.counts) == (State.RUNNING, 5.0, Counts(queued=1, running=1))
        await store.record([event_of("succeeded", "job-0", at=6.0)])
        recorded = await store.record([event_of("started", "job-1", at=7.0), event_of("failed", "job-1", at=8.0)])
        assert [change.ended for change in recorded.jobs] == [True]
        job = await store.job("ann", "job")
        assert (job.state, job.ended, job.expires) == (State.FAILED, 8.0, 8.0 + RETENTION_S)
        good, bad = await all_tasks(store, "job")
        assert (good.state, good.outcome, good.started, good.ended) == (
            State.SUCCEEDED,
            {"format": "jpeg", "bytes": 10},
            5.0,
            6.0,
        )
        assert bad.error is not None
        assert (bad.error["type"], bad.target, bad.worker, bad.attempts) == ("corrupt-image", "pool", "7", 1)

    async def test_a_batch_applied_twice_changes_nothing(self, store: JobStore) -> None:
        await self.make(store)
        batch = [event_of("started", "job-0"), event_of("requeued", "job-0"), event_of("started", "job-0", attempt=2)]
        await store.record(batch)
        before = await all_tasks(store, "job"), await store.job("ann", "job"), await store.attempts("ann", "job-0")
        recorded = await store.record(batch)
        assert not recorded.tasks
        assert not recorded.jobs
        after = await all_tasks(store, "job"), await store.job("ann", "job"), await store.attempts("ann", "job-0")
        assert before == after

    async def test_what_comes_after_the_end_changes_nothing(self, store: JobStore) -> None:
        await self.make(store, count=1)
        await self.end(store, "succeeded", ["job-0"])
        for kind in ("started", "requeued", "failed", "succeeded"):
            assert not (await store.record([event_of(kind, "job-0", attempt=2, at=99.0)])).tasks
        assert (await store.task("ann", "job-0")).ended == 5.0

    async def test_events_of_what_is_gone_change_nothing(self, store: JobStore) -> None:
        assert not (await store.record([event_of("succeeded", "nobody-0")])).tasks
        assert not (await store.record([])).tasks

    async def test_lost_attempts_are_kept_with_their_reason(self, store: JobStore) -> None:
        await self.make(store, count=1)
        await store.record([event_of("started", "job-0", at=1.0), event_of("requeued", "job-0", at=2.0)])
        task = await store.task("ann", "job-0")
        assert (task.state, task.attempts, task.started) == (State.QUEUED, 1, None)
        (lost,) = await store.attempts("ann", "job-0")
        assert (lost["attempt"], lost["started"], lost["ended"], lost["target"]) == (1, 1.0, 2.0, "pool")
        assert lost["error"]["type"] == "corrupt-image"

    async def test_whatever_a_machine_calls_itself_is_recorded_and_holds_up_nobody(self, store: JobStore) -> None:
        await self.make(store, count=3)
        odd: dict[str, Any] = {"target": "a\0b", "worker": "7\ud800", "why": "\ud800\0"}
        await store.record([replace(event_of("started", f"job-{i}"), **odd) for i in range(2)])
        await store.record(
            [
                replace(event_of("succeeded", "job-0"), **odd),
                replace(event_of("requeued", "job-1"), **odd),
                event_of("succeeded", "job-2"),
            ]
        )
        first, second, third = await all_tasks(store, "job")
        assert (first.state, second.state, third.state) == (State.SUCCEEDED, State.QUEUED, State.SUCCEEDED)
        assert (first.target, first.worker, first.why) == ("a\ufffdb", "7\ufffd", "\ufffd\ufffd")
        (lost,) = await store.attempts("ann", "job-1")
        assert (lost["target"], lost["worker"]) == ("a\ufffdb", "7\ufffd")

    # -- cancel, retry, delete -------------------------------------------------------------------

    async def test_cancel_ends_what_is_open_and_names_what_runs(self, store: JobStore) -> None:
        await self.make(store, count=4)
        await self.end(store, "succeeded", ["job-0"])
        await store.record([event_of("started", "job-1")])
        job, held = await store.cancel("ann", "job")
        assert held == ["job-1/0"]
        assert (job.state, job.counts) == (State.CANCELLED, Counts(succeeded=1, cancelled=3))
        assert await tally(store, "job") == job.counts
        assert not (await store.record([event_of("succeeded", "job-1")])).tasks
        again, held = await store.cancel("ann", "job")
        assert (again, held) == (job, [])

    async def test_a_job_that_grows_is_sealed_by_cancel(self, store: JobStore) -> None:
        await self.make(store, sealed=False)
        job, _ = await store.cancel("ann", "job")
        assert (job.state, job.sealed) == (State.CANCELLED, True)
        with pytest.raises(IllegalTransition):
            await store.add_tasks("ann", "job", tasks_of("job", 1, start=3))

    async def test_retry_puts_failed_and_cancelled_tasks_back_in_a_new_run(self, store: JobStore) -> None:
        await self.make(store, count=3)
        await self.end(store, "succeeded", ["job-0"])
        await self.end(store, "failed", ["job-1"], attempt=2)
        await store.cancel("ann", "job")
        job = await store.retry("ann", "job")
        assert (job.state, job.counts, job.ended) == (State.RUNNING, Counts(queued=2, succeeded=1), None)
        again = await store.task("ann", "job-1")
        assert (again.state, again.run, again.attempts, again.error, again.ended) == (State.QUEUED, 1, 0, None, None)
        assert not (await store.record([event_of("failed", "job-1", run=0)])).tasks
        await self.end(store, "succeeded", ["job-1", "job-2"], run=1)
        job = await store.job("ann", "job")
        assert (job.state, job.counts) == (State.SUCCEEDED, Counts(succeeded=3))

    async def test_there_must_be_something_to_retry(self, store: JobStore) -> None:
        await self.make(store, count=1)
        with pytest.raises(IllegalTransition):
            await store.retry("ann", "job")

    async def test_delete_leaves_nothing_of_the_job(self, store: JobStore) -> None:
        await self.make(store)
        await self.make(store, "other")
        await store.record([event_of("started", "job-1")])
        assert await store.delete("ann", "job") == ["job-1/0"]
        for look in (store.job, store.list_tasks, store.delete):
            with pytest.raises(NotFound):
                await look("ann", "job")
        with pytest.raises(NotFound):
            await store.task("ann", "job-0")
        assert (await store.job("ann", "other")).counts == Counts(queued=3)
