"""How long a page of a search takes among many tasks, what recording costs, and how large the index is.

    PYTHONPATH=src python bench/search.py [--jobs N] [--tasks N] [--rounds N] [--url URL] [--narrow]

Jobs of `--tasks` tasks each, of two owners, in a new SQLite file (or the empty database of `--url`). Each task has five
labels out of 1,000 classes, a caption of ten words out of 5,000 and a number of faces, all with the long tails that
real ones have, and a label and a word that every task has. 100 tasks a page, which are read too. Recording is timed in
turns with the same data under a name that is not searched. `--narrow` (SQLite) also builds the table that was not
chosen, a row of text keys for each fact of a task, and compares size and time.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pixelmill.jobs.database import Database
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.search import Search, TaskSearch
from pixelmill.jobs.store import JobStore
from pixelmill.testing.job_store import event_of, job_of, tasks_of

OWNERS = ("ann", "ann", "bob")
BATCH = 128
"""Events that the recorder takes at once."""
CLASSES, WORDS = 1_000, 5_000
SEARCHES: dict[str, dict[str, Any]] = {
    "a frequent label": {"labels": ["class1"]},
    "a rare label": {"labels": [f"class{CLASSES - 10}"]},
    "a label of every task": {"labels": ["thing"]},
    "no such label": {"labels": ["nowhere"]},
    "every task's label, surely": {"labels": ["thing"], "min_score": "0.99"},
    "every task's label, in none so": {"labels": ["thing"], "min_score": "1"},
    "two words": {"caption": "a word1"},
    "five words": {"caption": "a word1 word2 word3 word5"},
    "two frequent words, in none both": {"caption": "odd even"},
    "faces 1..": {"faces": "1.."},
    "faces 90..": {"faces": "90.."},
    "label, caption and faces": {"labels": ["class1"], "caption": "a", "faces": "1.."},
}


def tail(chance: random.Random, size: int) -> int:
    """A number below ``size`` with a long tail: 0 the most frequent."""
    return min(size - 1, int(size ** chance.random()) - 1)


def data_of(chance: random.Random, number: int) -> dict[str, Any]:
    """What operations could have found in a picture."""
    labels = [
        {"label": f"class{tail(chance, CLASSES)} thing", "score": round(chance.random() * 0.999, 4)} for _ in range(5)
    ]
    words = [f"word{tail(chance, WORDS)}" for _ in range(8)]
    caption = " ".join(["a", *words, "odd" if number % 2 else "even"])
    faces = 0 if chance.random() < 0.7 else tail(chance, 100)
    return {"classify": {"labels": labels, "model": "m"}, "caption": {"caption": caption}, "faces": {"count": faces}}


def ended(job: str, tasks: int, number: int, owner: str, *, with_data: bool) -> Iterator[TaskEvent]:
    """The last events of all tasks of a job."""
    chance = random.Random(number)
    for place in range(tasks):
        data = data_of(chance, place)
        # As long without anything to be searched for, so that the documents are alike.
        told = {"format": "jpeg", "bytes": 10, "data": data if with_data else {"other": data}}
        yield replace(event_of("succeeded", f"{job}-{place}", owner=owner), outcome=told)


async def fill(store: JobStore, jobs: int, tasks: int, *, with_data: bool, prefix: str = "job") -> float:
    """Make the jobs, with ids as long as real ones, and end their tasks; milliseconds of recording a task."""
    took = 0.0
    for number in range(jobs):
        job = job_of(f"{prefix}_{number:032}", OWNERS[number % len(OWNERS)], created=float(number))
        await store.create_job(job, tasks_of(job.id, tasks))
        events = list(ended(job.id, tasks, number, job.owner, with_data=with_data))
        start = time.perf_counter()
        for first in range(0, tasks, BATCH):
            await store.record(events[first : first + BATCH])
        took += time.perf_counter() - start
    return took / (jobs * tasks) * 1e3


def percentiles(took: Sequence[float]) -> str:
    """p50 and p99 in milliseconds."""
    ordered = sorted(took)
    return f"p50 {ordered[len(ordered) // 2]:7.2f}   p99 {ordered[int(len(ordered) * 0.99)]:7.2f} ms"


async def measure(search: TaskSearch, rounds: int, job: str) -> None:
    """Each search so many times, over all jobs and within one."""
    for where, inside in (("all jobs", None), ("one job", job)):
        for name, asked in SEARCHES.items():
            wanted = Search.of(**asked)
            assert wanted is not None
            took = []
            for _ in range(rounds):
                start = time.perf_counter()
                page = await search.tasks("ann", wanted, job=inside)
                took.append((time.perf_counter() - start) * 1e3)
            print(f"{where:9} {name:34} {len(page.items):4} found   {percentiles(took)}")


async def run(url: str, arguments: argparse.Namespace) -> None:
    """Fill the database and measure."""
    async with Database(url, "NORMAL") as database:
        store = JobStore(database)
        turns = []
        for turn in range(5):
            without = await fill(store, 5, 200, with_data=False, prefix=f"plain{turn}")
            turns.append((await fill(store, 5, 200, with_data=True, prefix=f"told{turn}"), without))
        with_data, without = sorted(turns, key=lambda pair: pair[0] / pair[1])[2]
        print(
            f"recording: {without:.2f} ms a task without data to search for, {with_data:.2f} with (median of 5 turns)"
        )
        await fill(store, arguments.jobs, arguments.tasks, with_data=True)
        await measure(TaskSearch(database), arguments.rounds, f"job_{0:032}")


NARROW = """
CREATE TABLE task_facts (owner TEXT, term TEXT, task TEXT, job TEXT, seq INTEGER, score REAL,
  PRIMARY KEY (owner, term, task)) WITHOUT ROWID;
