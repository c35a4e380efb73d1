"""How far a task is: told, logged for readers, and without any effect on state; and what a message says of tiles."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.messages import RunBounds, TaskMessage, bodies
from pixelmill.jobs.model import JobBounds, NewTask, State, TaskEvent
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.taskevents import event_from_json, event_to_json
from pixelmill.targets.target import Progress
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio
TILED = TiledLimits(10**9, 10**10, 10**6, 600.0)


def told(tiles: int, attempt: int = 1, run: int = 0) -> TaskEvent:
    event = event_of("progress", "job-0", run=run, attempt=attempt, at=10.0 + tiles)
    return replace(event, progress=Progress(tiles, 100, 5e6, 1_000, 12.34).to_dict())


async def test_progress_of_the_running_attempt_is_logged_and_changes_nothing(sql_url: str) -> None:
    async with Database(sql_url) as db:
        store, log = JobStore(db), EventLog(db)
        await store.create_job(job_of(), tasks_of("job", 1))
        assert not (await store.record([told(1)])).moving, "it does not run yet"
        await store.record([event_of("started", "job-0", attempt=1, at=5.0)])
        before = await store.task("ann", "job-0")
        last = await log.last_id()
        recorded = await store.record([told(2), told(3), told(4, attempt=2), told(3)])
        assert (recorded.tasks, recorded.jobs, list(recorded.moving)) == ((), (), [("ann", "job")])
        assert await store.task("ann", "job-0") == before
        (entry,) = await log.after("ann", last)
        assert entry.type == "progress"
        assert entry.data["progress"]["tiles"] == 3
        assert entry.data["attempt"] == 1
        await store.record([event_of("succeeded", "job-0", attempt=1, at=20.0), told(5)])
        assert not (await store.record([told(6)])).moving, "it has ended"
        assert (await store.task("ann", "job-0")).state is State.SUCCEEDED
        assert [one.type for one in await log.after("ann", entry.id)] == ["task", "job"]


def test_progress_travels_as_other_events_do() -> None:
    assert event_from_json(event_to_json(told(7))) == told(7)


def test_what_a_message_says_of_tiles_travels_and_is_left_out_where_it_says_nothing() -> None:
    plain = TaskMessage("t", 0, "j", "ann", "a.tif", "{}", "key:a")
    assert not {"tiled", "ranks"} & json.loads(plain.to_json()).keys()
    full = replace(plain, tiled=TILED, ranks=3)
    assert TaskMessage.from_json(full.to_json()) == full


def test_a_job_gets_the_ranks_that_it_asks_for_and_the_service_allows() -> None:
    own = RunBounds(Limits(), 60.0, 3, TILED, ranks=4)
    assert own.within(JobBounds()).ranks == 0
    assert own.within(JobBounds(ranks=2)).ranks == 2
    assert own.within(JobBounds(ranks=9)).ranks == 4
    narrow = own.within(JobBounds(max_bytes=500, timeout_s=10.0))
    assert narrow.tiled == TiledLimits(500, 10**10, 10**6, 10.0)
    job = replace(job_of(), bounds=JobBounds(ranks=2))
    (body,) = bodies(job, own, [(NewTask("t", "a", "key:a"), 0)])
    message = TaskMessage.from_json(body)
    assert (message.ranks, message.tiled) == (2, TILED)
