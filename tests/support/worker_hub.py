"""A service whose tasks are run by `pixelmill worker` processes, which tests start and kill."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis as RedisClient

from pixelmill.jobs.model import Job
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service import Service, ServiceConfig
from servers import Azurite, Moto, Redis

BOUND_S = 150.0
LEASE = 2.0


def queue_settings(kind: str, request: pytest.FixtureRequest, environment: pytest.MonkeyPatch) -> dict[str, Any]:
    """For ``sqlite``, ``postgresql``, ``azure``, ``sqs``, ``rabbitmq`` on real servers; with Redis where it ends so."""
    settings: dict[str, Any] = {}
    prefix = f"t{secrets.token_hex(4)}"
    if kind.startswith("postgresql"):
        settings["database_url"] = request.getfixturevalue("postgres_url")
    if kind.startswith("azure"):
        azurite: Azurite = request.getfixturevalue("azurite_server")
        settings |= {"queue_url": f"azure:{prefix}", "azure_connection": azurite.connection_string}
    if kind.startswith("sqs"):
        moto: Moto = request.getfixturevalue("moto_server")
        for name, value in {
            "AWS_ENDPOINT_URL_SQS": moto.url,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
        }.items():
            environment.setenv(name, value)
        settings["queue_url"] = f"sqs:{prefix}"
    if kind.startswith("rabbitmq"):
        settings["queue_url"] = request.getfixturevalue("rabbitmq_url")
    if kind.endswith("redis"):
        server: Redis = request.getfixturevalue("redis_server")
        number = 7  # a database of its own: the stream has one name
        with RedisClient.from_url(f"{server.url[:-1]}{number}") as client:
            client.flushdb()
        settings["redis_url"] = f"{server.url[:-1]}{number}"
    return settings


class Hub:
    """A service that runs no tasks itself, and the means to start workers for it. ``lease``: that of workers."""

    def __init__(self, data: Path, *, lease: float = LEASE, **settings: Any) -> None:
        self.data, self.lease, self.settings = data, lease, settings
        config = {"workers": 1, "local_work": False, "lease_s": LEASE, "max_attempts": 6, **settings}
        self.service = Service(ServiceConfig(data=data, **config))
        self.workers: list[subprocess.Popen[bytes]] = []

    def start_worker(self, *program: str, options: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        """`pixelmill worker`, or another program that takes its arguments; ``options`` in addition."""
        names = {"data": self.data, "lease": self.lease, "workers": 2, "drain": 10, **self.settings}
        texts = {name: json.dumps(value) if isinstance(value, Mapping) else value for name, value in names.items()}
        flags = [word for name, text in texts.items() for word in ("--set", f"{name}={text}")]
        with (self.data.parent / "workers.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, *(program or ("-m", "pixelmill")), "worker", *flags, *options], stdout=log, stderr=log
            )
        self.workers.append(process)
        return process

    async def until(self, job: Job, done: int) -> Job:
        """The job, once so many of its tasks have ended. The bound is on progress: servers of tests may be slow."""
        before = -1
        while True:
            async with asyncio.timeout(BOUND_S):
                while (now := await self.service.job("ann", job.id)).counts.done == before < done:  # noqa: ASYNC110 -- another process does it
                    await asyncio.sleep(0.05)  # between two questions
            before = now.counts.done
            if before >= done:
                return now

    def end(self) -> None:
        for process in self.workers:
            if process.poll() is None:
                family = psutil.Process(process.pid).children(recursive=True)
                process.kill()
                psutil.wait_procs(family, timeout=5)
            process.wait(10)


async def submit(
    hub: Hub, pictures: list[bytes], count: int, text: str = "grayscale/resize:64,64,fit=fill/format:png"
) -> Job:
    async def one(body: bytes) -> AsyncIterator[bytes]:
        yield body

    uploads = [await hub.service.put_upload("ann", f"{i}.jpg", one(pictures[i % len(pictures)])) for i in range(count)]
    pipeline = Pipeline.parse(text)
    job, _ = await hub.service.submit("ann", pipeline, uploads=[upload.id for upload in uploads])
    return job
