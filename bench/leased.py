"""What one task costs in queue, engine and recorder: no-op tasks through SqlLeaseQueue and LeasedEngine.

    python bench/leased.py [--tasks 10000] [--slots 8] [--synchronous NORMAL|FULL] [--rounds 3]
        [--database-url postgresql://USER@HOST/EMPTY_DATABASE | --postgresql on|off]

Prints tasks a second from the first submit to the last record, and CPU milliseconds a task of this whole process (not
of PostgreSQL's). `--postgresql` starts a private server with that `fsync`. One job a round, submitted in one call.
Batching is the engine's own: receives of 1 + PREFETCH messages, events and settled leases in groups of up to BATCH (see
below), each group one transaction.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from database import private_postgres
from pixelmill.engines.executor import Slot
from pixelmill.engines.leased import PREFETCH, LeasedEngine
from pixelmill.engines.reporter import BATCH
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import PixelmillError
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import Counts, Job, NewTask, State, TaskEvent
from pixelmill.jobs.recorder import Recorded
from pixelmill.jobs.store import JobStore
from pixelmill.targets.target import Progress
from pixelmill.testing.slots import Slots

PIPELINE = '{"steps":[{"name":"grayscale"},{"name":"resize","width":256,"height":256,"fit":"fill"}],"format":"jpeg"}'


class Nothing:
    """An executor whose tasks succeed at once."""

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        """Succeed, with an outcome of the usual size."""
        del tell
        await asyncio.sleep(0)
        outcome = {"format": "jpeg", "size": [256, 256], "timings": {"decode_ms": 1.5, "apply_ms": 0.5}, "bytes": 9999}
        return TaskEvent(
            "succeeded",
            message.task,
            message.job,
            message.owner,
            message.run,
            attempt,
            time.time(),
            target=slot.target,
            worker="1",
            outcome=outcome,
        )

    async def give_up(self, message: TaskMessage, attempt: int, error: PixelmillError) -> TaskEvent:
        """Never needed here."""
        del message, attempt
        raise error


async def measure(tasks: int, slots: int, synchronous: str, url: str, name: str) -> tuple[float, float, float]:
    """Seconds of submit, seconds until all is recorded, CPU seconds of all."""
    ended = asyncio.Event()
    async with Database(url, synchronous="FULL" if synchronous == "FULL" else "NORMAL") as db:
        store = JobStore(db)

        async def emit(events: Sequence[TaskEvent]) -> Recorded:
            recorded = await store.record(events)
            if any(job.ended for job in recorded.jobs):
                ended.set()
            return recorded

        engine = LeasedEngine(SqlLeaseQueue(db), Slots(slots), Nothing(), emit)
        await engine.start()
        job = Job(name, "owner", PIPELINE, State.QUEUED, Counts(), time.time())
        new = [NewTask(f"{name}-{i:08}", f"photo-{i}.jpg", f"key:uploads/owner/{i:08}") for i in range(tasks)]
        start, cpu = time.perf_counter(), time.process_time()
        await store.create_job(job, new)
        submitted = time.perf_counter() - start
        engine.wake()
        await ended.wait()
        total, used = time.perf_counter() - start, time.process_time() - cpu
        await engine.stop(1.0)
        counts = (await store.job("owner", name)).counts
        assert counts.succeeded == tasks, counts
    return submitted, total, used


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--synchronous", choices=["NORMAL", "FULL"], default="NORMAL")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--database-url", default="", help="PostgreSQL instead of SQLite in a folder of its own")
    parser.add_argument("--postgresql", choices=["on", "off"], help="a private server, with fsync on or off")
    args = parser.parse_args()
    with private_postgres(args.postgresql) if args.postgresql else nullcontext((args.database_url, "")) as found:
        run(args, *found)


def run(args: argparse.Namespace, database_url: str, version: str) -> None:
    """All rounds."""
    durable = f"synchronous={args.synchronous}"
    if database_url:
        durable = f"PostgreSQL {version}, fsync={args.postgresql}" if version else "the server's synchronous_commit"
    print(f"{args.tasks:,} tasks, {args.slots} slots, {durable}, prefetch {PREFETCH}, events a batch {BATCH}")
    for _ in range(args.rounds):
        with tempfile.TemporaryDirectory() as folder:
            url = database_url or f"sqlite:///{folder}/bench.sqlite"
            name = f"job-{time.time_ns()}"
            submitted, total, used = asyncio.run(measure(args.tasks, args.slots, args.synchronous, url, name))
        print(
            f"submit {submitted:.2f} s, all {total:.2f} s = {args.tasks / total:,.0f} tasks/s, "
            f"CPU {1000 * used / args.tasks:.3f} ms a task"
        )


if __name__ == "__main__":
    main()
