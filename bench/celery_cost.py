"""What a task costs with the Celery engine beside a bare Celery task: CPU of the whole process tree, broker left out.

    PYTHONPATH=src python bench/celery_cost.py [--tasks 2000] [--slots 2] [--rounds 3]

All run no-op tasks from the same kind of RabbitMQ quorum queue, with late acknowledgment, the same prefetch and the
same messages, on a broker of their own which this script starts (as the tests do):

* `prefork`, `threads`: a plain Celery worker whose task does nothing and gives nothing back.
* `engine`: our engine and a task that ends at once in the event loop; events go into a queue on the same broker.
* `pool`: the same with a pool process that does nothing (10 KB come back), and results put into a store in memory.
* `folder`: the same with a folder as the store: two files a task, put if absent.

A round begins when the worker has run 200 tasks and is quiet, and ends a second after the queue is empty. CPU is that
of the worker and all processes below it; tasks/s are bounded by how fast this script fills the queue.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.celery_worker import make_app
from pixelmill.engines.event_queue import QueueSink
from pixelmill.engines.executor import Executor, Slot
from pixelmill.engines.queue import Message
from pixelmill.engines.rabbit import Address, RabbitQueue
from pixelmill.errors import PixelmillError
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import TaskEvent
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import Progress
from pixelmill.testing.slots import Slots
from servers import RabbitMQ

KINDS = ("prefork", "threads", "engine", "pool", "folder")
WARM = 200
PREFETCH = 3
"""Messages a slot, in all of them."""
PIPELINE = '{"steps":[{"name":"grayscale"},{"name":"resize","width":256,"height":256,"fit":"fill"}],"format":"jpeg"}'


def bare_app(url: str) -> Any:
    """The plain Celery app: our queues and settings, a task that does nothing."""
    app = make_app(Address.parse(url))
    app.set_current()

    @app.task(name="pixelmill.run", ignore_result=True)  # type: ignore[untyped-decorator]  # Celery has no types
    def run(body: str) -> None:
        del body

    return app


def run_bare(kind: str, url: str, slots: int) -> None:
    """A plain Celery worker, until it is ended."""
    app = bare_app(url)
    app.conf.worker_prefetch_multiplier = PREFETCH
    app.worker_main(["worker", "-P", kind, "-c", str(slots), "-l", "ERROR", "--without-gossip", "--without-mingle"])


class Nothing:
    """An execution whose tasks succeed at once."""

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        """Succeed."""
        del tell
        outcome = {"format": "jpeg", "size": [256, 256], "bytes": 9999}
        one = message
        return TaskEvent(
            "succeeded", one.task, one.job, one.owner, one.run, attempt, time.time(), slot.target, "1", outcome
        )

    async def give_up(self, message: TaskMessage, attempt: int, error: PixelmillError) -> TaskEvent:
        """Never needed here."""
        del message, attempt
        raise error


async def run_ours(kind: str, url: str, slots: int, folder: Path) -> None:
    """Our worker, until it is ended."""
    address = Address.parse(url)
    events = RabbitQueue(address.renamed("events"), queues=("tasks",))
    await events.open()
    async with RabbitQueue(address) as broker:
        if kind == "engine":
            engine = CeleryEngine(broker, Slots(slots), Nothing(), QueueSink(events).emit, prefetch=PREFETCH * slots)
        else:
            pool = LocalPool(workers=slots, entry="pool_noop:nothing", recycle_after=10**9)
            await pool.start()
            store: ObjectStore = FolderStore(folder) if kind == "folder" else MemoryStore()
            await store.put("source", b"x" * 100)
            dispatcher = Dispatcher([pool], reserved=0)
            engine = CeleryEngine(
                broker, dispatcher, Executor(store), QueueSink(events).emit, prefetch=PREFETCH * slots
            )
        await engine.start()
        await asyncio.Event().wait()


def fill(url: str, tasks: int) -> None:
    """Queue the tasks."""

    async def send() -> None:
        async with RabbitQueue(Address.parse(url)) as broker:
            messages = [
                TaskMessage(f"t{i:06}", 0, "job", "ann", f"{i}.jpg", PIPELINE, "key:source") for i in range(tasks)
            ]
            await broker.send([Message(one.id, one.to_json()) for one in messages])

    asyncio.run(send())


def left(url: str) -> int:
    """Messages that wait."""

    async def look() -> int:
        async with RabbitQueue(Address.parse(url)) as broker:
            return (await broker.depth()).waiting

    return asyncio.run(look())


def cpu(pid: int) -> float:
    """CPU seconds so far of a process and all below it, those that ended included."""
    parent = psutil.Process(pid)
    total = 0.0
    for process in (parent, *parent.children(recursive=True)):
        times = process.cpu_times()
        total += times.user + times.system + times.children_user + times.children_system
    return total


def measure(kind: str, broker: RabbitMQ, tasks: int, slots: int) -> tuple[float, float]:
    """CPU milliseconds a task, and tasks a second."""
    with broker.virtual_host() as url, tempfile.TemporaryDirectory() as folder:
        fill(url, WARM)
        process = subprocess.Popen([sys.executable, __file__, "--worker", kind, url, str(slots), folder])
        try:
            while left(url):
                time.sleep(0.05)
            time.sleep(1.0)  # the last ones end, and the worker is quiet
            before, start = cpu(process.pid), time.perf_counter()
            fill(url, tasks)
            while left(url):
                time.sleep(0.05)
            seconds = time.perf_counter() - start
            time.sleep(1.0)
            return 1000 * (cpu(process.pid) - before) / tasks, tasks / seconds
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
            process.wait()


def main(arguments: Sequence[str]) -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args(arguments)
    figures: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
    with tempfile.TemporaryDirectory() as folder:
        broker = RabbitMQ(Path(folder) / "rabbit").start()
        try:
            for _ in range(args.rounds):  # in turn, so that whatever else runs here hits all alike
                for kind in KINDS:
                    figures[kind].append(measure(kind, broker, args.tasks, args.slots))
        finally:
            broker.close()
    print(
        f"{args.tasks:,} tasks, {args.slots} slots, {args.rounds} rounds, {multiprocessing.cpu_count()} cores; medians"
    )
    print("| | CPU ms a task | tasks/s |\n|---|---|---|")
    for kind, values in figures.items():
        milliseconds, pace = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"| {kind} | {milliseconds:.2f} | {pace:,.0f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        KIND, URL, SLOTS, FOLDER = sys.argv[2:]
        if KIND in {"prefork", "threads"}:
            run_bare(KIND, URL, int(SLOTS))
        else:
            asyncio.run(run_ours(KIND, URL, int(SLOTS), Path(FOLDER)))
    else:
        main(sys.argv[1:])