INSERT INTO task_facts SELECT t.owner, t.term, f.task, f.job, k.seq, t.score
  FROM finding_terms t JOIN findings f USING (number) JOIN tasks k ON k.id = f.task ORDER BY t.owner, t.term, f.task;
CREATE INDEX task_facts_by_job ON task_facts (job, term, seq);
"""


def narrow(path: Path, rounds: int) -> None:
    """The table that was not chosen beside the one that was: bytes a task, and the time of a page of numbers or ids."""
    raw = sqlite3.connect(path)
    raw.executescript(NARROW)
    raw.execute("VACUUM")
    tasks = raw.execute("SELECT count(*) FROM findings").fetchone()[0]
    sizes = "SELECT sum(pgsize) FROM dbstat WHERE name IN ({})"
    names = {
        "numbers": "'findings', 'findings_by_job', 'finding_terms', 'finding_terms_by_number'",
        "narrow": "'task_facts', 'task_facts_by_job'",
    }
    for name, tables in names.items():
        print(f"{name:8} {raw.execute(sizes.format(tables)).fetchone()[0] / tasks:6.0f} bytes a task")
    page = (
        "SELECT {0} FROM {1} WHERE owner = 'ann' AND term = 'label:thing' AND score >= {2} ORDER BY {0} DESC LIMIT 100"
    )
    for least in (0.0, 1.0):
        for key, table in (("number", "finding_terms"), ("task", "task_facts")):
            took = timed(raw, page.format(key, table, least), rounds)
            print(f"{table:14} score >= {least}   {percentiles(took)}")
    raw.close()


def timed(raw: sqlite3.Connection, statement: str, rounds: int) -> list[float]:
    """Milliseconds of each round."""
    took = []
    for _ in range(rounds):
        start = time.perf_counter()
        raw.execute(statement).fetchall()
        took.append((time.perf_counter() - start) * 1e3)
    return took


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--tasks", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--url", default="")
    parser.add_argument("--narrow", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pixelmill-bench-") as folder:
        path = Path(folder, "state.sqlite")
        asyncio.run(run(arguments.url or f"sqlite:///{path}", arguments))
        if arguments.narrow and not arguments.url:
            narrow(path, arguments.rounds)


if __name__ == "__main__":
    main()
