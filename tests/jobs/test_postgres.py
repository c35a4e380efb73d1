"""What only PostgreSQL has: several processes that write, clocks that differ, a server that goes and comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, select, text

from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import ConfigError, MissingExtra, StorageDenied, StorageUnavailable
from pixelmill.jobs import connections, database
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.model import Counts, State
from pixelmill.jobs.schema import meta
from pixelmill.jobs.store import JobStore, tasks_after
from pixelmill.testing.job_store import event_of, job_of, tally, tasks_of
from servers import Postgres, free_port

pytestmark = pytest.mark.anyio


@pytest.fixture
async def pair(postgres_url: str) -> AsyncIterator[tuple[Database, Database]]:
    async with AsyncExitStack() as stack:
        first, second = Database(postgres_url), Database(postgres_url)
        await asyncio.gather(*(stack.enter_async_context(db) for db in (first, second)))  # migrated by one of them
        yield first, second


async def test_two_recorders_lose_no_count(pair: tuple[Database, Database]) -> None:
    stores = [JobStore(db) for db in pair]
    await stores[0].create_job(job_of(), tasks_of("job", 200))
    await asyncio.gather(
        *(
            stores[i % 2].record([event_of("started", f"job-{i}"), event_of("succeeded", f"job-{i}")])
            for i in range(200)
        )
    )
    job = await stores[0].job("ann", "job")
    assert (job.state, job.counts) == (State.SUCCEEDED, Counts(succeeded=200))
    assert await tally(stores[1], "job") == job.counts


@pytest.mark.parametrize("state", [None, State.QUEUED])
async def test_a_page_of_a_large_job_that_just_came_is_read_from_the_index(
    pair: tuple[Database, Database], state: State | None
) -> None:
    store = JobStore(pair[0])
    await store.create_job(job_of("large"), tasks_of("large", 10_000))
    page = await store.list_tasks("ann", "large", limit=3, state=state)
    assert [task.seq for task in page.items] == [0, 1, 2]

    def plan(connection: Connection) -> str:
        query = tasks_after(connection, "large", -1, state).limit(101)
        compiled = query.compile(connection, compile_kwargs={"literal_binds": True})
        return "\n".join(connection.execute(text(f"EXPLAIN {compiled}")).scalars())

    steps = await pair[0].read(plan)
    assert "Index Scan" in steps, steps
    assert "Sort" not in steps, steps


async def test_a_reader_of_the_event_log_misses_nothing_that_others_write(pair: tuple[Database, Database]) -> None:
    stores, log = [JobStore(db) for db in pair], EventLog(pair[0])
    seen: list[int] = []

    async def write(number: int) -> None:
        for i in range(30):
            await stores[number].create_job(job_of(f"job{number}-{i}"), tasks_of(f"job{number}-{i}", 1))

    writing = asyncio.gather(write(0), write(1))
    while not writing.done():
        seen += [event.id for event in await log.after("ann", seen[-1] if seen else 0)]
    await writing
    seen += [event.id for event in await log.after("ann", seen[-1] if seen else 0)]
    assert seen == [event.id for event in await log.after("ann", 0)]
    assert len(seen) == 60


@pytest.mark.parametrize("skew_s", [-300.0, 300.0])
async def test_clocks_that_differ_by_minutes_have_no_effect(
    pair: tuple[Database, Database], monkeypatch: pytest.MonkeyPatch, skew_s: float
) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)
    queue = SqlLeaseQueue(pair[0])
    await JobStore(pair[0]).create_job(job_of(), tasks_of("job", 2))
    monkeypatch.setattr(time, "time", real)
    other = SqlLeaseQueue(pair[1])
    assert (await other.depth()).oldest_s < 60
    (lease,) = await other.receive(1, 60.0)
    monkeypatch.setattr(time, "time", lambda: real() + skew_s)
    assert [one.message.id for one in await queue.receive(5, 60.0)] == ["job-1/0"]
    await queue.extend([lease], 60.0)
    depth = await queue.depth()
    assert (depth.waiting, depth.leased) == (0, 2)


async def test_a_lock_is_held_by_one_process_at_a_time(pair: tuple[Database, Database]) -> None:
    first, second = pair
    async with first.hold("work") as mine:
        assert mine
        async with second.hold("work", wait=False) as theirs:
            assert not theirs
        async with second.hold("other", wait=False) as theirs:
            assert theirs
        waiting = asyncio.create_task(second.hold("work").__aenter__())
    assert await waiting


async def test_who_gives_up_waiting_for_a_lock_leaves_none_behind(pair: tuple[Database, Database]) -> None:
    first, second = pair

    async def wait_in_vain() -> None:
        async with second.hold("sweep"):
            raise AssertionError("the other has it")

    async with first.hold("sweep"):
        waiting = asyncio.create_task(wait_in_vain())
        while not (await first.read(_waits_for_a_lock)):  # noqa: ASYNC110 -- another thread does it
            await asyncio.sleep(0.02)  # the server is asked by another connection
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    async with asyncio.timeout(20):
        while True:  # its thread gets the lock, and gives it back
            async with first.hold("sweep", wait=False) as mine:
                if mine:
                    break
            await asyncio.sleep(0.02)


def _waits_for_a_lock(connection: Connection) -> bool:
    return bool(connection.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted")).scalar())


def _until_alone(url: str) -> None:
    """Until the server has no other connection to the database; it notices closed ones by itself."""
    others, until = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()", time.monotonic() + 20
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as own:
        while own.execute(others).fetchone() != (1,):
            assert time.monotonic() < until
            time.sleep(0.02)


async def test_a_read_that_outlives_the_database_leaves_no_connection_open(postgres_url: str) -> None:
    db = Database(postgres_url)
    await db.open()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(connection: Connection) -> None:
        loop.call_soon_threadsafe(begun.set)
        connection.execute(text("SELECT pg_sleep(1)"))

    reading = asyncio.create_task(db.read(slow))
    await begun.wait()
    await db.close()
    await reading
    await asyncio.to_thread(_until_alone, postgres_url)


def put(key: str) -> Callable[[Connection], object]:
    return lambda c: c.execute(meta.insert(), {"owner": "", "key": key, "value": ""}).rowcount


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_writes_go_on_after_the_server_was_away(postgres_server: Postgres, postgres_url: str, how: str) -> None:
    async with Database(postgres_url) as db:
        for i in range(20):
            await db.write(put(f"before {i}"))
        getattr(postgres_server, how)()
        writes = [asyncio.create_task(db.write(put(f"during {i}"))) for i in range(20)]
        with pytest.raises(StorageUnavailable):
            await db.read(lambda c: c.execute(select(meta.c.key).where(meta.c.key != "schema.oldest")).all())
        postgres_server.start()  # in this thread: the server dies with the one that starts it
        await asyncio.gather(*writes)
        await db.write(put("after"))
        assert (
            len(await db.read(lambda c: c.execute(select(meta.c.key).where(meta.c.key != "schema.oldest")).all())) == 41
        )


async def test_a_connection_that_the_server_ends_is_made_anew(pair: tuple[Database, Database]) -> None:
    first, second = pair
    await first.write(put("a"))

    def end_others(connection: Connection) -> None:
        connection.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        )

    await second.write(end_others)
    await first.write(put("b"))
    assert (
        len(await first.read(lambda c: c.execute(select(meta.c.key).where(meta.c.key != "schema.oldest")).all())) == 2
    )


async def test_a_server_that_stays_away_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    db = Database(f"postgresql://pixelmill:geheim@127.0.0.1:{free_port()}/x")
    with pytest.raises(StorageUnavailable) as caught:
        await db.open()
    monkeypatch.setattr(database, "RETRY_S", 0.1)
    with pytest.raises(StorageUnavailable):
        await db.write(put("a"))
    await db.close()
    assert "geheim" not in str(caught.value)


async def test_a_database_that_is_not_there_is_said(postgres_server: Postgres) -> None:
    db = Database(postgres_server.url("nowhere"))
    with pytest.raises((StorageDenied, StorageUnavailable)):
        await db.open()
    await db.close()


@pytest.mark.parametrize("url", ["mysql://ann:geheim@host/x", "geheim", "postgresql//ann:geheim@x"])
async def test_an_address_of_another_kind_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match="PIXELMILL_DATABASE_URL") as caught:
        Database(url)
    assert "geheim" not in str(caught.value)


async def test_without_the_driver_the_command_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r'pip install "pixelmill\[fleet\]"'):
        Database("postgresql://ann@host/x")
    async with Database(f"sqlite:///{tmp_path}/s.sqlite"):
        pass


async def test_a_batch_on_a_table_without_statistics_reads_only_its_own_rows(postgres_url: str) -> None:
    """A fresh server: nothing was analyzed yet, and plans that are made now stay until it is."""
    async with Database(postgres_url) as db:
        store, queue = JobStore(db), SqlLeaseQueue(db)
        await store.create_job(job_of(), tasks_of("job", 4_000))
        for _ in range(20):  # more than it takes until a statement is prepared and planned for good
            leases = await queue.receive(9, 60.0)
            names = [lease.message.id.split("/")[0] for lease in leases]
            await store.record([event_of(kind, name) for name in names for kind in ("started", "succeeded")])
            await queue.extend(leases, 60.0)
            await queue.delete(leases)
        counts = await asyncio.to_thread(_counts_of_reads, postgres_url)
    for table, (read, looked_up) in counts.items():
        assert looked_up >= 180, f"the statistics of {table} have arrived"
        assert read < 4_000, f"{table} was read from end to end"


def _counts_of_reads(url: str) -> dict[str, tuple[int, int]]:
    """Rows read one after the other, and look-ups in indexes; connections report both within a second."""
    query = "SELECT relname, seq_tup_read, idx_scan FROM pg_stat_user_tables WHERE relname IN ('tasks', 'queue')"
    deadline = time.monotonic() + 30
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql"), autocommit=True) as connection:
        while True:
            found = {name: (read, looked) for name, read, looked in connection.execute(query).fetchall()}
            if time.monotonic() > deadline or all(looked >= 180 for _, looked in found.values()):
                return found
            time.sleep(0.05)


async def test_a_stopped_backend_holds_no_reader_for_ever(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its kernel still acknowledges, and it can't end its own statement: only we can give up the connection."""
    monkeypatch.setattr(connections, "READ_S", 1)
    monkeypatch.setattr(connections, "GRACE_S", 1)
    stopped: list[int] = []

    def read(connection: Connection) -> int:
        pid = int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        if not stopped:
            stopped.append(pid)
            os.kill(pid, signal.SIGSTOP)
        return int(connection.execute(text("SELECT 41 + 1")).scalar_one())

    async with Database(postgres_url) as db:
        try:
            async with asyncio.timeout(60):
                assert await db.read(read) == 42  # on another connection
        finally:
            for pid in stopped:
                os.kill(pid, signal.SIGCONT)


async def test_a_reading_statement_that_takes_too_long_is_ended(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "READ_S", 1)
    async with Database(postgres_url) as db:
        async with asyncio.timeout(60):
            with pytest.raises(StorageUnavailable, match="too long"):
                await db.read(lambda connection: connection.execute(text("SELECT pg_sleep(300)")).scalar())
        assert await db.read(lambda connection: connection.execute(text("SELECT 1")).scalar()) == 1
