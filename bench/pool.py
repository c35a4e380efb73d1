"""The local pool against concurrent.futures and Pebble: the cost of a task, of a crash, of a start, and who stays.

``python bench/pool.py [TASKS]``. The task does nothing: 300 KB go in, 10 KB come back. CPU is of the whole process
tree; medians of interleaved rounds in one run.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import multiprocessing
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from pebble import ProcessExpired, ProcessPool

from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import RunRequest
from pool_noop import nothing

WORKERS = 3
BODY = os.urandom(300_000)
ROUNDS = 5


def nothing_stock(pipeline: str, body: bytes) -> tuple[dict[str, Any], bytes]:
    """The same for pools that pickle."""
    outcome = nothing(RunRequest("1", pipeline, body))
    return outcome.to_dict(), outcome.bytes or b""


def tree_cpu() -> float:
    """CPU seconds so far of this process, its descendants, and those of them that were reaped."""
    seconds = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.Error):
            seconds += sum(process.cpu_times()[:4])
    return seconds


def warm() -> None:
    """What a stock pool has its processes import."""
    import cv2
    import simplejpeg

    cv2.setNumThreads(1)
    del simplejpeg


class Ours:
    """The local pool, driven as the service drives it."""

    name = "pixelmill (asyncio)"

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pool = LocalPool(workers=WORKERS, entry="pool_noop:nothing")
        self.loop.run_until_complete(self.pool.start())

    def run(self, count: int) -> None:
        """So many tasks, eight at a time."""

        async def one(turn: asyncio.Semaphore) -> None:
            async with turn:
                await self.pool.run(RunRequest("1", "[]", BODY))

        async def several() -> None:
            turn = asyncio.Semaphore(8)
            await asyncio.gather(*(one(turn) for _ in range(count)))

        self.loop.run_until_complete(several())

    def crash(self) -> None:
        """Lose a process, and have the next task done."""
        with suppress(Exception):
            self.loop.run_until_complete(self.pool.run(RunRequest("1", "leave", b"")))
        self.run(1)

    def stop(self) -> None:
        """End it."""
        self.loop.run_until_complete(self.pool.stop())
        self.loop.close()


class OursUvloop(Ours):
    """The same on uvloop."""

    name = "pixelmill (uvloop)"

    def __init__(self) -> None:
        import uvloop

        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
        super().__init__()
        asyncio.set_event_loop_policy(None)


class Stock:
    """concurrent.futures: a process that dies breaks the pool, which must be built anew."""

    name = "concurrent.futures (spawn)"
    method = "spawn"

    def __init__(self) -> None:
        self.start()
        self.run(WORKERS * 4)

    def start(self) -> None:
        """Build it."""
        context = multiprocessing.get_context(self.method)
        self.pool: Any = concurrent.futures.ProcessPoolExecutor(WORKERS, context, initializer=warm)

    def submit(self, pipeline: str, body: bytes) -> Any:
        """One task."""
        return self.pool.submit(nothing_stock, pipeline, body)

    def run(self, count: int) -> None:
        """So many tasks, eight at a time, awaited from an event loop as a service would."""

        async def one(turn: asyncio.Semaphore) -> None:
            async with turn:
                await asyncio.wrap_future(self.submit("[]", BODY))

        async def several() -> None:
            turn = asyncio.Semaphore(8)
            await asyncio.gather(*(one(turn) for _ in range(count)))

        asyncio.run(several())

    def crash(self) -> None:
        """Lose a process, and have the next task done."""
        with suppress(BrokenProcessPool):
            self.submit("leave", b"").result()
        self.pool.shutdown()
        self.start()
        self.submit("[]", BODY).result()

    def stop(self) -> None:
        """End it."""
        self.pool.shutdown()


class Forkserver(Stock):
    """The same with the fork server, which has imported everything."""

    name = "concurrent.futures (forkserver)"
    method = "forkserver"


class Fork(Stock):
    """The same with plain fork, the default before Python 3.14: only safe in a program without threads."""

    name = "concurrent.futures (fork)"
    method = "fork"


class Pebble(Stock):
    """Pebble: it replaces a process that dies, and has hard time limits."""

    name = "pebble (spawn)"

    def start(self) -> None:
        """Build it."""
        context = multiprocessing.get_context(self.method)
        self.pool = ProcessPool(max_workers=WORKERS, initializer=warm, context=context)

    def submit(self, pipeline: str, body: bytes) -> Any:
        """One task."""
        return self.pool.schedule(nothing_stock, args=(pipeline, body), timeout=60)

    def crash(self) -> None:
        """Lose a process, and have the next task done."""
        with suppress(ProcessExpired):
            self.submit("leave", b"").result()
        self.submit("[]", BODY).result()

    def stop(self) -> None:
        """End it."""
        self.pool.stop()
        self.pool.join()


KINDS: list[Callable[[], Any]] = [Ours, OursUvloop, Stock, Forkserver, Pebble]


def measured(action: Callable[[], Any]) -> tuple[float, float, Any]:
    """Wall and CPU seconds, and what came out."""
    wall, cpu = time.perf_counter(), tree_cpu()
    result = action()
    return time.perf_counter() - wall, tree_cpu() - cpu, result


def orphans(kind: str) -> str:
    """Kill a process that owns such a pool and a listening port; who is left after two seconds, and is the port?"""
    process = subprocess.Popen(
        [sys.executable, __file__, "--victim", kind], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None
    port = int(process.stdout.readline())
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=2)
    import socket

    with socket.socket() as again:
        try:
            again.bind(("127.0.0.1", port))
            again.listen()
            free = "free"
        except OSError:
            free = "taken"
    for child in alive:
        child.kill()
    process.stdout.close()
    return f"{len(alive)} of {len(children)} processes left, port {free}"


def victim(kind: str) -> None:
    """Own a port and a pool, say so, and wait to be killed."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        pool = next(one for one in (*KINDS, Fork) if getattr(one, "__name__", "") == kind)()
        pool.run(20)
        print(server.getsockname()[1], flush=True)
        time.sleep(600)


