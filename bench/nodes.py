"""Joined nodes: what a second one brings, how soon a lost one's tasks run elsewhere, and what a large image holds up.

    python bench/nodes.py [--tasks 80] [--rounds 3]

Each node is `pixelmill node` in its own process, pinned to one core with one pool process; the hub's own gate is shut,
so that nodes do all the work. On one machine the hub shares the nodes' cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import cv2
import httpx
import numpy as np

from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import ThresholdGate
from pixelmill.fleet.load import LoadSample
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad
from server import PrivateService

PIPELINE = "sketch:denoise=full/format:jpeg"
SHUT = ("--workers", "1", "--set", "gate=threshold-0-0", "--set", "interactive_wait=60s")


def pictures() -> list[bytes]:
    """Small JPEGs, each 150 to 250 ms of work."""
    made = []
    for index in range(8):
        pixels = np.random.default_rng(index).integers(0, 256, (9, 12, 3), np.uint8)
        made.append(bytes(cv2.imencode(".jpg", cv2.resize(pixels, (480 + 16 * index, 360)))[1]))
    return made


class Fleet:
    """A hub, and nodes that can be started, stopped and looked at."""

    def __init__(self, service: PrivateService) -> None:
        self.url = f"http://127.0.0.1:{service.port}"
        self.client = httpx.Client(base_url=self.url, timeout=120)  # a new one a question would cost more than a task
        self.nodes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, core: int) -> None:
        """A node on one core; returns when the hub knows it."""
        command = ["taskset", "-c", str(core), sys.executable, "-m", "pixelmill", "node", "--join", self.url]
        command += ["--name", name, "--workers", "1", "--dedicated", "--log-level", "error"]
        self.nodes[name] = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while name not in self.described():
            time.sleep(0.05)

    def end(self, name: str) -> None:
        """SIGTERM, and gone."""
        process = self.nodes.pop(name)
        process.send_signal(signal.SIGCONT)
        process.terminate()
        process.wait(30)

    def described(self) -> dict[str, Any]:
        """What the hub says of each machine."""
        return {node["name"]: node for node in self.client.get("/v1/nodes").json()["items"]}

    def submit(self, count: int) -> str:
        """A job of so many tasks."""
        source = pictures()
        files = [("files", (f"{n}.jpg", source[n % 8], "image/jpeg")) for n in range(count)]
        answer = self.client.post("/v1/jobs", data={"pipeline": PIPELINE}, files=files)
        return str(answer.raise_for_status().json()["id"])

    def tasks(self, job: str) -> list[dict[str, Any]]:
        """Its tasks (up to 1,000)."""
        items: list[dict[str, Any]] = self.client.get(f"/v1/jobs/{job}/tasks", params={"limit": 1000}).json()["items"]
        return items

    def wait(self, job: str) -> list[dict[str, Any]]:
        """Its tasks, when all have ended."""
        while self.client.get(f"/v1/jobs/{job}").json()["state"] in {"queued", "running"}:
            time.sleep(0.25)
        tasks = self.tasks(job)
        assert all(task["state"] == "succeeded" for task in tasks), "a task failed"
        return tasks


@contextmanager
def fleet() -> Iterator[Fleet]:
    """A hub whose own gate is shut, and its nodes."""
    with PrivateService(*SHUT) as service:
        made = Fleet(service)
        try:
            while "gate" not in (here := next(iter(made.described().values()))["target"]) or here["gate"]["open"]:
                time.sleep(0.2)
            yield made
        finally:
            for name in list(made.nodes):
                made.end(name)


def throughput(fleet: Fleet, count: int) -> float:
    """Tasks a second, from the first start to the last end."""
    tasks = fleet.wait(fleet.submit(count))
    assert {task["target"] for task in tasks} <= set(fleet.nodes)
    return count / (max(_at(task["ended"]) for task in tasks) - min(_at(task["started"]) for task in tasks))


def _at(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def seconds_to_elsewhere(fleet: Fleet, name: str, number: signal.Signals) -> float:
    """From the end (or silence) of a node that runs a task to the last start of such a task elsewhere."""
    job = fleet.submit(60)
    while not fleet.described()[name]["target"]["running"]:
        time.sleep(0.02)
    struck = time.time()
    fleet.nodes[name].send_signal(number)
    again = [_at(task["started"]) - struck for task in fleet.wait(job) if task["attempts"] > 1]
    fleet.end(name)
    return max(again)


def heartbeats(fleet: Fleet) -> tuple[list[float], float]:
    """Latencies in ms that the hub sees while an image of 99 MB passes to the node, and the seconds that took."""
    body = b"P6 6000 5500 255\n" + np.random.default_rng(1).integers(0, 256, 99_000_000, np.uint8).tobytes()
    seen: list[float] = []
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            seen.append(next(node for name, node in fleet.described().items() if name in fleet.nodes)["latency_ms"])

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    for _ in range(5):
        query = {"pipeline": "info"}
        answer = httpx.post(f"{fleet.url}/v1/process", params=query, content=body, timeout=120).raise_for_status()
        assert answer.headers["x-pixelmill-target"] in fleet.nodes
    seconds = (time.perf_counter() - began) / 5
    done.set()
    watcher.join()
    return seen, seconds


class _Place:
    """A target with one slot that is never free, or always is."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def load(self) -> TargetLoad:
        return TargetLoad(0, 1)

    async def run(self, request: RunRequest) -> RunResult:
        raise NotImplementedError


