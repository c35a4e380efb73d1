"""Rows of events: recorded once, batched, claimed, closed, redriven and swept, on both databases."""

from __future__ import annotations

import pytest

from pixelmill.jobs.database import Database
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.trigger_counters import TriggerCounters
from pixelmill.jobs.trigger_events import KEPT_S, TriggerEvents
from pixelmill.jobs.trigger_identity import NewTriggerEvent, name_key
from pixelmill.jobs.trigger_names import Claim
from pixelmill.jobs.trigger_work import Batch, Ended, Ending, TriggerWork
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio


def event(uri: str, version: str = "1", ordinal: str = "1", rule: str = "r") -> NewTriggerEvent:
    return NewTriggerEvent("ann", rule, uri, version, ordinal, at=1.0, size=7)


@pytest.fixture
def events(db: Database, clock: Clock) -> TriggerEvents:
    return TriggerEvents(db, clock)


@pytest.fixture
def work(db: Database, clock: Clock) -> TriggerWork:
    numbers = iter(range(1_000))
    return TriggerWork(db, lambda: f"batch{next(numbers)}", clock)


async def submitted(work: TriggerWork, store: JobStore, rule: str = "r", *, succeed: bool = True) -> Batch:
    """The next batch as a job whose tasks have ended."""
    batch, _ = await work.batch(rule, "ann", 500)
    assert batch is not None
    job = f"job-of-{batch.id}"
    await store.create_job(job_of(job), tasks_of(job, len(batch.rows)))
    await work.submitted(batch.id, job, {row.place: f"{job}-{row.place}" for row in batch.rows})
    kind = "succeeded" if succeed else "failed"
    await store.record([event_of(kind, f"{job}-{row.place}") for row in batch.rows])
    return batch


def named(row: Ended, name: str, beside: str | None = None) -> Claim:
    return Claim(
        row.seq, row.rule, row.object, name, name_key(name), None if beside is None else name_key(beside), row.uri
    )


def closing(row: Ended, state: str, **values: object) -> Ending:
    return Ending(row.seq, row.rule, row.object, state, **values)  # type: ignore[arg-type] # as the test says


async def test_an_event_is_recorded_once_for_each_rule(db: Database, events: TriggerEvents) -> None:
    batch = [event("s3://b/one"), event("s3://b/one"), event("s3://b/one", "2"), event("s3://b/one", rule="other")]
    noted = await events.record("queue", batch, {"unmatched": 3, "ignored": 0})
    assert (len(noted.new), noted.duplicates) == (3, 1)
    noted = await events.record("queue", batch)
    assert (len(noted.new), noted.duplicates) == (0, 4)
    assert await TriggerCounters(db).all() == {
        ("source", "queue"): {"accepted": 3, "duplicate": 5, "unmatched": 3},
        ("rule", "r"): {"accepted": 2},
        ("rule", "other"): {"accepted": 1},
    }


async def test_addresses_and_versions_may_be_as_long_as_stores_make_them(
    events: TriggerEvents, work: TriggerWork, store: JobStore
) -> None:
    long = "s3://b/" + "%E6%97%A5" * 341
    await events.record("queue", [event(long, "v" * 1024), event(long[:-1], "\0\ud800")])
    assert (await events.record("queue", [event(long, "v" * 1024), event(long[:-1], "\0\ud800")])).duplicates == 2
    await submitted(work, store)
    rows = await work.ended(10)
    await work.claim([named(row, f"{row.uri}.png", f"{row.uri}.json") for row in rows])
    assert len(await events.producers(map(name_key, [f"{long}.png", f"{long[:-1]}.json", "s3://b/else"]))) == 2


async def test_pages_are_newest_first_and_stable(events: TriggerEvents) -> None:
    await events.record("queue", [event(f"s3://b/{number}") for number in range(5)])
    page = await events.list(limit=2)
    await events.record("queue", [event("s3://b/new")])
    found = [row.uri[-1] for row in page.items]
    while page.next is not None:
        page = await events.list(limit=2, cursor=page.next)
        found += [row.uri[-1] for row in page.items]
    assert found == ["4", "3", "2", "1", "0"]
    assert (await events.list("other")).items == []
    assert len((await events.list("r", state="waiting")).items) == 6


