from __future__ import annotations

import asyncio
import tempfile
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, select

from pixelmill.errors import NotFound
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import Counts, NewTask, State, Upload, job_state
from pixelmill.jobs.schema import metadata, queue, tasks
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.jobs.uploads import Uploads
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import (
    RETENTION_S,
    JobStoreConformance,
    all_tasks,
    event_of,
    job_of,
    tally,
    tasks_of,
)


class TestJobStore(JobStoreConformance):
    pass


async def messages(db: Database) -> list[str]:
    """Ids in the order in which they would be received."""
    query = select(queue.c.id).order_by(queue.c.priority, queue.c.rank, queue.c.seq)
    return await db.read(lambda connection: list(connection.execute(query).scalars()))


def test_every_row_has_an_owner() -> None:
    assert all("owner" in table.c for table in metadata.tables.values())


EVENTS = st.builds(
    event_of,
    kind=st.sampled_from(["started", "requeued", "succeeded", "failed"]),
    task=st.sampled_from(["job-0", "job-1", "job-2", "job-3"]),
    run=st.integers(0, 1),
    attempt=st.integers(1, 4),
    at=st.floats(1.0, 100.0),
)
STEPS = st.lists(
    st.one_of(st.lists(EVENTS, max_size=8), st.sampled_from(["cancel", "retry", "grow"])), min_size=1, max_size=8
)


@given(steps=STEPS)
@settings(max_examples=40, deadline=None)
def test_counts_are_those_of_the_tasks_after_any_history(steps: list[Any]) -> None:
    async def run(folder: str) -> None:
        async with Database(f"sqlite:///{folder}/s.sqlite") as db:
            store = JobStore(db, retention_s=RETENTION_S)
            await store.create_job(job_of(sealed=False), tasks_of("job", 4))
            grown = 4
            for step in steps:
                before = {task.id: task for task in await all_tasks(store, "job")}
                job = await store.job("ann", "job")
                if isinstance(step, list):
                    recorded = await store.record(step)
                    after = {task.id: task for task in await all_tasks(store, "job")}
                    changed = {one for one in after if after[one] != before[one]}
                    # An event may change what a later one of the batch changes back.
                    assert changed <= {change.task for change in recorded.tasks}
                    assert all(before[one] == after[one] for one in before if before[one].state.is_final)
                    assert not (await store.record(step)).tasks
                elif step == "cancel":
                    await store.cancel("ann", "job")
                elif step == "retry" and job.counts.failed + job.counts.cancelled:
                    await store.retry("ann", "job")
                elif step == "grow" and not job.sealed:
                    grown += 1
                    await store.add_tasks("ann", "job", tasks_of("job", 1, start=grown))
                job = await store.job("ann", "job")
                assert job.counts == await tally(store, "job")
                assert job.state == job_state(job.counts, sealed=job.sealed, cancelled=job.cancelled)
                assert (job.ended is not None) == job.state.is_final
                # Exactly the open tasks have a message, in their run.
                open_tasks = {f"{t.id}/{t.run}" for t in await all_tasks(store, "job") if not t.state.is_final}
                assert open_tasks <= set(await messages(db))

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(folder))


@pytest.mark.anyio
async def test_a_message_holds_all_that_a_worker_needs(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(images={"sha256:ab": "blobs/ab"}), tasks_of("job", 2))
    bodies = await db.read(lambda c: list(c.execute(select(queue.c.body).order_by(queue.c.seq)).scalars()))
    message = TaskMessage.from_json(bodies[1])
    assert message == TaskMessage(
        task="job-1",
        run=0,
        job="job",
        owner="ann",
        name="photo 1.jpg",
        pipeline='{"steps":[]}',
        source="key:uploads/job/1",
        images={"sha256:ab": "blobs/ab"},
    )


