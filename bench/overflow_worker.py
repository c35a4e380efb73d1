"""From the last gate of our own shutting to the first task of an overflow worker, over RabbitMQ with a queue of work.

    PYTHONPATH=src python bench/overflow_worker.py [--rounds 20]

The engines are those of `pixelmill worker` and `pixelmill worker --overflow`, each in its process, on a broker that
this script starts; tasks last 50 ms and do nothing. A signal shuts the worker's gate (a sample of the load not
counted); time is taken until the overflow worker begins a task. Then the gate opens, and the
next round begins when overflow rests.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))

from celery_cost import Nothing, fill
from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.executor import Slot
from pixelmill.engines.rabbit import Address, RabbitQueue
from pixelmill.fleet.gates import OPEN, AutoGate, Gate
from pixelmill.fleet.spill import SETTLE_S, Spill
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import TaskEvent
from pixelmill.targets.target import Progress
from pixelmill.testing.slots import Slots
from servers import RabbitMQ

TASK_S = 0.05
SLOTS = 2
WAIT_S = 30.0


class Door(AutoGate):
    """A gate that signals open and shut."""

    shut = False

    def verdict(self) -> Gate:
        """As last said."""
        return Gate(open=False, reason="it was told to") if self.shut else OPEN


class Work(Nothing):
    """Tasks that last a while. ``begun`` is told of each."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()

    async def execute(
        self, message: TaskMessage, attempt: int, slot: Slot, tell: Callable[[Progress], None]
    ) -> TaskEvent:
        """Succeed, later."""
        self.begun.set()
        await asyncio.sleep(TASK_S)
        return await super().execute(message, attempt, slot, tell)


async def forget(_events: Sequence[TaskEvent]) -> None:
    """Nobody records here."""


async def own(url: str) -> None:
    """A worker of our own, until it is ended."""
    door, loop = Door(), asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, setattr, door, "shut", True)
    loop.add_signal_handler(signal.SIGUSR2, setattr, door, "shut", False)
    async with RabbitQueue(Address.parse(url)) as broker:
        engine = CeleryEngine(broker, Slots(SLOTS), Work(), forget, prefetch=3 * SLOTS, gate=door)
        await engine.start()
        await asyncio.Event().wait()


async def consumers(broker: RabbitQueue, wanted: int) -> None:
    """Wait until so many workers of our own consume."""
    async with asyncio.timeout(WAIT_S):
        while (await broker.crowd()).own != wanted:  # noqa: ASYNC110 -- another process does it
            await asyncio.sleep(0.02)


async def measure(url: str, worker: subprocess.Popen[bytes], rounds: int) -> list[float]:
    """Seconds, one a round."""
    work, times = Work(), []
    spill = Spill({}, lambda: "")
    async with RabbitQueue(Address.parse(url)) as broker, RabbitQueue(Address.parse(url)) as looker:
        engine = CeleryEngine(broker, Slots(SLOTS), work, forget, prefetch=SLOTS, spill=spill)
        await consumers(looker, 1)
        await engine.start()
        await asyncio.sleep(SETTLE_S)
        for _ in range(rounds):
            while spill.most >= 0:  # noqa: ASYNC110 -- the engine looks in its own time
                await asyncio.sleep(0.02)
            await asyncio.sleep(1.0)  # what it had begun has ended
            await asyncio.to_thread(fill, url, 200)
            work.begun.clear()
            worker.send_signal(signal.SIGUSR1)
            start = time.perf_counter()
            async with asyncio.timeout(WAIT_S):
                await work.begun.wait()
            times.append(time.perf_counter() - start)
            worker.send_signal(signal.SIGUSR2)
            await consumers(looker, 1)
        await engine.stop(1.0)
    return times


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder:
        broker = RabbitMQ(Path(folder) / "rabbit").start()
        try:
            with broker.virtual_host() as url:
                fill(url, 1)  # which makes the queues
                worker = subprocess.Popen([sys.executable, __file__, "--worker", url])
                try:
                    times = asyncio.run(measure(url, worker, rounds))
                finally:
                    worker.kill()
                    worker.wait()
        finally:
            broker.close()
    print(f"{rounds} rounds: median {statistics.median(times):.2f} s, longest {max(times):.2f} s")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        asyncio.run(own(sys.argv[2]))
    else:
        main()