def prefork_saves() -> None:
    """Start-up of a command that runs one task: CPU of everything, with and without the early fork."""
    code = (
        "import sys, asyncio; sys.path[:0] = [{here!r}]\n"
        "{early}\n"
        "from pixelmill.targets.local import LocalPool\nfrom pixelmill.targets.target import RunRequest\n"
        "async def main():\n"
        "    pool = LocalPool(workers=2, entry='pool_noop:nothing', preload=('numpy', 'cv2', 'simplejpeg', 'pydantic'),"
        " zygote=zygote)\n"
        "    await pool.start(); await pool.run(RunRequest('1', '[]', b'')); await pool.stop()\n"
        "asyncio.run(main())\n"
    )
    here = str(Path(__file__).parent)
    imports = "import os; os.environ['OPENBLAS_NUM_THREADS'] = '1'; import numpy, cv2, simplejpeg, pydantic; "
    fork = "from pixelmill.targets.spawner import prefork; zygote = prefork()"
    ways = {
        "exec": "zygote = None",
        "prefork": fork,
        "imports, then exec": imports + "zygote = None",
        "imports, then prefork": imports + fork,
    }
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for _ in range(15):
        for name, early in ways.items():
            # Exact, unlike tree_cpu, and enough here: everything has ended and was reaped.
            before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
            subprocess.run([sys.executable, "-c", code.format(here=here, early=early)], check=True)
            wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
            figures[name].append((wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime))
    for name, values in figures.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:32}  {1e3 * wall:6.0f} ms wall  {1e3 * cpu:6.0f} ms CPU")


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    pools: list[Any] = []
    print(
        f"{WORKERS} workers on {os.cpu_count()} cores; start-up includes the imports of NumPy, OpenCV and simplejpeg\n"
    )
    for kind in KINDS:
        wall, cpu, pool = measured(kind)
        print(f"{pool.name:32}  start-up {wall:6.2f} s wall  {cpu:6.2f} s CPU")
        pools.append(pool)
    costs: dict[str, list[tuple[float, float]]] = {pool.name: [] for pool in pools}
    for _ in range(ROUNDS):
        for pool in pools:
            wall, cpu, _ = measured(functools.partial(pool.run, count))
            costs[pool.name].append((wall / count, cpu / count))
    print()
    for name, values in costs.items():
        wall, cpu = (statistics.median(column) for column in zip(*values, strict=True))
        print(f"{name:32}  a task {1e3 * wall:6.3f} ms wall  {1e3 * cpu:6.3f} ms CPU of the tree")
    print()
    for pool in pools:
        times = [measured(pool.crash)[:2] for _ in range(9)]
        wall, cpu = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{pool.name:32}  crash and next result {1e3 * wall:7.1f} ms wall  {1e3 * cpu:7.1f} ms CPU")
        pool.stop()
    print()
    for kind in (*KINDS, Fork):
        print(f"{kind.name:32}  after kill -9: {orphans(kind.__name__)}")  # type: ignore[attr-defined] # classes all
    print()
    prefork_saves()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--victim"]:
        victim(sys.argv[2])
    else:
        main()