@pytest.mark.anyio
async def test_a_small_job_is_not_starved_by_a_large_one(store: JobStore, db: Database) -> None:
    await store.create_job(job_of("large"), tasks_of("large", 50))
    await db.write(lambda connection: connection.execute(queue.delete().where(queue.c.rank < 20)).rowcount)
    await store.create_job(job_of("small"), tasks_of("small", 3))
    order = await messages(db)
    assert order[:6] == ["large-20/0", "small-0/0", "large-21/0", "small-1/0", "large-22/0", "small-2/0"]


@pytest.mark.anyio
async def test_growing_by_pages_gains_nothing(store: JobStore, db: Database) -> None:
    await store.create_job(job_of("steady"), tasks_of("steady", 10))
    await store.create_job(job_of("paged", sealed=False), tasks_of("paged", 2))
    for start in range(2, 10, 2):
        await store.add_tasks("ann", "paged", tasks_of("paged", 2, start=start))
    order = await messages(db)
    assert order == [f"{job}-{i}/0" for i in range(10) for job in ("steady", "paged")]


@pytest.mark.anyio
async def test_cancel_and_retry_keep_messages_and_tasks_together(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(), tasks_of("job", 3))
    await store.cancel("ann", "job")
    assert await messages(db) == []
    await store.retry("ann", "job")
    assert await messages(db) == ["job-0/1", "job-1/1", "job-2/1"]
    await store.delete("ann", "job")
    assert await messages(db) == []


@pytest.mark.anyio
async def test_cancel_names_what_was_received_but_has_not_begun(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(), tasks_of("job", 3))
    await db.write(
        lambda c: c.execute(queue.update().where(queue.c.id == "job-2/0").values(receipt="x", visible=9e9)).rowcount
    )
    _, held = await store.cancel("ann", "job")
    assert held == ["job-2/0"]


@pytest.mark.anyio
@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.slow)])
async def test_a_large_job_is_made_listed_and_cancelled(store: JobStore, count: int) -> None:
    await store.create_job(job_of(), tasks_of("job", count))
    page = await store.list_tasks("ann", "job", limit=2)
    assert [task.seq for task in page.items] == [0, 1]
    job, _ = await store.cancel("ann", "job")
    assert job.counts == Counts(cancelled=count)