async def gate_to_overflow() -> list[float]:
    """Seconds from the sample that shuts the last gate to the slot of a task that waited, on overflow."""
    found = []
    for _ in range(200):
        gate = ThresholdGate()
        dispatcher = Dispatcher([_Place("own")], reserved=0, gates={"own": gate})
        dispatcher.add(_Place("cloud"), overflow=True)
        held = await dispatcher.acquire()
        waiting = asyncio.ensure_future(dispatcher.acquire())
        await asyncio.sleep(0)
        for _ in range(4):
            gate.observe(LoadSample(90, 50, 0, 0, 0))
        began = time.perf_counter()
        gate.observe(LoadSample(90, 50, 0, 0, 0))
        dispatcher.poke()
        slot = await waiting
        found.append(time.perf_counter() - began)
        assert slot.target == "cloud"
        slot.release()
        held.release()
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=80)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    say = sys.stdout.write
    cores = sorted(os.sched_getaffinity(0))
    say(f"load of this machine before: {os.getloadavg()[0]:.1f} on {len(cores)} cores\n")
    with fleet() as here:
        pairs = []
        for _ in range(options.rounds):
            here.start("one", cores[0])
            single = throughput(here, options.tasks)
            here.start("two", cores[1 % len(cores)])
            pairs.append((single, throughput(here, options.tasks)))
            here.end("two")
            here.end("one")
            say(f"one node {pairs[-1][0]:.2f}/s, two {pairs[-1][1]:.2f}/s, ratio {pairs[-1][1] / pairs[-1][0]:.2f}\n")
        say(f"two nodes against one, median: {statistics.median(two / one for one, two in pairs):.2f}\n")
        here.start("stays", cores[0])
        for number, words in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "fell silent (SIGSTOP)")):
            times = []
            for round_ in range(options.rounds):
                here.start(f"goes-{number}-{round_}", cores[1 % len(cores)])
                times.append(seconds_to_elsewhere(here, f"goes-{number}-{round_}", number))
            say(f"a node {words}: its task began elsewhere after {min(times):.2f} to {max(times):.2f} s\n")
        seen, seconds = heartbeats(here)
        say(f"an image of 99 MB: {seconds:.2f} s; heartbeats meanwhile {statistics.median(seen):.1f} ms (median), ")
        say(f"{max(seen):.1f} ms (worst of {len(set(seen))})\n")
    shut = asyncio.run(gate_to_overflow())
    say(f"from the sample that shuts the last gate to a slot elsewhere: {1e6 * statistics.median(shut):.0f} us\n")
    say(f"load of this machine after: {os.getloadavg()[0]:.1f}\n")


if __name__ == "__main__":
    main()
