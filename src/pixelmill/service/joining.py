"""A node's side of joining a hub: one connection that it opens, keeps, and opens again when it is lost.

While it lasts, tasks come in and outcomes go out over it; what ran for a connection that was lost is ended, for the hub
has given those tasks to others. Nothing is kept on disk. Times are this machine's, and only durations matter.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidProxyStatus, InvalidStatus, InvalidURI

from pixelmill import __version__, logs, tracing
from pixelmill.errors import ConfigError, ConnectionFailed, PixelmillError, Unauthenticated
from pixelmill.fleet.load import LoadHistory, LoadMonitor, LoadSample, Sampler
from pixelmill.fleet.nodes import load_record
from pixelmill.targets.link import MAX_MESSAGE, Link, LinkEnded, bound_unsent, decode_control, encode_control
from pixelmill.targets.local import LocalPool
from pixelmill.targets.node import Hello
from pixelmill.targets.target import RunRequest
from pixelmill.targets.wire import Buffer, body_lengths, decode_request, encode_error, encode_outcome

log = logging.getLogger(__name__)

PATH = "/v1/nodes/join"
OPEN_S = 5.0
WELCOME_S = 5.0
CLOSE_S = 2.0
FIRST_PAUSE_S = 0.25
MAX_PAUSE_S = 5.0
STEADY_S = 10.0
"""A connection that lasted so long was a good one: after it the pauses begin anew."""
SPARE_TASKS = 8
"""What may arrive beyond a few times the capacity, while tasks that were cancelled come to their end."""
RECENT_SAMPLES = 60


@dataclass(frozen=True, slots=True)
class JoinConfig:
    """Where to go, and who we are. ``gate``: the rule that the hub shall judge us by; empty for the hub's own."""

    url: str
    token: str
    name: str
    cores: int
    memory_bytes: int
    gate: str = ""
    extras: tuple[str, ...] = ()
    libraries: tuple[tuple[str, str], ...] = ()
    drain_s: float = 30.0


