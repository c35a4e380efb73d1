"""Lists of jobs: of one owner or of all, searched by name or id, page by page."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from older_state import back_to
from sqlalchemy import Connection, text

from pixelmill.jobs.database import Database
from pixelmill.jobs.listing import Wanted, jobs_query
from pixelmill.jobs.model import State
from pixelmill.jobs.records import cursor_of
from pixelmill.jobs.store import JobStore
from pixelmill.testing.clock import Clock
from pixelmill.testing.job_store import job_of, tasks_of

pytestmark = pytest.mark.anyio

JOBS = (
    ("job_0a", "ann", "Holiday in Norway"),
    ("job_0b", "bob", "holiday 50%_off"),
    ("job_0c", "ann", "Straße und ÖL"),
    ("job_0d", "bob", ""),
    ("job_0e", "ann", "winter"),
)


@pytest.fixture
async def filled(store: JobStore) -> JobStore:
    for number, (identity, owner, name) in enumerate(JOBS):
        job = replace(job_of(identity, owner, created=float(number)), name=name)
        await store.create_job(job, tasks_of(identity, 1))
    await store.cancel("ann", "job_0a")
    return store


async def listed(store: JobStore, owner: str | None, search: str = "", state: State | None = None) -> list[str]:
    """Ids of all pages of two jobs each."""
    found: list[str] = []
    cursor = None
    while True:
        page = await store.list_jobs(owner, limit=2, cursor=cursor, search=search, state=state)
        assert len(page.items) <= 2
        found += [job.id for job in page.items]
        cursor = page.next
        if cursor is None:
            return found


async def test_one_owner_or_all(filled: JobStore) -> None:
    assert await listed(filled, "ann") == ["job_0e", "job_0c", "job_0a"]
    assert await listed(filled, "nobody") == []
    assert await listed(filled, None) == ["job_0e", "job_0d", "job_0c", "job_0b", "job_0a"]
    assert await listed(filled, None, state=State.CANCELLED) == ["job_0a"]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("holiday", ["job_0b", "job_0a"]),
        ("HOLIDAY in", ["job_0a"]),
        ("strasse", ["job_0c"]),
        ("öl", ["job_0c"]),
        ("50%_OFF", ["job_0b"]),
        ("%", ["job_0b"]),
        ("_", ["job_0b"]),
        ("/", []),
        ("job_0d", ["job_0d"]),
        ("JOB_0D", ["job_0d"]),
        ("job_0", []),
        ("\0", []),
    ],
)
async def test_a_part_of_the_name_or_the_whole_id_in_either_case(
    filled: JobStore, search: str, found: list[str]
) -> None:
    assert await listed(filled, None, search) == found


async def test_a_search_stays_with_its_owner_and_state(filled: JobStore) -> None:
    assert await listed(filled, "bob", "holiday") == ["job_0b"]
    assert await listed(filled, "bob", "job_0a") == []
    assert await listed(filled, None, "holiday", State.QUEUED) == ["job_0b"]
    assert await listed(filled, None, "holiday", State.CANCELLED) == ["job_0a"]


async def test_whose_a_job_and_a_task_are(filled: JobStore) -> None:
    assert await filled.owner_of_job("job_0b") == "bob"
    assert await filled.owner_of_task("job_0b-0") == "bob"
    assert await filled.owner_of_job("job_0b-0") is None
    assert await filled.owner_of_task("job_0b") is None


@pytest.mark.parametrize("owner", ["ann", None])
@pytest.mark.parametrize("state", [State.FAILED, None])
@pytest.mark.parametrize("search", ["holiday", ""])
async def test_no_list_sorts(tmp_path: Path, owner: str | None, state: State | None, search: str) -> None:
    query = jobs_query(Wanted(owner, state, search), limit=50, cursor=cursor_of(1.0, "job"))

    def plan(connection: Connection) -> str:
        compiled = query.compile(connection.engine, compile_kwargs={"literal_binds": True})
        rows = connection.execute(text(f"EXPLAIN QUERY PLAN {compiled}".replace(":", r"\:"))).all()
        return " ".join(row[3] for row in rows)

    async with Database(f"sqlite:///{tmp_path / 'state.sqlite'}") as database:
        found = await database.read(plan)
    assert "USING INDEX jobs_by_" in found, found
    assert "TEMP B-TREE" not in found, found


async def test_jobs_from_before_the_upgrade_are_found_by_their_names(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    async with Database(f"sqlite:///{path}") as database:
        store = JobStore(database, now=Clock())
        for identity, owner, name in JOBS:
            await store.create_job(replace(job_of(identity, owner), name=name), tasks_of(identity, 1))
    with sqlite3.connect(path) as raw:
        back_to("0005", raw)
    raw.close()
    async with Database(f"sqlite:///{path}") as database:
        assert await listed(JobStore(database, now=Clock()), None, "straSSe") == ["job_0c"]
