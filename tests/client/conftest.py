from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

READY_S = 60.0


class LiveService:
    """A real `pixelmill serve` on a fixed port, so that a test may end it and start it again."""

    def __init__(self, folder: Path, *options: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = folder / "service.log"
        self._command = [sys.executable, "-m", "pixelmill", "serve", "--port", str(self.port)]
        self._command += ["--data", str(folder / "data"), *options]
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXELMILL_")}
        environment["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in sys.path if entry)
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment
            )
        deadline = time.monotonic() + READY_S
        while not self._is_ready():
            assert self.process.poll() is None, self._log.read_text()[-2000:]
            assert time.monotonic() < deadline, self._log.read_text()[-2000:]
            time.sleep(0.02)  # between two questions; the bound is above

    def _is_ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(40)


@pytest.fixture(scope="session")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    """One service for all tests of the client that leave it alive."""
    service = LiveService(tmp_path_factory.mktemp("live"))
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def mortal(tmp_path: Path) -> Iterator[LiveService]:
    """A service of its own, for a test that ends it."""
    service = LiveService(tmp_path)
    try:
        service.start()
        yield service
    finally:
        service.stop()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Six small JPEG files, all different."""
    folder = tmp_path / "images"
    folder.mkdir()
    made = []
    for index in range(6):
        random = np.random.default_rng(index)
        pixels = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (160 + index, 120))
        path = folder / f"{index}.jpg"
        path.write_bytes(bytes(cv2.imencode(".jpg", pixels)[1]))
        made.append(path)
    return made