class HubConnection:
    """A :class:`~pixelmill.targets.link.Pipe` over a WebSocket that we opened."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: bytes) -> None:
        """Send a message."""
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise LinkEnded(_why(error)) from error

    async def receive(self) -> bytes:
        """The next message."""
        try:
            message = await self._socket.recv()
        except ConnectionClosed as error:
            raise LinkEnded(_why(error)) from error
        if not isinstance(message, bytes):
            raise ValueError("a text message")  # noqa: TRY004 - a wrong value on the wire
        return message

    async def close(self, reason: str) -> None:
        """End it in order."""
        await self._socket.close(1000, reason[:100])

    def abort(self) -> None:
        """End it now."""
        self._socket.transport.abort()


class NodeAgent:
    """Runs a pool for a hub until it is drained. ``announce`` gets a line each time that it has joined."""

    def __init__(
        self, config: JoinConfig, pool: LocalPool, sampler: Sampler, announce: Callable[[str], None] = lambda _: None
    ) -> None:
        self._config, self._pool, self._announce = config, pool, announce
        self._address = _address(config.url)
        self._monitor = LoadMonitor(sampler, LoadHistory(RECENT_SAMPLES), self._tell)
        self._instance = secrets.token_hex(16)
        self._session: _Session | None = None
        self._was_in = False
        self._drained = asyncio.Event()

    def drain(self) -> None:
        """Take no new tasks, let those that run end, then leave."""
        self._drained.set()

    async def run(self) -> None:
        """Stay with the hub until drained; raises :class:`ConfigError` or :class:`Unauthenticated` if it refuses us.

        The pool is started and stopped here.
        """
        await self._pool.start()
        monitor = asyncio.create_task(self._monitor.run(), name="load")
        try:
            await self._stay()
        finally:
            monitor.cancel()
            with suppress(asyncio.CancelledError):
                await monitor
            await self._pool.stop()

    async def _stay(self) -> None:
        pause_s = FIRST_PAUSE_S
        loop = asyncio.get_running_loop()
        while not self._drained.is_set():
            began = loop.time()
            try:
                reason = await self._visit()
            except (LinkEnded, ConnectionFailed, ValueError) as error:
                reason = str(error)
            if self._drained.is_set():
                return
            if loop.time() - began > STEADY_S:
                pause_s = FIRST_PAUSE_S
            wait_s = pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - so that nodes don't all come at once
            logs.event("hub.lost", hub=self._config.url, reason=reason, again_in_s=round(wait_s, 2))
            pause_s = min(MAX_PAUSE_S, 2 * pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._drained.wait()

    async def _visit(self) -> str:
        """One connection, from its beginning to its end; why it ended."""
        async with self._connected() as pipe:
            name = await self._introduced(pipe)
            self._was_in = True
            logs.event("hub.joined", hub=self._config.url, node=name)
            self._announce(f"Pixelmill node {name} joined {self._config.url}")
            session = self._session = _Session(pipe, self._pool, self._config.memory_bytes)
            leaving = asyncio.create_task(self._leave(session))
            try:
                return await session.link.run(session)
            finally:
                self._session = None
                leaving.cancel()
                await asyncio.gather(leaving, return_exceptions=True)
                await session.end()
                if not session.link.dead:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(CLOSE_S):
                            await pipe.close(session.link.ended or "")

    async def _introduced(self, pipe: HubConnection) -> str:
        """Say hello; the name that the hub gives us."""
        config = self._config
        hello = Hello(
            name=config.name,
            instance=self._instance,
            version=__version__,
            cores=config.cores,
            capacity=self._pool.load().capacity,
            max_body=config.memory_bytes,
            gate=config.gate,
            extras=config.extras,
            libraries=dict(config.libraries),
            model_slots=self._pool.load().model_slots,
        )
        await pipe.send(encode_control({"hello": hello.to_dict()}))
        try:
            async with asyncio.timeout(WELCOME_S):
                while True:
                    record = decode_control(await pipe.receive())
                    if "refused" in record:
                        raise ConfigError(f"The hub {config.url} refused this node: {str(record['refused'])[:1000]}")
                    if "welcome" in record:
                        return str(record["welcome"]["name"])
        except TimeoutError:
            raise LinkEnded(f"the hub did not answer within {WELCOME_S:g} s") from None

    async def _leave(self, session: _Session) -> None:
        """When we are drained: say so, end what runs, and go."""
        await self._drained.wait()
        session.link.post({"drain": True})
        with suppress(TimeoutError):
            async with asyncio.timeout(self._config.drain_s):
                await session.finished()
        await session.link.flush()
        session.link.post({"bye": True})
        await session.link.flush()
        session.link.end("this node was drained")

    def _tell(self, sample: LoadSample) -> None:
        if self._session is not None:
            load = self._pool.load()
            self._session.link.post(
                {
                    "load": load_record(sample),
                    "running": load.running,
                    "capacity": load.capacity,
                    "restarts": load.restarts,
                    "healthy": load.healthy,
                    "reason": load.reason,
                }
            )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[HubConnection]:
        """A connection to the hub; raises :class:`ConnectionFailed`, :class:`Unauthenticated`, :class:`ConfigError`."""
        headers = {"Authorization": f"Bearer {self._config.token}"} if self._config.token else {}
        try:
            socket = await connect(
                self._address,
                additional_headers=headers,
                user_agent_header=f"pixelmill-node/{__version__}",
                open_timeout=OPEN_S,
                close_timeout=CLOSE_S,
                ping_interval=None,  # the link has heartbeats of its own
                compression=None,
                max_size=MAX_MESSAGE,
                max_queue=4,
            )
        except InvalidStatus as error:
            raise self._refusal(error) from error
        except ssl.SSLCertVerificationError as error:
            raise ConfigError(
                f"The certificate of {self._config.url} is not trusted: {error.verify_message}. "
                "Install the authority's certificate on this machine, or name it in SSL_CERT_FILE."
            ) from error
        except ssl.SSLError as error:
            raise ConnectionFailed(
                f"{self._config.url} was not reached by TLS ({error.reason}). Is it a proxy that speaks TLS? A hub "
                "itself does not: then the address begins with http://."
            ) from error
        except InvalidURI as error:
            raise ConfigError(f"--join {self._config.url!r} is no address of a hub.") from error
        except (OSError, TimeoutError, InvalidHandshake, InvalidProxyStatus) as error:
            raise ConnectionFailed(
                f"{self._config.url} was not reached: {str(error) or type(error).__name__}"
            ) from error
        bound_unsent(socket.transport)
        try:
            yield HubConnection(socket)
        finally:
            socket.transport.abort()

    def _refusal(self, error: InvalidStatus) -> PixelmillError:
        status, hub = error.response.status_code, self._config.url
        if status == 401:
            return Unauthenticated(
                f"{hub} does not take the token (--token, PIXELMILL_TOKEN). Create one on the hub with "
                "`pixelmill tokens create NAME --scope node`."
            )
        if status == 403 and b"/v1/problems/" in (error.response.body or b""):
            return ConfigError(
                f"{hub} does not let this token join as a node. Create one on the hub with "
                "`pixelmill tokens create NAME --scope node`."
            )
        # A proxy says so too while the hub behind it is away: who was let in before goes on trying.
        if status in {403, 404, 405, 426} and not self._was_in:
            return ConfigError(f"{hub} takes no nodes (status {status}). Is it the address of a `pixelmill serve`?")
        return ConnectionFailed(f"{hub} answered with status {status}")


class _Session:
    """One connection's tasks; the :class:`~pixelmill.targets.link.Peer` of its link."""

    def __init__(self, pipe: HubConnection, pool: LocalPool, max_body: int) -> None:
        self.link = Link(pipe, max_body=2 * max_body)
        self._pool = pool
        self._arriving: set[int] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        self._newest = 0
        self._drained = asyncio.Event()

    def control(self, record: dict[str, Any]) -> None:
        """A task is not wanted any more, or the hub is leaving; what a newer hub may say beside that is passed over."""
        if "cancel" in record:
            number = int(record["cancel"])
            self._arriving.discard(number)
            self.link.drop(number)
            if number in self._running:
                self._running[number].cancel()
        elif "drained" in record:
            self._drained.set()
        elif "refused" in record:
            raise LinkEnded(str(record["refused"])[:1000])
        elif "bye" in record:
            raise LinkEnded(str(record["bye"])[:200])

    def wants(self, stream: int) -> bool:
        """Tasks are numbered upward: what was seen before and is not on its way is a duplicate, or was cancelled."""
        if stream > self._newest:
            if len(self._arriving) + len(self._running) >= 4 * self._pool.load().capacity + SPARE_TASKS:
                raise ValueError("far more tasks at once than were asked for")
            self._newest = stream
            self._arriving.add(stream)
        return stream in self._arriving

    def frame(self, stream: int, record: Any, body: bytes) -> None:
        """A task has arrived: run it."""
        self._arriving.discard(stream)
        request = _decoded(record, body)
        task = self._running[stream] = asyncio.create_task(self._run(stream, request))
        task.add_done_callback(lambda _: self._running.pop(stream, None))

    async def finished(self) -> None:
        """Return when the hub sends no more tasks, and those that it sent have ended."""
        await self._drained.wait()
        while self._running or self._arriving:
            await asyncio.wait([*self._running.values(), asyncio.create_task(asyncio.sleep(0.05))])

    async def end(self) -> None:
        """End what runs."""
        running = list(self._running.values())
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def _run(self, stream: int, request: RunRequest) -> None:
        with (
            tracing.span("node.run", "server", parent=tracing.from_text(request.trace)) as span,
            logs.bind(trace_id=span.context.trace_id, span_id=span.context.span_id),
        ):
            await self._run_traced(stream, request, span)

    async def _run_traced(self, stream: int, request: RunRequest, span: tracing.ActiveSpan) -> None:
        buffers: list[Buffer]
        try:
            result = await self._pool.run(request)
            buffers = encode_outcome(result.outcome, retire=False, worker=result.worker, cold=result.cold)
        except PixelmillError as error:
            span.fail(error.type, str(error)[:1_000])
            buffers = encode_error(error, retire=False)
        self.link.stream(stream, buffers)


def _decoded(record: Any, body: bytes) -> RunRequest:
    """The request; raises :class:`ValueError` for one that names files: those here are no business of a hub's."""
    parts = [record["source"], *record["images"].values()]
    if not all(type(part) is int and part >= 0 for part in parts) or sum(parts) != len(body):
        raise ValueError("a task that does not bring its own bytes")
    bodies, at = [], 0
    for length in body_lengths(record):
        bodies.append(body[at : at + length])
        at += length
    return decode_request(record, bodies)


def _address(url: str) -> str:
    """The WebSocket's address for that of a hub; raises :class:`ConfigError`."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    schemes = {"http": "ws", "ws": "ws", "https": "wss", "wss": "wss"}
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigError(f"--join {url!r} is no address of a hub, such as https://hub.example.org.")
    return urlunsplit((schemes[parts.scheme], parts.netloc, parts.path.rstrip("/") + PATH, "", ""))


def _why(error: ConnectionClosed) -> str:
    close = error.rcvd
    return f"the connection was closed ({close.code} {close.reason})" if close is not None else "the connection broke"