async def test_a_batch_leaves_out_what_a_later_event_has_superseded(
    db: Database, events: TriggerEvents, work: TriggerWork
) -> None:
    await events.record("queue", [event("s3://b/a", "2", "2"), event("s3://b/a", "1", "1"), event("s3://b/b")])
    batch, superseded = await work.batch("r", "ann", 500)
    assert batch is not None
    assert superseded == 1
    assert [(row.uri, row.place, row.size) for row in batch.rows] == [("s3://b/a", 0, 7), ("s3://b/b", 1, 7)]
    assert await work.batch("r", "ann", 500) == (None, 0)
    assert await work.unfinished() == [batch], "a batch whose job is not known stands until it is"
    await work.submitted(batch.id, "job", {0: "t0", 1: "t1"})
    assert await work.unfinished() == []
    assert (await TriggerCounters(db).all())["rule", "r"] == {"accepted": 3, "superseded": 1}


async def test_only_so_many_events_of_a_rule_are_open(
    events: TriggerEvents, work: TriggerWork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pixelmill.jobs.trigger_work.MAX_OPEN", 3)
    await events.record("queue", [event(f"s3://b/{number}") for number in range(5)])
    assert await work.waiting(["r", "other"]) == ["r"]
    batch, _ = await work.batch("r", "ann", 2)
    assert batch is not None
    await work.submitted(batch.id, "job", {0: "t0", 1: "t1"})
    batch, _ = await work.batch("r", "ann", 2)
    assert batch is not None
    assert len(batch.rows) == 1
    await work.submitted(batch.id, "job", {0: "t2"})
    assert await work.batch("r", "ann", 2) == (None, 0)


async def test_names_belong_to_an_object_and_its_later_versions(
    events: TriggerEvents, work: TriggerWork, store: JobStore
) -> None:
    await events.record("queue", [event("s3://b/a"), event("s3://b/b"), event("s3://b/c")])
    await submitted(work, store)
    a, b, c = await work.ended(10)
    claimed = await work.claim([named(a, "o/x.png", "o/x.json"), named(b, "o/x.png"), named(c, "o/x.gif", "o/x.json")])
    assert claimed.superseded == frozenset()
    assert claimed.taken == {b.seq: "s3://b/a", c.seq: "s3://b/a"}
    await work.close([closing(a, "delivered")])
    assert (await work.claim([named(b, "o/x.json")])).taken == {b.seq: "s3://b/a"}
    await events.record("queue", [event("s3://b/a", "2", "2")])
    await submitted(work, store)
    [later] = await work.ended(10, [b.uri, c.uri])
    assert (await work.claim([named(later, "o/x.png")])).taken == {}


async def test_a_later_event_supersedes_one_that_is_about_to_be_delivered(
    events: TriggerEvents, work: TriggerWork, store: JobStore
) -> None:
    await events.record("queue", [event("s3://b/a")])
    await submitted(work, store)
    [row] = await work.ended(10)
    await events.record("queue", [event("s3://b/a", "2", "2")])
    assert (await work.claim([named(row, "o/a.png")])).superseded == {row.seq}


async def test_what_was_put_over_a_later_result_is_put_right(
    events: TriggerEvents, work: TriggerWork, store: JobStore
) -> None:
    """Two deliverers for a moment: one has the earlier version in its hands while the other delivers the later."""
    await events.record("queue", [event("s3://b/a")])
    await submitted(work, store)
    [early] = await work.ended(10)
    assert (await work.claim([named(early, "o/a.png")])).superseded == frozenset()
    await events.record("queue", [event("s3://b/a", "2", "2")])
    await submitted(work, store)
    [late] = [row for row in await work.ended(10) if row.seq != early.seq]
    await work.claim([named(late, "o/a.png")])
    await work.close([closing(late, "delivered")])
    await work.close([closing(early, "delivered")])
    assert [row.seq for row in await work.ended(10)] == [late.seq], "it is delivered once more"


async def test_an_attempt_is_made_again_when_it_is_due(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock
) -> None:
    await events.record("queue", [event("s3://b/a")])
    await submitted(work, store)
    [row] = await work.ended(10)
    away = {"type": "storage-unavailable", "detail": "away", "context": {}}
    await work.close([closing(row, "submitted", error=away, retry_s=30.0, kept=True)])
    assert await work.ended(10) == []
    assert await work.next_due_s() == 30.0
    clock.advance(31)
    [again] = await work.ended(10)
    assert again.attempts == 1
    await work.close([closing(again, "delivered")])
    [shown] = (await events.list()).items
    assert (shown.state, shown.attempts, shown.error, shown.ended) == ("delivered", 2, None, clock())


@pytest.mark.parametrize("kept", [True, False], ids=["result kept", "result gone"])
async def test_a_redrive_delivers_what_is_there_and_runs_what_is_not(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock, kept: bool
) -> None:
    await events.record("queue", [event("s3://b/a"), event("s3://b/b", rule="other")])
    await submitted(work, store)
    [row] = await work.ended(10)
    await work.close([closing(row, "failed", error={"type": "x", "detail": "x", "context": {}}, kept=kept)])
    assert await events.counts() == {"r": {"failed": 1}, "other": {"waiting": 1}}
    assert await events.redrive("other") == 0
    assert await events.redrive(ids=["unknown"]) == 0
    clock.advance(1)
    assert await events.redrive(ids=[row.id]) == 1
    assert await events.redrive() == 0
    if kept:
        assert [one.seq for one in await work.ended(10)] == [row.seq]
    else:
        await submitted(work, store)
        assert [one.seq for one in await work.ended(10)] == [row.seq]


async def test_a_job_that_is_gone_is_told(events: TriggerEvents, work: TriggerWork, store: JobStore) -> None:
    await events.record("queue", [event("s3://b/a")])
    batch = await submitted(work, store)
    await store.delete("ann", f"job-of-{batch.id}")
    [row] = await work.ended(10)
    assert row.task_state is None


async def test_old_rows_go_and_those_of_files_that_are_there_stay(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock
) -> None:
    await events.record("queue", [event("s3://b/a"), event("file:///here")])
    await submitted(work, store)
    rows = await work.ended(10)
    await events.record("queue", [event("s3://b/waits")])
    await work.close([closing(row, "delivered") for row in rows])
    clock.advance(KEPT_S - 1)
    assert await events.expired() == []
    clock.advance(2)
    old = await events.expired()
    assert [uri for _, uri in old] == ["s3://b/a", "file:///here"], "what waits is not old"
    await events.sweep([old[0][0]], [old[1][0]])
    assert await events.expired() == []
    assert (await events.record("queue", [event("file:///here")])).duplicates == 1
    assert len((await events.record("queue", [event("s3://b/a")])).new) == 1


async def test_of_a_file_that_is_there_only_the_last_version_is_kept(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock
) -> None:
    """A camera that writes one file again and again must not fill the database."""
    await events.record("folder", [event("file:///here", str(number), str(number)) for number in range(3)])
    await submitted(work, store)
    await work.close([closing(row, "delivered") for row in await work.ended(9)])
    clock.advance(KEPT_S + 1)
    assert sorted(uri for _, uri in await events.expired()) == ["", "", "file:///here"]


async def test_a_dead_letter_is_kept_from_when_it_failed(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock
) -> None:
    await events.record("queue", [event("s3://b/a"), event("s3://b/done")])
    clock.advance(KEPT_S - 1)  # its rule was switched off for so long
    await submitted(work, store)
    failed, done = await work.ended(9)
    await work.close([closing(failed, "failed"), closing(done, "delivered")])
    clock.advance(2)
    assert [uri for _, uri in await events.expired()] == [done.uri]
    clock.advance(KEPT_S)
    assert sorted(uri for _, uri in await events.expired()) == ["s3://b/a", "s3://b/done"]


async def test_a_rule_may_be_away_for_a_while_however_long_its_events_wait(
    events: TriggerEvents, work: TriggerWork, clock: Clock
) -> None:
    await events.record("queue", [event("s3://b/a")])
    for _ in range(3):  # switched off, or its destination is away
        clock.advance(100)
        await work.seen(["r"])
    clock.advance(50)
    await work.seen(["other"])  # a service that has other rules
    assert await work.orphans(99, {}) == 0
    clock.advance(50)
    assert await work.orphans(99, {}) == 1


async def test_what_has_ended_is_given_for_known_rules_alone(
    events: TriggerEvents, work: TriggerWork, store: JobStore
) -> None:
    await events.record("queue", [event("s3://b/a"), event("s3://b/a", rule="other")])
    await submitted(work, store)
    await submitted(work, store, "other")
    assert [row.rule for row in await work.ended(9, rules=["other"])] == ["other"]
    assert len(await work.ended(9)) == 2


async def test_events_of_a_rule_that_is_gone_end_or_are_forgotten(
    events: TriggerEvents, work: TriggerWork, store: JobStore, clock: Clock
) -> None:
    await events.record("queue", [event("s3://b/a"), event("s3://b/a", rule="other"), event("s3://b/a", rule="third")])
    await submitted(work, store, "third")
    await work.seen(["r", "other", "third"])
    clock.advance(60)
    await work.seen(["other", "third"])
    clock.advance(40)
    assert await work.orphans(101, {}) == 0
    assert await work.orphans(100.5, {}) == 0, "the rule was there until then"
    assert await work.orphans(99, {"type": "not-found", "detail": "gone", "context": {}}) == 1
    assert (await events.counts())["r"] == {"failed": 1}
    assert await events.forget("other") == 1
    assert await events.forget("third") == 1
    assert [row.rule for row in (await events.list()).items] == ["r"]
