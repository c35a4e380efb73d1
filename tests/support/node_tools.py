"""Nodes and hubs for tests: in this process over real sockets, as processes, and raw connections that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from service_process import PIXELMILL, wait_until
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from pixelmill import __version__
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.load import LoadSample
from pixelmill.fleet.nodes import Nodes
from pixelmill.fleet.samplers import ReplaySampler
from pixelmill.service.joining import HubConnection, JoinConfig, NodeAgent
from pixelmill.targets.link import MAX_MESSAGE, decode_control, encode_control
from pixelmill.targets.local import LocalPool
from pixelmill.targets.node import PROTOCOL, JoinedNode
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad

IDLE = LoadSample(0.0, 0.0, 0.0, 0.0, 0)


async def until(holds: Callable[[], bool]) -> None:
    """Ask again until it holds; whoever calls this has a bound on time."""
    while not holds():  # noqa: ASYNC110 - what is waited for has no event to tell
        await asyncio.sleep(0.002)


class Hub:
    """A dispatcher and its nodes behind a real WebSocket, in this process. ``url`` is where nodes join.

    ``answer``: a status and a body that who joins gets instead, as from a proxy.
    """

    def __init__(self, **more: Any) -> None:
        self.dispatcher = Dispatcher([])
        self.nodes = Nodes(self.dispatcher, **more)
        self.url = ""
        self.answer: tuple[int, str] | None = None
        self.refusals: list[Exception] = []  # what nodes that are here are told next, when it is asked

    @asynccontextmanager
    async def running(self, port: int = 0) -> AsyncIterator[Hub]:
        async def handler(connection: ServerConnection) -> None:
            await self.nodes.serve(HubConnection(connection), allowed)  # type: ignore[arg-type]  # the same methods

        async def allowed() -> None:
            """Everybody may stay, but for the refusals."""
            if self.refusals:
                raise self.refusals.pop(0)

        def proxy(connection: ServerConnection, _: Request) -> Response | None:
            return None if self.answer is None else connection.respond(*self.answer)

        options: dict[str, Any] = {"max_size": MAX_MESSAGE, "compression": None, "ping_interval": None}
        async with serve(handler, "127.0.0.1", port, process_request=proxy, **options) as server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            try:
                yield self
            finally:
                await self.nodes.close()

    async def node(self, name: str) -> JoinedNode:
        """The node of that name, as soon as it is here."""
        while True:
            for member in self.nodes.members():
                if member.node.name == name:
                    return member.node
            await asyncio.sleep(0.002)

    async def until_gone(self, name: str) -> None:
        """Return when there is no node of that name."""
        await until(lambda: all(member.node.name != name for member in self.nodes.members()))


def made_agent(url: str, name: str = "n1", *, entry: str = "misbehaving:act", **more: Any) -> NodeAgent:
    """A node in this process, with pool processes of its own, that does not run yet."""
    pool = LocalPool(workers=more.pop("workers", 2), entry=entry, memory_bytes=300_000_000)
    config = JoinConfig(url=url, token="", name=name, cores=2, memory_bytes=300_000_000, **more)
    return NodeAgent(config, pool, ReplaySampler([IDLE]))


@asynccontextmanager
async def agent(url: str, name: str = "n1", **more: Any) -> AsyncIterator[NodeAgent]:
    """Such a node while it runs; it is drained at the end."""
    made = made_agent(url, name, **more)
    task = asyncio.create_task(made.run())
    try:
        yield made
    finally:
        made.drain()
        async with asyncio.timeout(10):
            await task


class JoinedTarget:
    """A hub and a node of one target, which the shared conformance suite can start and stop."""

    def __init__(self) -> None:
        self._stack = contextlib.AsyncExitStack()
        self._node: JoinedNode
        self.name = "n1"

    async def start(self) -> None:
        hub = await self._stack.enter_async_context(Hub().running())
        await self._stack.enter_async_context(agent(hub.url, self.name, drain_s=0.1))
        self._node = await hub.node(self.name)

    async def stop(self) -> None:
        await self._node.stop()
        await self._stack.aclose()

    def load(self) -> TargetLoad:
        return self._node.load()

    async def run(self, request: RunRequest) -> RunResult:
        return await self._node.run(request)


def hello(name: str = "raw", **more: Any) -> dict[str, Any]:
    """A hello record as a node of ours sends it."""
    record = {
        "name": name,
        "instance": f"instance-of-{name}",
        "version": __version__,
        "cores": 2,
        "capacity": 2,
        "max_body": 200_000_000,
        "gate": "auto",
        "extras": [],
        "libraries": {},
        "protocol": PROTOCOL,
    }
    return {"hello": record | more}


@asynccontextmanager
async def raw(url: str, first: dict[str, Any] | None = None, **more: Any) -> AsyncIterator[ClientConnection]:
    """A connection that says what a test wants; ``first`` is sent at once."""
    async with connect(
        url.replace("http", "ws") + "/v1/nodes/join", compression=None, ping_interval=None, close_timeout=0.2, **more
    ) as connection:
        if first is not None:
            await connection.send(encode_control(first))
        yield connection


async def closed(connection: ClientConnection) -> None:
    """Return when the other side has ended it."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            await connection.recv()


async def heard(connection: ClientConnection, word: str) -> Any:
    """What a control record has under ``word``; others before it are passed over."""
    while True:
        message = await connection.recv()
        assert isinstance(message, bytes)
        if message[:4] == bytes(4) and word in (record := decode_control(message)):
            return record[word]


class NodeProcess:
    """`pixelmill node`, or another program like it, in its own process; ``prefix`` is a command to run it under."""

    def __init__(
        self,
        folder: Path,
        name: str,
        *options: str,
        prefix: Sequence[str] = (),
        program: Sequence[str] = PIXELMILL,
    ) -> None:
        self.name = name
        self.log_path = folder / f"node-{name}.log"
        command = [*prefix, sys.executable, *program, "node", "--name", name, *options]
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def joined(self, times: int = 1) -> None:
        """Return when it has joined so often."""
        wait_until(lambda: len(re.findall("joined http", self.log)) >= times, f"{self.name} joins: {self.log_path}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)

    def drain(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)

    def end(self) -> None:
        if self.process.poll() is None:
            self.kill()
