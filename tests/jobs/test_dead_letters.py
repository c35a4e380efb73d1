"""Which tasks are dead letters, and that a redrive takes exactly these."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from older_state import back_to

from pixelmill.errors import ERROR_TYPES, LimitExceeded
from pixelmill.jobs.database import Database
from pixelmill.jobs.dead_letters import MAX_REDRIVEN, DeadLetters
from pixelmill.jobs.model import Counts, State, TaskEvent
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.transitions import TaskFacts, is_dead
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(sql_url: str) -> AsyncIterator[JobStore]:
    async with Database(sql_url) as database:
        yield JobStore(database, now=Clock())


def failed(task: str, slug: str, at: float, *, owner: str = "ann", run: int = 0) -> TaskEvent:
    event = event_of("failed", task, at=at, owner=owner, run=run, attempt=3)
    return replace(event, error={"type": slug, "detail": "why", "context": {}})


@pytest.mark.parametrize("slug", sorted(ERROR_TYPES))
def test_what_is_tried_again_is_dead_when_it_fails_and_nothing_else_is(slug: str) -> None:
    facts = TaskFacts(State.FAILED, 0, 3, error={"type": slug})
    spent = ERROR_TYPES[slug].retryable or slug in {"cancelled", "internal"}
    assert is_dead(facts) == spent
    assert not is_dead(replace(facts, state=State.QUEUED))


async def test_a_redrive_takes_exactly_the_dead_tasks_that_are_named(store: JobStore) -> None:
    letters = DeadLetters(store, Clock())
    for name, owner in (("job", "ann"), ("more", "ann"), ("other", "bob")):
        await store.create_job(job_of(name, owner=owner), tasks_of(name, 4))
    await store.record(
        [
            failed("job-0", "worker-crashed", 5.0),
            failed("job-1", "corrupt-image", 6.0),
            failed("job-2", "node-lost", 7.0),
            event_of("succeeded", "job-3"),
            failed("more-0", "worker-crashed", 8.0),
            failed("other-0", "worker-crashed", 9.0, owner="bob"),
        ]
    )
    assert [task.id for task in (await letters.list("ann")).items] == ["more-0", "job-2", "job-0"]
    page = await letters.list("ann", limit=2)
    assert [task.id for task in (await letters.list("ann", limit=2, cursor=page.next)).items] == ["job-0"]
    assert [task.id for task in (await letters.list(None)).items] == ["other-0", "more-0", "job-2", "job-0"]

    done = await letters.redrive("ann", ids=["job-0", "job-1", "job-3", "more-1", "more-0", "other-0", "none"])
    assert (set(done.tasks), set(done.messages)) == ({"job-0", "more-0"}, {"job-0/0", "more-0/0"})
    job = await store.job("ann", "job")
    assert (job.state, job.counts, job.ended) == (State.RUNNING, Counts(queued=1, succeeded=1, failed=2), None)
    assert (await store.job("ann", "more")).counts == Counts(queued=4)
    assert not (await letters.redrive("ann", ids=["job-0"])).tasks
    assert not (await store.record([failed("job-0", "worker-crashed", 10.0)])).tasks, "of the run before"

    await store.record([failed("job-0", "worker-crashed", 11.0, run=1)])
    assert (await letters.redrive("ann", job="job")).tasks == ["job-0", "job-2"]
    assert not (await letters.redrive("ann", job="other")).tasks
    with pytest.raises(LimitExceeded):
        await letters.redrive("ann", ids=["task"] * (MAX_REDRIVEN + 1))


async def test_a_retry_of_the_job_and_its_end_take_them_from_the_list(store: JobStore) -> None:
    letters = DeadLetters(store, Clock())
    for name in ("job", "more"):
        await store.create_job(job_of(name), tasks_of(name, 1))
        await store.record([failed(f"{name}-0", "worker-crashed", 5.0)])
    await store.retry("ann", "job")
    assert [task.id for task in (await letters.list("ann")).items] == ["more-0"]
    await store.delete("ann", "more")
    assert not (await letters.list("ann")).items


async def test_tasks_that_failed_before_the_upgrade_are_marked(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with Database(f"sqlite:///{path}") as database:
        store = JobStore(database, now=Clock())
        await store.create_job(job_of(), tasks_of("job", 2))
        await store.record([failed("job-0", "worker-crashed", 5.0), failed("job-1", "corrupt-image", 5.0)])
    with sqlite3.connect(path) as raw:
        back_to("0004", raw)
    raw.close()
    async with Database(f"sqlite:///{path}") as database:
        found = await DeadLetters(JobStore(database, now=Clock()), Clock()).list("ann")
    assert [task.id for task in found.items] == ["job-0"]
