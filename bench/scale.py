"""What a queue of 100,000 tasks costs those who look at it: lists, status and cancel through the REST service.

    python bench/scale.py [--tasks 100000] [--jobs 100] [--calls 500] [--database sqlite|postgresql] [--rounds 3]

A private service on loopback that runs no tasks itself; for PostgreSQL a private server with `fsync=on`. One job holds
all tasks but those of `--jobs` small ones, which fill the list. Measured from the first byte of a request to the last
of its answer, over one keep-alive connection, one call after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
from database import private_postgres
from load import Connection
from server import PrivateService

PAGE = 50_000
LOOKS = {
    "job list": "/v1/jobs?limit=50",
    "job list by state": "/v1/jobs?limit=50&state=queued",
    "job status": "/v1/jobs/{job}",
    "tasks, first page": "/v1/jobs/{job}/tasks?limit=100",
    "load": "/v1/load",
}


class Caller:
    """Asks for JSON."""

    def __init__(self, line: Connection) -> None:
        self._line = line

    async def ask(self, method: str, target: str, body: Any = None) -> Any:
        """The answer's JSON."""
        sent = b"" if body is None else json.dumps(body).encode()
        return json.loads(await self._line.request(method, target, sent, "application/json"))


async def submit(caller: Caller, sources: list[str]) -> str:
    """One job of these sources, by pages."""
    wanted = {"pipeline": common.PIPELINE, "sources": sources[:PAGE], "sealed": len(sources) <= PAGE}
    job = (await caller.ask("POST", "/v1/jobs", wanted))["id"]
    for start in range(PAGE, len(sources), PAGE):
        page = {"sources": sources[start : start + PAGE], "seal": start + PAGE >= len(sources)}
        await caller.ask("POST", f"/v1/jobs/{job}/tasks", page)
    return str(job)


async def look(caller: Caller, target: str, calls: int) -> list[float]:
    """Milliseconds of each call, sorted."""
    took = []
    for _ in range(calls):
        start = time.perf_counter()
        await caller.ask("GET", target)
        took.append((time.perf_counter() - start) * 1e3)
    return sorted(took)


async def measure(port: int, folder: Path, args: argparse.Namespace) -> None:
    """Submit, look, cancel; prints a table."""
    line = await Connection.open("127.0.0.1", port)
    caller = Caller(line)
    source = folder / "photo.jpg"
    source.write_bytes(common.photographs(None)[0])
    for _ in range(args.jobs):
        await submit(caller, [source.as_uri()])
    rows, cancels = [], []
    for round_ in range(args.rounds):
        start = time.perf_counter()
        job = await submit(caller, [source.as_uri()] * args.tasks)
        common.say(f"submitted in {time.perf_counter() - start:.1f} s")
        if round_ == 0:
            assert (await caller.ask("GET", f"/v1/jobs/{job}"))["counts"]["queued"] == args.tasks
            for name, target in LOOKS.items():
                took = await look(caller, target.format(job=job), args.calls)
                at = [f"{took[min(len(took) - 1, int(len(took) * part))]:.2f}" for part in (0.5, 0.99)]
                rows.append((name, *at, f"{took[-1]:.2f}"))
        start = time.perf_counter()
        ended = await caller.ask("POST", f"/v1/jobs/{job}/cancel")
        cancels.append(time.perf_counter() - start)
        assert ended["counts"]["cancelled"] == args.tasks, ended["counts"]
    await line.close()
    print(common.table((f"{args.tasks:,} queued tasks", "median ms", "p99 ms", "longest ms"), rows))
    told = ", ".join(f"{seconds:.2f}" for seconds in cancels)
    print(f"\ncancel of all: {told} s (median {statistics.median(cancels):.2f})")


@contextmanager
def database(kind: str) -> Iterator[tuple[list[str], str]]:
    """Flags of the service, and what it is."""
    if kind == "sqlite":
        yield [], f"SQLite {sqlite3.sqlite_version}"
        return
    with private_postgres() as (url, version):
        yield ["--set", f"database_url={url}"], f"PostgreSQL {version}, fsync=on"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, database(args.database) as (flags, what):
        print(common.machine("fastapi", "uvicorn", "sqlalchemy"), f"{what}, {platform.release()}", "", sep="\n")
        settings = {"local_work": "false", "max_queued": args.tasks * 20, "workers": 1}
        flags += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
        with PrivateService("--source-root", name, *flags) as service:
            asyncio.run(measure(service.port, Path(name), args))


if __name__ == "__main__":
    main()
