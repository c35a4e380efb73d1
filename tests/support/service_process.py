"""A real service in its own process, that a test may kill."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import psutil
import pytest

from servers import free_port

DEADLINE_S = 60.0
PIXELMILL = ("-m", "pixelmill")


class ServiceProcess:
    """`pixelmill serve` over a data folder; can be killed and started again on the same port.

    ``program``: another one that takes the same arguments.
    """

    def __init__(self, data: Path, *options: str, program: Sequence[str] = PIXELMILL) -> None:
        self.data, self.options, self.program = data, options, program
        self.port = free_port()
        host = options[options.index("--host") + 1] if "--host" in options else "127.0.0.1"
        self.url = f"http://{host}:{self.port}"
        self.log = data.parent / f"{data.name}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, *self.program, "serve", "--port", str(self.port), "--data", str(self.data)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.options], stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        wait_until(self._ready, f"the service is ready; its log: {self.log}")

    def _ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self) -> list[psutil.Process]:
        """SIGKILL to the service process alone; the processes it had."""
        assert self.process is not None
        family = self.children()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)
        return family

    def stop(self) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            family = self.children()
            self.process.kill()
            self.process.wait(10)
            psutil.wait_procs(family, timeout=5)


def wait_until(holds: Callable[[], bool], what: str, timeout: float = DEADLINE_S) -> None:
    """Ask again until it holds; fails when `timeout` has passed."""
    deadline, pause = time.monotonic() + timeout, 0.02
    while not holds():
        assert time.monotonic() < deadline, f"not in {timeout} s: {what}"
        time.sleep(pause)  # between two questions; the bound is above
        pause = min(0.1, pause * 1.2)  # what takes long needs the processor itself


@pytest.fixture
def service_process(tmp_path: Path) -> Iterator[Callable[..., ServiceProcess]]:
    """Start services; all are ended with the test."""
    started: list[ServiceProcess] = []

    def start(*options: str, data: Path | None = None) -> ServiceProcess:
        service = ServiceProcess(data or tmp_path / "data", *options)
        started.append(service)
        service.start()
        return service

    yield start
    for service in started:
        service.end()


@pytest.fixture(scope="session")
def pictures() -> list[bytes]:
    """A few small JPEGs, all different."""
    made = []
    for index in range(8):
        random = np.random.default_rng(index)
        pixels = cv2.resize(random.integers(0, 256, (9, 12, 3), np.uint8), (320 + 16 * index, 240))
        made.append(bytes(cv2.imencode(".jpg", pixels)[1]))
    return made


def submit(url: str, pipeline: str, files: dict[str, bytes], **headers: str) -> dict[str, Any]:
    """A job by multipart; its body."""
    answer = httpx.post(
        f"{url}/v1/jobs",
        data={"pipeline": pipeline},
        files=[("files", (name, data, "image/jpeg")) for name, data in files.items()],
        headers=headers,
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def all_tasks(url: str, job: str) -> list[dict[str, Any]]:
    """Every task of a job, through all pages."""
    tasks: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        page = httpx.get(f"{url}/v1/jobs/{job}/tasks", params={"limit": 200, "cursor": cursor} if cursor else {}).json()
        tasks += page["items"]
        cursor = page["next"]
    return tasks


def all_events(url: str, job: str) -> list[tuple[str, dict[str, Any]]]:
    """The whole event log of an ended job, from its stream."""
    events, kind = [], ""
    with httpx.stream("GET", f"{url}/v1/jobs/{job}/events", params={"after": 0}, timeout=30) as stream:
        for line in stream.iter_lines():
            if line.startswith("event:"):
                kind = line[6:].strip()
            elif line.startswith("data:"):
                events.append((kind, json.loads(line[5:])))
    return events


def port_is_free(port: int) -> bool:
    """Whether somebody else can listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def open_sockets(pid: int) -> int:
    """How many sockets a process holds."""
    return sum(1 for fd in Path(f"/proc/{pid}/fd").iterdir() if str(fd.readlink()).startswith("socket:"))