@pytest.mark.anyio
@pytest.mark.parametrize("sql_url", ["sqlite"], indirect=True)  # PostgreSQL plans by what the tables hold
async def test_lists_never_walk_through_a_table(store: JobStore, db: Database) -> None:
    queries = [
        "SELECT * FROM tasks WHERE job = 'j' AND seq > 5 ORDER BY seq LIMIT 10",
        "SELECT * FROM tasks WHERE job = 'j' AND state = 'failed' AND seq > 5 ORDER BY seq LIMIT 10",
        "SELECT * FROM jobs WHERE owner = 'o' AND (created, id) < (5, 'x') ORDER BY created DESC, id DESC LIMIT 10",
        "SELECT * FROM jobs WHERE owner = 'o' AND state = 'failed' ORDER BY created DESC, id DESC LIMIT 10",
        "SELECT * FROM events WHERE owner = 'o' AND id > 5 ORDER BY id LIMIT 10",
        "SELECT * FROM events WHERE job = 'j' AND id > 5 AND owner = 'o' ORDER BY id LIMIT 10",
        "SELECT seq FROM queue WHERE priority = 1 AND owner = 'o' AND visible <= 5 ORDER BY rank, seq LIMIT 10",
        "SELECT owner FROM queue WHERE priority = 1 AND owner > 'o' AND visible <= 5 ORDER BY owner LIMIT 1",
    ]

    def explain(connection: Connection) -> list[tuple[str, str]]:
        plans = ((sql, connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {sql}").all()) for sql in queries)
        return [(sql, " ".join(str(row[3]) for row in rows)) for sql, rows in plans]

    for sql, plan in await db.read(explain):
        assert "INDEX" in plan, (sql, plan)
        assert "TEMP B-TREE" not in plan, (sql, plan)


@pytest.mark.anyio
async def test_inputs_go_with_the_last_job_that_uses_them(store: JobStore, clock: Clock) -> None:
    upkeep = Upkeep(store, now=clock)
    shared = [NewTask("a-0", "s.jpg", "key:shared"), NewTask("a-1", "own.jpg", "key:own")]
    await store.create_job(job_of("a", images={"sha256:1": "blobs/1", "sha256:2": "blobs/2"}), shared)
    await store.create_job(job_of("b", images={"sha256:1": "blobs/1"}), [NewTask("b-0", "s.jpg", "key:shared")])
    await store.delete("ann", "a")
    results = {f"results/ann/a/a-{i}{ending}" for i in (0, 1) for ending in ("", ".json")}
    gone = await upkeep.garbage()
    assert set(gone) == results | {"own", "blobs/2"}
    await upkeep.forget_garbage(gone)
    await store.delete("ann", "b")
    assert set(await upkeep.garbage()) >= {"shared", "blobs/1"}


@pytest.mark.anyio
async def test_results_of_every_run_are_garbage_after_delete(store: JobStore, clock: Clock) -> None:
    await store.create_job(job_of(), tasks_of("job", 2))
    await store.record([event_of("succeeded", "job-0"), event_of("failed", "job-1")])
    await store.retry("ann", "job")
    await store.delete("ann", "job")
    gone = set(await Upkeep(store, now=clock).garbage())
    assert {"results/ann/job/job-1", "results/ann/job/job-1-r1.json"} <= gone
    assert "results/ann/job/job-0-r1" not in gone


@pytest.mark.anyio
async def test_what_is_used_again_is_no_garbage_any_more(store: JobStore, clock: Clock) -> None:
    await store.create_job(job_of("a"), [NewTask("a-0", "x", "key:blob")])
    await store.delete("ann", "a")
    await store.create_job(job_of("b"), [NewTask("b-0", "x", "key:blob")])
    assert "blob" not in await Upkeep(store, now=clock).garbage()


@pytest.mark.anyio
async def test_uploads_are_used_in_the_transaction_of_the_job(store: JobStore, db: Database, clock: Clock) -> None:
    uploads = Uploads(db, now=clock)
    for name in ("u1", "u2"):
        await uploads.add(Upload(name, "ann", "a.jpg", f"uploads/{name}", 5, clock(), clock() + 10))
    with pytest.raises(NotFound):
        await store.create_job(job_of(), tasks_of("job", 1), uploads=["u1", "nobody"])
    with pytest.raises(NotFound):  # nothing of the refused one is left
        await store.job("ann", "job")
    await store.create_job(job_of(), tasks_of("job", 1), uploads=["u1"])
    clock.advance(10)
    assert await uploads.expire() == 2
    assert await Upkeep(store, now=clock).garbage() == ["uploads/u2"]
    with pytest.raises(NotFound):
        await uploads.get("ann", ["u1"])


@pytest.mark.anyio
async def test_uploads_are_found_by_their_owner_only_in_the_order_asked_for(db: Database, clock: Clock) -> None:
    uploads = Uploads(db, now=clock)
    for name, owner in (("u1", "ann"), ("u2", "ann"), ("u3", "bob")):
        await uploads.add(Upload(name, owner, "a\0.jpg", f"uploads/{name}", 5, 1.0, 2.0))
    assert [one.id for one in await uploads.get("ann", ["u2", "u1", "u2"])] == ["u2", "u1", "u2"]
    with pytest.raises(NotFound) as caught:
        await uploads.get("ann", ["u1", "u3"])
    assert caught.value.context["upload"] == "u3"


@pytest.mark.anyio
async def test_a_task_is_never_lost_by_the_states_of_its_neighbours(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(), tasks_of("job", 30))
    await asyncio.gather(
        *(
            store.record([event_of(kind, f"job-{i}") for kind in ("started", "succeeded" if i % 3 else "failed")])
            for i in range(30)
        )
    )
    job = await store.job("ann", "job")
    assert job.counts == Counts(succeeded=20, failed=10) == await tally(store, "job")
    assert job.state is State.FAILED
    states = await db.read(lambda c: set(c.execute(select(tasks.c.state)).scalars()))
    assert states == {"succeeded", "failed"}
