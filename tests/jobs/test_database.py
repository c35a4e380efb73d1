from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, create_engine, insert, select, text

from pixelmill.errors import (
    ConfigError,
    NotFound,
    PixelmillError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from pixelmill.jobs import connections
from pixelmill.jobs import database as module
from pixelmill.jobs.database import Database
from pixelmill.jobs.migrations import HEAD, OLDEST, migrate
from pixelmill.jobs.schema import meta, metadata
from pixelmill.jobs.store import JobStore
from pixelmill.testing.job_store import event_of, job_of, tasks_of

pytestmark = pytest.mark.anyio
only_sqlite = pytest.mark.parametrize("sql_url", ["sqlite"], indirect=True)


def put(key: str, value: str = "") -> Callable[[Connection], int]:
    return lambda c: c.execute(insert(meta), {"owner": "", "key": key, "value": value}).rowcount


async def keys(db: Database) -> set[str]:
    return await db.read(lambda c: set(c.execute(select(meta.c.key)).scalars()) - {"schema.oldest"})


# -- migrations -------------------------------------------------------------------------------------


async def test_the_migrated_schema_is_the_one_in_the_code(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path}/s.sqlite")
    migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
    engine.dispose()


async def test_a_schema_that_is_up_to_date_costs_no_import_of_alembic(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"
    async with Database(url):
        pass
    code = (
        "import asyncio, sys\nfrom pixelmill.jobs.database import Database\n"
        f"async def main():\n    async with Database({url!r}): pass\n"
        "asyncio.run(main())\nassert 'alembic' not in sys.modules"
    )
    await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True)


def made_newer(path: Path, oldest: str | None) -> None:
    """As a later version would leave it whose migrations only add."""
    with closing(sqlite3.connect(path)) as raw:
        raw.execute("ALTER TABLE tasks ADD COLUMN shiny TEXT NOT NULL DEFAULT ''")
        raw.execute("CREATE TABLE shinies (id TEXT PRIMARY KEY)")
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
        if oldest is None:
            raw.execute("DELETE FROM meta")
        else:
            raw.execute("UPDATE meta SET value = ? WHERE key = 'schema.oldest'", (oldest,))
        raw.commit()


@pytest.mark.parametrize(("oldest", "fits"), [("0005", True), (HEAD, True), ("9998", False), (None, False)])
async def test_a_newer_schema_is_worked_on_where_it_declares_that_we_can(
    tmp_path: Path, oldest: str | None, fits: bool
) -> None:
    url = f"sqlite:///{tmp_path}/s.sqlite"
    async with Database(url):
        pass
    made_newer(tmp_path / "s.sqlite", oldest)
    db = Database(url)
    if fits:
        async with db:
            store = JobStore(db)
            await store.create_job(job_of(), tasks_of("job", 1))
            await store.record([event_of("succeeded", "job-0")])
            assert (await store.job("ann", "job")).state == "succeeded"
        return
    said = "Programs from schema 9998 on" if oldest else "Install that version again"
    with pytest.raises(ConfigError, match=f"newer.*{said}"):
        await db.open()
    await db.close()


async def test_an_upgrade_declares_who_can_work_on_it(sql_url: str) -> None:
    query = select(meta.c.value).where(meta.c.owner == "", meta.c.key == "schema.oldest")
    async with Database(sql_url) as db:
        assert await db.read(lambda connection: connection.execute(query).scalar_one()) == OLDEST
    assert OLDEST <= HEAD


# -- group commit -----------------------------------------------------------------------------------


@only_sqlite
async def test_writes_that_arrive_together_are_committed_together(db: Database) -> None:
    entered, go = threading.Event(), threading.Event()
    seen = []

    def slow(connection: Connection) -> None:
        entered.set()
        assert go.wait(30)

    def count(connection: Connection) -> int:
        # What this transaction has not committed yet is seen by itself alone.
        with sqlite3.connect(db.url.removeprefix("sqlite:///")) as outside:
            seen.append(outside.execute("SELECT count(*) FROM meta WHERE key <> 'schema.oldest'").fetchone()[0])
        outside.close()
        return len(connection.execute(select(meta).where(meta.c.key != "schema.oldest")).all())

    first = asyncio.create_task(db.write(slow))
    await asyncio.to_thread(entered.wait, 30)
    others = [asyncio.create_task(db.write(put(str(i)))) for i in range(5)]
    last = asyncio.create_task(db.write(count))
    await asyncio.sleep(0)  # let all of them be queued
    go.set()
    await asyncio.gather(first, *others)
    assert await last == 5
    assert seen == [0]


async def test_one_that_fails_spoils_no_other(db: Database) -> None:
    def fail(connection: Connection) -> None:
        put("half")(connection)
        raise NotFound("no")

    results = await asyncio.gather(
        db.write(put("a")), db.write(fail), db.write(put("a")), db.write(put("b")), return_exceptions=True
    )
    assert [type(result) for result in results] == [int, NotFound, StorageError, int]
    assert await keys(db) == {"a", "b"}


@only_sqlite
async def test_a_result_comes_after_the_commit(db: Database) -> None:
    await db.write(put("a"))
    with sqlite3.connect(db.url.removeprefix("sqlite:///")) as outside:
        assert outside.execute("SELECT key FROM meta WHERE key <> 'schema.oldest'").fetchall() == [("a",)]
    outside.close()


async def test_a_caller_that_gives_up_disturbs_nobody(db: Database) -> None:
    entered, go = threading.Event(), threading.Event()

    def slow(connection: Connection) -> None:
        entered.set()
        assert go.wait(30)

    first = asyncio.create_task(db.write(slow))
    await asyncio.to_thread(entered.wait, 30)
    gone = asyncio.create_task(db.write(put("gone")))
    kept = asyncio.create_task(db.write(put("kept")))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    go.set()
    await asyncio.gather(first, kept)
    assert await keys(db) == {"kept"}


async def test_many_more_writes_than_the_bound_all_get_through(db: Database) -> None:
    await asyncio.gather(*(db.write(put(str(i))) for i in range(2 * module.MAX_PENDING)))
    assert len(await keys(db)) == 2 * module.MAX_PENDING


async def test_readers_can_not_write(db: Database) -> None:
    with pytest.raises(StorageDenied):
        await db.read(put("a"))


async def test_a_closed_database_says_so(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/s.sqlite")
    with pytest.raises(StorageUnavailable):
        await db.write(put("too early"))
    await db.open()
    await db.close()
    await db.close()
    for call in (db.read(put("a")), db.write(put("a"))):
        with pytest.raises(StorageUnavailable):
            await call


async def test_closing_folds_the_log_into_the_file(tmp_path: Path) -> None:
    async with Database(f"sqlite:///{tmp_path}/s.sqlite") as db:
        await db.write(put("a"))
    assert os.listdir(tmp_path) == ["s.sqlite"]  # noqa: PTH208 -- pathlib would block the event loop no less


@pytest.mark.parametrize(("synchronous", "number"), [("NORMAL", 1), ("FULL", 2)])
async def test_durability_is_as_asked_for(tmp_path: Path, synchronous: str, number: int) -> None:
    async with Database(f"sqlite:///{tmp_path}/s.sqlite", synchronous="FULL" if number == 2 else "NORMAL") as db:
        assert await db.write(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar()) == number
        assert await db.write(lambda c: c.exec_driver_sql("PRAGMA journal_mode").scalar()) == "wal"
        assert await db.write(lambda c: c.exec_driver_sql("PRAGMA foreign_keys").scalar()) == 1


# -- errors -----------------------------------------------------------------------------------------


@only_sqlite
async def test_a_full_disk_is_named_and_loses_nothing(db: Database) -> None:
    await db.write(put("before"))
    pages = await db.write(lambda c: c.exec_driver_sql("PRAGMA page_count").scalar())
    await db.write(lambda c: c.exec_driver_sql(f"PRAGMA max_page_count={pages}").scalar())
    results = await asyncio.gather(
        db.write(put("small")), db.write(put("large", "x" * 10_000_000)), return_exceptions=True
    )
    assert isinstance(results[1], StorageFull)
    assert results[1].retryable
    stored = await keys(db)
    # What was said to be stored is stored, and what was not is not.
    assert stored == {"before"} | ({"small"} if results[0] == 1 else set())
    await db.write(lambda c: c.exec_driver_sql("PRAGMA max_page_count=1000000").scalar())
    await db.write(put("after"))
    assert "after" in await keys(db)


async def test_a_locked_database_is_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.05)
    async with Database(f"sqlite:///{tmp_path}/s.sqlite") as db:
        other = sqlite3.connect(f"{tmp_path}/s.sqlite", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageUnavailable):
            await db.write(put("a"))
        other.execute("ROLLBACK")
        other.close()
        await db.write(put("a"))


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "s.sqlite").write_bytes(b"\xff\xd8\xff" * 5000)
    db = Database(f"sqlite:///{tmp_path}/s.sqlite")
    with pytest.raises(StorageError, match="not a database"):
        await db.open()
    await db.close()


async def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    db = Database(f"sqlite:///{tmp_path}/nowhere/s.sqlite")
    with pytest.raises(StorageDenied, match="folder exists"):
        await db.open()
    await db.close()


async def test_errors_hold_no_values(db: Database) -> None:
    await db.write(put("a", "secret"))
    with pytest.raises(PixelmillError) as caught:
        await db.write(put("a", "secret"))
    assert "secret" not in str(caught.value)
