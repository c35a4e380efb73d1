"""A batch under siege: what is attacked, and when. ``siege_blows.py`` has the blows, ``siege_verdict.py`` the verdict.

All engines share it: an engine is a record of the servers that it needs, a blow a function by its name. Blows come at
random moments of the batch's progress; so do new jobs, so that there is always work that a blow can hit.
"""

from __future__ import annotations

import io
import random
import secrets
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import psutil
from cable import Cable
from node_tools import NodeProcess
from service_process import ServiceProcess

from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.service.backends import make_database, make_queues
from pixelmill.service.objects import open_objects
from pixelmill.service.settings import ServiceConfig
from servers import Azurite, Moto, Postgres, RabbitMQ, Redis, Server

S = TypeVar("S", bound=Server)
PROGRAM = (str(Path(__file__).parent / "poisoned.py"),)
PIPELINE = "median:9/resize:64,64,fit=fill/format:png"
LEASE_S = 4.0
ATTEMPTS = 8
"""More than blows can take from one task, however unlucky it is."""
STALL_S = 180.0
"""So long without one more task that ended is a defect, however slow the machine is."""
WORKERS = 2


@dataclass(frozen=True, slots=True)
class Besieged:
    """An engine: its servers beside Redis, and the blows that only it can take."""

    servers: tuple[type[Server], ...] = ()
    blows: tuple[str, ...] = ()


ENGINES: Mapping[str, Besieged] = {
    "leased, sqlite": Besieged(),
    "leased, postgresql": Besieged((Postgres,), ("postgresql restarts", "postgresql dies")),
    "leased, azure": Besieged((Azurite,), ("delivered twice",)),
    "leased, sqs": Besieged((Moto,), ("delivered twice",)),
    "celery, rabbitmq": Besieged(
        (RabbitMQ, Postgres), ("delivered twice", "rabbitmq restarts", "postgresql restarts", "postgresql dies")
    ),
}


def settings_of(server: Server) -> dict[str, str]:
    """How service and workers are told of a server."""
    name = f"siege-{secrets.token_hex(4)}"
    match server:
        case Postgres():
            return {"database_url": server.url()}
        case RabbitMQ():
            return {"queue_url": server.url()}
        case Azurite():
            return {"queue_url": f"azure:{name}", "azure_connection": server.connection_string}
        case Moto():
            return {"queue_url": f"sqs:{name}"}
        case Redis():
            return {"redis_url": server.url}
    raise AssertionError(server)


