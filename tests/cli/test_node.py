"""`pixelmill node`: the stateless container, and what a node says when its hub does not want it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from live_service import LiveService
from node_tools import Hub, made_agent, until
from service_process import wait_until
from websockets.asyncio.server import ServerConnection, serve

import pixelmill
from pixelmill.errors import ConfigError
from pixelmill.service.joining import HubConnection
from servers import free_port

WORK = {"pipeline": "grayscale/resize:64,64,fit=fill/format:png"}


def command(*options: str) -> list[str]:
    return [sys.executable, "-m", "pixelmill", "node", *options]


def environment(**more: str) -> dict[str, str]:
    here = {name: value for name, value in os.environ.items() if name != "PORT"}
    return here | {"PYTHONPATH": str(Path(pixelmill.__file__).parent.parent)} | more


class Container:
    """`pixelmill node` without a hub."""

    def __init__(self, folder: Path, *options: str, **variables: str) -> None:
        self.port, self.folder = free_port(), folder
        self.log = folder / "node.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command("--workers", "1", *options),
                stdout=log,
                stderr=log,
                cwd=folder,
                env=environment(PORT=str(self.port), HOME=str(folder), **variables),
            )
        self.client = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=30, trust_env=False)
        wait_until(self._ready, "the container is ready")

    def _ready(self) -> bool:
        assert self.process.poll() is None, self.log.read_text()
        try:
            return self.client.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    def end(self) -> None:
        self.client.close()
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    started: list[Container] = []

    def start(*options: str, **variables: str) -> Container:
        started.append(Container(tmp_path, *options, **variables))
        return started[-1]

    yield start
    for made in started:
        made.end()


def test_the_container_processes_images_and_keeps_nothing(
    container: Callable[..., Container], photo: bytes, tmp_path: Path
) -> None:
    node = container("--host", "127.0.0.1")
    client = node.client
    assert client.get("/healthz").json()["ok"]
    answer = client.post("/v1/process", params=WORK, content=photo)
    assert answer.status_code == 200
    assert answer.content.startswith(b"\x89PNG")
    assert client.post("/v1/process", params=WORK, content=b"no image").status_code == 415
    assert client.post("/v1/process", params={"pipeline": "watermark:abc"}, content=photo).status_code == 400
    found = client.get("/v1/load").json()
    assert found["capacity"] == 1
    assert found["gate"]["open"]
    assert client.get("/v1/jobs").status_code == 404
    assert {path.name for path in tmp_path.iterdir()} <= {"node.log"}, "it has no data folder"


def test_the_container_asks_for_its_token_on_other_addresses(container: Callable[..., Container], photo: bytes) -> None:
    node = container(PIXELMILL_TOKEN="pm_secret")  # PORT is given, so it listens to others
    for headers in ({}, {"authorization": "Bearer pm_wrong"}):
        assert node.client.post("/v1/process", params=WORK, content=photo, headers=headers).status_code == 401
        assert node.client.get("/v1/load", headers=headers).status_code == 401
    good = {"authorization": "Bearer pm_secret"}
    assert node.client.post("/v1/process", params=WORK, content=photo, headers=good).status_code == 200
    assert "pm_secret" not in node.log.read_text()


def test_the_container_refuses_other_addresses_without_a_token(tmp_path: Path) -> None:
    done = subprocess.run(
        command(), env=environment(PORT=str(free_port())), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert "needs at least one token" in done.stderr


def test_the_container_drains(container: Callable[..., Container], photo: bytes) -> None:
    node = container("--host", "127.0.0.1")
    slow = {"pipeline": "resize:400/sketch:denoise=full/format:jpeg"}
    with ThreadPoolExecutor() as threads:
        answer = threads.submit(node.client.post, "/v1/process", params=slow, content=photo)
        other = httpx.Client(base_url=node.client.base_url, trust_env=False)
        with other:
            wait_until(lambda: other.get("/v1/load").json()["running"] == 1, "it works")
            node.process.send_signal(signal.SIGTERM)
            assert answer.result().status_code == 200
    assert node.process.wait(40) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--join", "http://127.0.0.1:1", "--gate", "always"), "There is no gate 'always'"),
        (("--join", "ftp://hub"), "is no address of a hub"),
    ],
)
def test_mistakes_are_told_at_once(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    done = subprocess.run(
        command(*options), env=environment(), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_a_node_without_the_right_token_says_how_to_get_one(tmp_path: Path) -> None:
    tokens = [{"owner": "alice", "scopes": ["process"]}]
    with LiveService(tmp_path / "data", api={"require_tokens": True}, tokens=tokens) as service:
        for token in ("pm_wrong", service.tokens[0]):
            done = subprocess.run(
                command("--join", service.url, "--token", token, "--workers", "1"),
                env=environment(),
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=60,
            )
            assert done.returncode in {1, 2}
            assert "--scope node" in done.stderr
            assert token not in done.stderr + done.stdout


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate of our own for 127.0.0.1, and its key."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ["-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"]
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


@pytest.mark.anyio
async def test_a_hub_is_reached_over_tls_and_only_if_it_is_trusted(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    hub = Hub()

    async def handler(connection: ServerConnection) -> None:
        async def allowed() -> None:
            """Everybody may stay."""

        pipe: Any = HubConnection(connection)  # type: ignore[arg-type]  # the same methods
        await hub.nodes.serve(pipe, allowed)

    async with serve(handler, "127.0.0.1", 0, ssl=context, compression=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        url = f"https://127.0.0.1:{port}"
        with pytest.raises(ConfigError, match="is not trusted"):
            await made_agent(url).run()
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        agent = made_agent(url)
        running = asyncio.create_task(agent.run())
        async with asyncio.timeout(20):
            await until(lambda: len(hub.nodes.members()) == 1)
            agent.drain()
            await running


def test_a_port_of_the_platform_yields_to_one_that_was_asked_for(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(
            command("--port", str(port), "--host", "127.0.0.1"),
            env=environment(PORT=str(free_port())),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.returncode == 2
    assert f"Port {port} on 127.0.0.1 is in use" in done.stderr
