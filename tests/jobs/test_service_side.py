"""Tokens, the event log, upkeep, the tables' side of the outbox."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from sqlalchemy import Connection, select

from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import ConfigError, NotFound, StorageFull, Unauthenticated
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.model import Counts, State
from pixelmill.jobs.schema import queue, tokens
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.tokens import USED_EVERY_S, Tokens
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import RETENTION_S, event_of, job_of, tasks_of

T = TypeVar("T")

pytestmark = pytest.mark.anyio

# -- tokens -----------------------------------------------------------------------------------------


async def test_a_token_opens_what_it_was_made_for(db: Database, clock: Clock) -> None:
    store = Tokens(db, now=clock)
    token, secret = await store.create("ann", "laptop", ["jobs:write", "jobs:read"])
    assert secret.startswith("pm_")
    assert len(secret) == 3 + 43
    found = await store.authenticate(secret)
    assert (found.id, found.owner, found.scopes) == (token.id, "ann", frozenset({"jobs:write", "jobs:read"}))


@pytest.mark.parametrize("owner", ["", ".", "..", "a/b", "/a", "a\\b", "a\0", "a\n", "é" * 101, ".pixelmill"])
async def test_an_owner_whose_name_can_not_be_part_of_a_key_is_refused(db: Database, clock: Clock, owner: str) -> None:
    with pytest.raises(ConfigError):
        await Tokens(db, clock).create(owner, "laptop", ["admin"])


async def test_no_secret_is_stored(db: Database, clock: Clock) -> None:
    _, secret = await Tokens(db, now=clock).create("ann", "laptop", [])
    rows = await db.read(lambda c: c.execute(select(tokens)).all())
    assert secret not in str(rows)
    assert secret.removeprefix("pm_") not in str(rows)


@pytest.mark.parametrize("secret", ["", "pm_", "pm_" + "a" * 43, "é\udcff"])
async def test_an_unknown_token_opens_nothing(db: Database, secret: str) -> None:
    with pytest.raises(Unauthenticated):
        await Tokens(db).authenticate(secret)


async def test_a_token_ends_when_it_expires_or_is_revoked(db: Database, clock: Clock) -> None:
    store = Tokens(db, now=clock)
    _, short = await store.create("ann", "short", [], expires=clock() + 5)
    clock.advance(1)
    token, secret = await store.create("ann", "long", [])
    await store.authenticate(short)
    clock.advance(4)
    with pytest.raises(Unauthenticated):
        await store.authenticate(short)
    with pytest.raises(NotFound):
        await store.revoke(token.id, owner="bob")
    await store.revoke(token.id, owner="ann")
    await store.revoke(token.id)
    with pytest.raises(Unauthenticated):
        await store.authenticate(secret)
    assert [one.revoked for one in await store.list("ann")] == [None, clock()]
    assert await store.list("bob") == []


async def test_use_is_noted_once_a_minute(db: Database, clock: Clock) -> None:
    store = Tokens(db, now=clock)
    _, secret = await store.create("ann", "laptop", [])
    first = clock()
    await store.authenticate(secret)
    clock.advance(USED_EVERY_S - 1)
    await store.authenticate(secret)
    assert (await store.list())[0].last_used == first
    clock.advance(1)
    await store.authenticate(secret)
    assert (await store.list())[0].last_used == clock()


async def test_a_full_disk_locks_nobody_out(tmp_path: Path, clock: Clock) -> None:
    class Full(Database):
        full = False

        async def write(self, function: Callable[[Connection], T], *, alone: bool = True) -> T:
            if self.full:
                raise StorageFull("No space is left.")
            return await super().write(function, alone=alone)

    async with Full(f"sqlite:///{tmp_path}/full.sqlite") as db:
        _, secret = await Tokens(db, now=clock).create("ann", "laptop", [])
        db.full = True
        assert (await Tokens(db, now=clock).authenticate(secret)).owner == "ann"


# -- the event log ----------------------------------------------------------------------------------


async def test_the_log_tells_each_owner_what_changed_in_order(store: JobStore, db: Database) -> None:
    log = EventLog(db)
    await store.create_job(job_of("a"), tasks_of("a", 2))
    await store.create_job(job_of("b", owner="bob"), tasks_of("b", 1))
    await store.record([event_of("started", "a-0"), event_of("failed", "a-0"), event_of("started", "b-0", owner="bob")])
    events = await log.after("ann", 0)
    assert [event.type for event in events] == ["job", "task", "job"]
    assert events[1].data == {"id": "a-0", "state": "failed", "name": "photo 0.jpg", "seq": 0, "error": "corrupt-image"}
    assert events[2].data["counts"]["failed"] == 1
    assert [event.id for event in events] == sorted(event.id for event in events)
    assert await log.after("ann", events[-1].id) == []
    assert {event.job for event in await log.after("bob", 0)} == {"b"}
    assert await log.after("bob", 0, job="a") == []


async def test_one_job_event_a_batch(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(), tasks_of("job", 50))
    last = await EventLog(db).last_id()
    await store.record([event_of("succeeded", f"job-{i}") for i in range(50)])
    kinds = [event.type for event in await EventLog(db).after("ann", last)]
    assert (kinds.count("task"), kinds.count("job")) == (50, 1)


async def test_ids_are_never_reused_even_after_pruning(store: JobStore, db: Database) -> None:
    log = EventLog(db)
    await store.create_job(job_of("a"), tasks_of("a", 1))
    last = await log.last_id()
    assert await log.prune(keep=0) == 1
    assert (await log.last_id("ann"), await log.first_id()) == (0, 0)
    await store.create_job(job_of("b"), tasks_of("b", 1))
    assert await log.last_id() > last


async def test_a_deleted_job_leaves_one_word(store: JobStore, db: Database) -> None:
    await store.create_job(job_of(), tasks_of("job", 2))
    await store.delete("ann", "job")
    assert [event.type for event in await EventLog(db).after("ann", 0, job="job")] == ["deleted"]


# -- upkeep -----------------------------------------------------------------------------------------


async def test_reconcile_tells_begun_from_fetched_ahead_and_ended(store: JobStore, db: Database, clock: Clock) -> None:
    leases = SqlLeaseQueue(db, now=clock)
    await store.create_job(job_of(), tasks_of("job", 4))
    await leases.receive(3, 60.0)
    await store.record([event_of("started", "job-0"), event_of("started", "job-1"), event_of("succeeded", "job-1")])
    found = await Upkeep(store, now=clock).reconcile(await leases.recover())
    assert (found.interrupted, found.stale, found.requeued) == (1, 1, 0)
    begun, ahead, fresh = await leases.receive(9, 60.0)
    assert [one.message.id for one in (begun, ahead, fresh)] == ["job-0/0", "job-2/0", "job-3/0"]
    assert [one.deliveries for one in (begun, ahead, fresh)] == [2, 1, 1]
    assert (await store.job("ann", "job")).counts == Counts(queued=3, succeeded=1)
    (lost,) = await store.attempts("ann", "job-0")
    assert lost["error"]["type"] == "worker-crashed"


async def test_a_waiting_task_without_a_message_gets_one(store: JobStore, db: Database, clock: Clock) -> None:
    await store.create_job(job_of("a"), tasks_of("a", 3))
    await store.create_job(job_of("b"), tasks_of("b", 2))
    gone = queue.delete().where(queue.c.id.in_(["a-1/0", "b-0/0"]))
    await db.write(lambda c: c.execute(gone).rowcount)
    assert (await Upkeep(store, now=clock).reconcile()).requeued == 2
    assert (await Upkeep(store, now=clock).reconcile()).requeued == 0
    assert (await SqlLeaseQueue(db, now=clock).depth()).waiting == 5


async def test_a_job_expires_after_its_end(store: JobStore, clock: Clock) -> None:
    upkeep = Upkeep(store, now=clock)
    await store.create_job(job_of("done"), tasks_of("done", 1))
    await store.create_job(job_of("open"), tasks_of("open", 1))
    await store.create_job(job_of("abandoned", sealed=False), [])
    await store.record([event_of("succeeded", "done-0", at=clock())])
    assert await upkeep.expired_jobs() == []
    clock.advance(RETENTION_S)
    assert sorted(await upkeep.expired_jobs()) == [("ann", "abandoned"), ("ann", "done")]


async def test_a_worker_whose_clock_is_far_behind_does_not_make_a_job_expire_at_once(
    store: JobStore, clock: Clock
) -> None:
    await store.create_job(job_of("done", created=clock()), tasks_of("done", 1))
    await store.record([event_of("succeeded", "done-0", at=clock() - 10 * RETENTION_S)])
    assert await Upkeep(store, now=clock).expired_jobs() == []


async def test_an_open_job_that_was_retried_and_abandoned_expires_too(store: JobStore, clock: Clock) -> None:
    await store.create_job(job_of(sealed=False), tasks_of("job", 1))
    await store.record([event_of("failed", "job-0", at=clock())])
    await store.retry("ann", "job")
    await store.record([event_of("failed", "job-0", run=1, at=clock())])
    clock.advance(RETENTION_S)
    assert await Upkeep(store, now=clock).expired_jobs() == [("ann", "job")]


async def test_old_idempotency_keys_are_forgotten(store: JobStore, clock: Clock) -> None:
    await store.create_job(job_of(created=clock()), tasks_of("job", 1), idempotency=("k", "f"))
    upkeep = Upkeep(store, now=clock)
    assert await upkeep.prune() == 0
    clock.advance(24 * 3600)
    assert await upkeep.prune() == 1
    _, created = await store.create_job(job_of("again"), tasks_of("again", 1), idempotency=("k", "other"))
    assert created


async def test_statistics_add_up(store: JobStore, clock: Clock) -> None:
    await store.create_job(job_of("a"), tasks_of("a", 3))
    await store.create_job(job_of("b"), tasks_of("b", 2))
    await store.record([event_of("succeeded", "a-0"), event_of("failed", "b-0"), event_of("started", "b-1")])
    found = await Upkeep(store, now=clock).statistics()
    assert found.tasks == {"queued": 2, "running": 1, "succeeded": 1, "failed": 1, "cancelled": 0}
    assert found.jobs == {state.value: 2 if state is State.RUNNING else 0 for state in State}
    assert found.oldest_queued == clock()