def surroundings(server: Server) -> dict[str, str]:
    """Variables that clients of a server need."""
    if not isinstance(server, Moto):
        return {}
    key = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    return key | {"AWS_ENDPOINT_URL_SQS": server.url, "AWS_REGION": "us-east-1", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass(frozen=True, slots=True)
class Size:
    """How large a siege is. ``opening`` tasks are there at once; a page more when fewer than ``page`` are open."""

    tasks: int
    opening: int
    page: int
    poison: int
    bad: int
    blows: Mapping[str, int]


class Tripwire(io.BytesIO):
    """A file that says when it is read."""

    def __init__(self, body: bytes, read: threading.Event) -> None:
        super().__init__(body)
        self._read = read

    def read(self, size: int | None = -1, /) -> bytes:
        self._read.set()
        return super().read(size)


class Siege:
    """The fleet, the batch and the attacker. ``files`` are all tasks in their order, by name."""

    def __init__(self, folder: Path, servers: Sequence[Server], size: Size, seed: int, cable: Cable | None) -> None:
        self.folder, self.servers, self.size, self.cable = folder, servers, size, cable
        self.chance = random.Random(seed)
        self.settings = {key: value for server in servers for key, value in settings_of(server).items()}
        common = {**self.settings, "lease": LEASE_S, "max_attempts": ATTEMPTS, "drain": 10, "log_format": "json"}
        self._flags = [word for name, value in common.items() for word in ("--set", f"{name}={value}")]
        options = ["--workers", "1", "--set", "joined_gate=auto", *self._flags]
        if cable is not None:
            options += ["--host", cable.hub, "--insecure"]
        self.hub = ServiceProcess(folder / "data", *options, program=PROGRAM)
        self.workers: list[subprocess.Popen[bytes]] = []
        self.nodes: dict[str, NodeProcess] = {}
        self.files: list[tuple[str, bytes]] = []
        self.jobs: dict[str, int] = {}  # tasks that have ended, by job
        self.sent = 0
        self.struck: list[tuple[str, int, int]] = []  # the blow, and how many tasks had ended and were open
        self._open: dict[str, int] = {}  # tasks in all, of jobs that have not ended
        self.pending: dict[str, tuple[float, Callable[[], object]]] = {}
        self._moved = (0, time.monotonic())
        self.client = httpx.Client(base_url=self.hub.url, timeout=60.0, trust_env=False)

    # -- the fleet -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """The hub, two workers, a node beside it, and one at the end of the cable."""
        self.hub.start()
        for _ in range(WORKERS):
            self.start_worker()
        for name in ("near", "far") if self.cable else ("near",):
            self.start_node(name)
        self.until(lambda: self.joined() == set(self.nodes), "the nodes join")

    def start_worker(self) -> None:
        with (self.folder / "workers.log").open("ab") as log:
            command = [sys.executable, *PROGRAM, "worker", "--data", str(self.hub.data), "--workers", "1", *self._flags]
            self.workers.append(subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL))

    def start_node(self, name: str) -> None:
        prefix = self.cable.prefix if self.cable and name == "far" else ()
        join = ("--join", self.hub.url, "--dedicated", "--workers", "1", "--log-format", "json")
        self.nodes[name] = NodeProcess(self.folder, name, *join, prefix=prefix, program=PROGRAM)

    def joined(self) -> set[str]:
        """Nodes that the hub has now."""
        items = self.client.get("/v1/nodes").raise_for_status().json()["items"]
        return {node["name"] for node in items} & {"near", "far"}

    def end(self) -> None:
        """All processes, servers apart."""
        processes = [*self.workers, *(node.process for node in self.nodes.values())]
        if self.hub.process is not None:
            processes.append(self.hub.process)
        for process in processes:
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                process.kill()  # a stopped one too
                process.wait(20)
                psutil.wait_procs(family, timeout=5)
        self.client.close()

    # -- the batch -------------------------------------------------------------------------------------------------

    def submit(self, count: int, begun: threading.Event | None = None) -> None:
        """A job of the next tasks; sent again until it is accepted. ``begun`` is set when some of it is on its way."""
        number = len(self.jobs)
        bodies: list[tuple[str, bytes | Tripwire]] = [*self.files[self.sent : self.sent + count]]
        if begun is not None:
            index = self.chance.randrange(len(bodies))
            name, body = self.files[self.sent + index]
            bodies[index] = (name, Tripwire(body, begun))
        parts = [("files", (name, body, "image/jpeg")) for name, body in bodies]
        deadline = time.monotonic() + STALL_S
        while True:
            with suppress(httpx.HTTPError):
                answer = self.client.post(
                    "/v1/jobs", data={"pipeline": PIPELINE}, files=parts, headers={"Idempotency-Key": f"page-{number}"}
                )
                if answer.status_code == 202:
                    break
                assert answer.status_code == 503, answer.text
            assert time.monotonic() < deadline, "a job was not accepted"
            time.sleep(0.1)  # between two requests; the bound is above
        job = answer.json()["id"]
        assert job not in self.jobs
        self.jobs[job], self._open[job] = 0, len(parts)
        self.sent += len(parts)

    @property
    def done(self) -> int:
        """Tasks that have ended, as last seen."""
        return sum(self.jobs.values())

    def look(self) -> None:
        """See how far the batch is, put right what is due, and fail if nothing moves any more."""
        for name, (due, action) in list(self.pending.items()):
            if time.monotonic() >= due:
                del self.pending[name]
                action()
        for job, count in list(self._open.items()):
            with suppress(httpx.HTTPError):  # the service may be away for a moment
                answer = self.client.get(f"/v1/jobs/{job}")
                assert answer.status_code in {200, 503}, answer.text
                counts = answer.raise_for_status().json()["counts"]
                self.jobs[job] = counts["succeeded"] + counts["failed"] + counts["cancelled"]
                if self.jobs[job] == count:
                    del self._open[job]
        if self.done != self._moved[0]:
            self._moved = (self.done, time.monotonic())

    def until(self, holds: Callable[[], bool], what: str, keep_open: int = 0) -> None:
        """Look again until it holds; meanwhile at least so many tasks are open, as long as there are any left."""
        self._moved = (self.done, time.monotonic())
        while True:
            self.look()
            while self.sent - self.done < keep_open and self.sent < len(self.files):
                self.submit(self.size.page)
            with suppress(httpx.HTTPError):
                if holds():
                    return
            if time.monotonic() - self._moved[1] > STALL_S:
                raise AssertionError(f"nothing moved for {STALL_S:g} s: {what}; {self.story()}")
            time.sleep(0.02)  # between two looks; the bound is above

    def run(self, blows: Mapping[str, Callable[[Siege], None]]) -> None:
        """The whole batch, with all blows."""
        self.submit(self.size.opening)
        plan = [name for name, times in self.size.blows.items() for _ in range(times)]
        self.chance.shuffle(plan)
        for number, name in enumerate(plan):
            left = len(plan) - number
            spare = len(self.files) - self.done - left * 2 * self.size.page
            goal = self.done + self.chance.randrange(1, max(2, 2 * spare // (left + 1)))
            self.until(
                lambda: self.done >= goal and name not in self.pending,  # noqa: B023 -- called before the next round
                f"{goal} tasks have ended before {name!r}",
                keep_open=self.size.page,
            )
            self.struck.append((name, self.done, self.sent - self.done))
            blows[name](self)
        self.until(lambda: not self.pending, "all is put right", keep_open=self.size.page)
        self.until(lambda: self.joined() == set(self.nodes), "the nodes are back", keep_open=self.size.page)
        while self.sent < len(self.files):
            self.submit(100)
        self.until(lambda: not self._open, "all jobs end")

    def later(self, name: str, seconds: float, action: Callable[[], object]) -> None:
        """Put something right after so many seconds, while the batch and other blows go on."""
        self.pending[name] = (time.monotonic() + seconds, action)

    def story(self) -> str:
        """What was done to it, for people."""
        return (
            f"{self.done} of {self.sent} tasks have ended; {Counter(name for name, *_ in self.struck)}; {self.folder}"
        )

    def server(self, kind: type[S]) -> S:
        """The server of that kind."""
        return next(server for server in self.servers if isinstance(server, kind))

    @asynccontextmanager
    async def queue(self) -> AsyncIterator[LeaseQueue]:
        """The queue of tasks, seen as a worker sees it."""
        values: dict[str, Any] = self.settings
        config = ServiceConfig(data=self.hub.data, **values)
        queues = make_queues(config, open_objects(config))
        if queues is not None:
            async with queues.tasks as queue:
                yield queue
            return
        database = make_database(config)
        await database.open()
        try:
            yield SqlLeaseQueue(database, holder="siege")
        finally:
            await database.close()
