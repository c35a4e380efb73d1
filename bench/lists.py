"""How long a page of jobs takes among many: by owner, of all owners, searched, and filtered by state.

    PYTHONPATH=src python bench/lists.py [--jobs N] [--tasks N] [--rounds N] [--url URL]

Jobs of `--tasks` tasks each, of three owners, in a new SQLite file (or the empty database of `--url`); 50 jobs a page.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelmill.jobs.database import Database
from pixelmill.jobs.model import State
from pixelmill.jobs.store import JobStore
from pixelmill.testing.job_store import job_of, tasks_of

PIPELINE = '{"operations":[{"name":"grayscale"},{"name":"resize","width":256,"height":256}],"output":{"format":"jpeg"}}'
OWNERS = ("ann", "bob", "cay")
LISTS: dict[str, tuple[str | None, dict[str, Any]]] = {
    "one owner": ("ann", {}),
    "all": (None, {}),
    "all, in every name": (None, {"search": "summer"}),
    "all, in no name": (None, {"search": "nowhere"}),
    "all, by id": (None, {"search": "JOB_00003"}),
    "one owner, in no name": ("ann", {"search": "nowhere"}),
    "all, in no name, by state": (None, {"search": "nowhere", "state": State.QUEUED}),
    "all, no such state": (None, {"state": State.FAILED}),
}


async def fill(store: JobStore, jobs: int, tasks: int) -> None:
    """Make the jobs."""
    for number in range(jobs):
        job = job_of(f"job_{number:05}", OWNERS[number % len(OWNERS)], created=float(number))
        named = replace(job, name=f"Holiday pictures {number} of the summer", pipeline=PIPELINE)
        await store.create_job(named, tasks_of(job.id, tasks))


async def measure(store: JobStore, rounds: int) -> None:
    """Each list so many times; prints percentiles in milliseconds."""
    for name, (owner, filters) in LISTS.items():
        took = []
        for _ in range(rounds):
            start = time.perf_counter()
            await store.list_jobs(owner, limit=50, **filters)
            took.append((time.perf_counter() - start) * 1e3)
        took.sort()
        print(f"{name:28} p50 {took[len(took) // 2]:6.2f}   p99 {took[int(len(took) * 0.99)]:6.2f} ms")


async def run(url: str, arguments: argparse.Namespace) -> None:
    """Fill the database and measure."""
    async with Database(url, "NORMAL") as database:
        store = JobStore(database)
        await fill(store, arguments.jobs, arguments.tasks)
        await measure(store, arguments.rounds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--url", default="")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as folder:
        asyncio.run(run(arguments.url or f"sqlite:///{Path(folder, 'state.sqlite')}", arguments))


if __name__ == "__main__":
    main()
