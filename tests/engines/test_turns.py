"""Owners share the database's queue equally, whatever number of jobs and tasks each has."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection, event, text

from pixelmill.engines import turns
from pixelmill.engines.queue import Message
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.jobs.database import Database
from pixelmill.jobs.store import JobStore
from pixelmill.testing.job_store import job_of, tasks_of

pytestmark = pytest.mark.anyio


@pytest.fixture
async def db(sql_url: str) -> AsyncIterator[Database]:
    async with Database(sql_url) as db:
        yield db


async def take(queue: SqlLeaseQueue, limit: int) -> list[str]:
    """Receive and acknowledge; the ids, without the run."""
    leases = await queue.receive(limit, 60.0)
    await queue.delete(leases)
    return [lease.message.id.removesuffix("/0") for lease in leases]


def by_job(ids: list[str]) -> Counter[str]:
    return Counter(one.rpartition("-")[0] for one in ids)


@pytest.mark.parametrize("limit", [1, 2, 9])
async def test_two_owners_get_equal_shares_whatever_number_of_jobs_each_has(db: Database, limit: int) -> None:
    store, queue = JobStore(db), SqlLeaseQueue(db)
    for number in range(20):
        await store.create_job(job_of(f"many{number}", owner="ann"), tasks_of(f"many{number}", 10))
    await store.create_job(job_of("one", owner="bob", created=2.0), tasks_of("one", 200))
    taken: list[str] = []
    while len(taken) < 90:
        taken += await take(queue, limit)
    assert abs(by_job(taken)["one"] - len(taken) / 2) <= 1
    # and that owner's jobs share its half
    counts = [count for job, count in by_job(taken).items() if job != "one"]
    assert len(counts) == 20
    assert max(counts) - min(counts) <= 1


async def test_a_newcomer_waits_for_one_round_and_takes_no_more_than_its_turn(db: Database) -> None:
    store, queue = JobStore(db), SqlLeaseQueue(db)
    await store.create_job(job_of("b", owner="bob"), tasks_of("b", 100))
    await store.create_job(job_of("c", owner="cid"), tasks_of("c", 100))
    for _ in range(3):
        await take(queue, 3)
    await store.create_job(job_of("a", owner="ann", created=3.0), tasks_of("a", 100))
    order = [one[0] for _ in range(12) for one in await take(queue, 1)]
    assert "a" in order[:3]
    assert Counter(order) == {"a": 4, "b": 4, "c": 4}


async def test_a_small_job_of_an_owner_is_not_starved_by_a_large_one_of_the_same(db: Database) -> None:
    store, queue = JobStore(db), SqlLeaseQueue(db)
    await store.create_job(job_of("large"), tasks_of("large", 50))
    for _ in range(4):
        await take(queue, 5)
    await store.create_job(job_of("small", created=2.0), tasks_of("small", 3))
    assert by_job(await take(queue, 6)) == {"large": 3, "small": 3}


async def test_what_an_owner_leaves_of_its_part_goes_to_the_others(db: Database) -> None:
    queue = SqlLeaseQueue(db)
    few = [Message(f"a-{i}", "{}", owner="ann") for i in range(2)]
    await queue.send([*few, *(Message(f"b-{i}", "{}", owner="bob") for i in range(20))])
    assert by_job(await take(queue, 9)) == {"a": 2, "b": 7}


async def test_more_owners_than_are_served_at_once_come_all_in_turn(db: Database) -> None:
    queue = SqlLeaseQueue(db)
    await queue.send([Message(f"{i}-{n}", "{}", owner=f"owner {i}") for i in range(7) for n in range(10)])
    taken: list[str] = []
    for _ in range(7):
        taken += await take(queue, 3)
    assert set(by_job(taken).values()) == {3}


async def test_urgent_work_of_any_owner_comes_first(db: Database) -> None:
    queue = SqlLeaseQueue(db)
    slow = [Message(f"slow-{i}", "{}", priority=2, owner="ann") for i in range(5)]
    await queue.send([*slow, *(Message(f"fast-{i}", "{}", priority=0, owner="bob") for i in range(3))])
    assert [one.rpartition("-")[0] for one in await take(queue, 5)] == ["fast"] * 3 + ["slow"] * 2


async def test_leased_messages_hide_no_others_of_their_owner(db: Database) -> None:
    queue = SqlLeaseQueue(db)
    await queue.send([Message(f"a-{i}", "{}", owner="ann") for i in range(6)])
    held = await queue.receive(4, 60.0)
    assert len(held) == 4
    assert await take(queue, 9) == ["a-4", "a-5"]
    assert await take(queue, 9) == []


@given(st.lists(st.text("abc", max_size=3), min_size=1, max_size=12, unique=True), st.integers(1, 20))
def test_parts_fill_the_room_and_differ_by_one_at_most(owners: list[str], room: int) -> None:
    parts, last = turns.turns(owners, room)
    counts = [part.count for part in parts]
    assert sum(counts) == room
    assert max(counts) - min(counts) <= 1
    assert last in owners


async def test_neither_statement_reads_all_that_waits(db: Database) -> None:
    """By the plans, on a table without statistics and on one with them."""
    many = [Message(f"{i}-{n}", "{}", owner=f"owner {i}", rank=n) for i in range(5) for n in range(4_000)]
    await SqlLeaseQueue(db).send(many)
    for analyzed in (False, True):
        if analyzed:
            await db.write(lambda connection: connection.execute(text("ANALYZE queue")).close())
        plans = await db.write(explained)
        assert len(plans) == 2
        for plan in plans:
            assert "queue_turns" in plan
            assert "Seq Scan on queue" not in plan
            assert "SCAN q" not in plan
            assert "SCAN queue" not in plan


def explained(connection: Connection) -> list[str]:
    """The plans of what a receive does, which it does too."""
    seen: list[tuple[str, Any]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        seen.append((statement, parameters))

    lasts = {f"last{one}": "owner 2" for one in turns.CLASSES}
    parts = [turns.Turn("owner 1", 5), turns.Turn("owner 2", 4)]
    event.listen(connection, "before_cursor_execute", note)
    try:
        connection.execute(turns.OWNERS, {"now": 9e9, "most": 9, **lasts}).all()
        turns.lease(connection, 1, parts, {"now": 9e9, "until": 0.0, "new_receipt": "x", "new_holder": "y"})
    finally:
        event.remove(connection, "before_cursor_execute", note)
    word = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
    return [
        "\n".join(str(row) for row in connection.exec_driver_sql(word + statement, parameters).all())
        for statement, parameters in seen
    ]
