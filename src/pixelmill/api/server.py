"""Runs the REST service: binds the address, starts uvicorn over the application, and ends both in order.

The first SIGTERM or SIGINT drains: no new connections, new work gets 503, event streams end, running requests have
``drain_s`` to finish, then the service stops. The second one ends the process at once, which loses nothing (the service
survives ``kill -9``).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, ModuleType

import uvicorn

from pixelmill import logs
from pixelmill.api.app import RESOURCES, create_app
from pixelmill.api.edge import Edge
from pixelmill.api.join import NodeSocket
from pixelmill.api.protocol import protocol_class
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.service import Service
from pixelmill.targets.link import MAX_MESSAGE
from pixelmill.triggers.verbs import TriggerRuntime

BACKLOG = 2_048
# Files, database, pool pipes: what the process opens beside its connections.
OTHER_FILES = 512


def run(
    service: Service,
    settings: ApiSettings,
    *,
    announce: Callable[[str], None] | None = None,
    resources: Sequence[ModuleType] = RESOURCES,
    triggers: TriggerRuntime | None = None,
) -> None:
    """Serve until a signal comes; returns after an orderly end. ``triggers`` run beside the service.

    ``announce`` gets the service's URL once it accepts requests (None: a line on standard output). Raises
    :class:`ConfigError` for an address that can't be used, and what the service raised while it started.
    """
    listener = bind(settings.host, settings.port)
    app = create_app(service, settings, resources, triggers)
    edge: Edge = app.state.edge
    server = Server(_config(app, settings), edge, url_of(listener, settings), announce or _say)
    uvicorn_log = logging.getLogger("uvicorn.error")

    def untold(record: logging.LogRecord) -> bool:
        # uvicorn logs a failed start as a traceback; it is told below, once.
        del record
        return edge.startup_error is None

    uvicorn_log.addFilter(untold)
    try:
        server.run(sockets=[listener])
    except SystemExit:
        # uvicorn's way to say that the lifespan failed.
        error = edge.startup_error
        if error is None:
            raise
        if isinstance(error, PixelmillError):
            logs.event("service.failed", type=error.type, detail=error.detail)
        else:
            logs.event("service.failed", error=error)
        raise error from None
    finally:
        uvicorn_log.removeFilter(untold)
        listener.close()


def bind(host: str, port: int) -> socket.socket:
    """A bound socket that doesn't listen yet, so that clients are refused until the service can answer.

    Raises :class:`ConfigError` where the address is taken, not of this machine, or not allowed.
    """
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host!r} (PIXELMILL_HOST) is no address of this machine: {error}.") from error
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise ConfigError(_why_not(host, port, error), host=host, port=port) from error
    listener.setblocking(False)
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return (
                f"Port {port} on {host} is in use by another program. Stop it, or choose another port with --port or "
                "PIXELMILL_PORT (0 takes a free one)."
            )
        case errno.EACCES:
            return f"Port {port} needs privileges that this process lacks. Choose one above 1023 (--port)."
        case errno.EADDRNOTAVAIL:
            return f"{host} is no address of this machine. Choose another with --host or PIXELMILL_HOST."
    return f"Can't listen on {host}, port {port}: {error.strerror}."


def url_of(listener: socket.socket, settings: ApiSettings) -> str:
    """Where people find the service."""
    port = listener.getsockname()[1]
    host = settings.host
    if host in {"", "0.0.0.0", "::"}:  # noqa: S104  compared, not bound
        host = "127.0.0.1"
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def max_connections(wanted: int) -> int:
    """``wanted``, or what the limit on open files allows; the soft limit is raised towards it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    need = wanted + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < need:
        soft = need if hard == resource.RLIM_INFINITY else min(need, hard)
        # Refused in some containers; then there are fewer connections.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return max(16, min(wanted, soft - OTHER_FILES))
    return wanted


def _config(app: object, settings: ApiSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # FastAPI is the application that uvicorn's protocol describes
        loop="uvloop",
        http=protocol_class(settings.max_header_bytes, settings.header_timeout_s, settings.send_stall_s),
        ws=NodeSocket,
        ws_max_size=MAX_MESSAGE,
        ws_ping_interval=None,  # the link has heartbeats of its own
        ws_per_message_deflate=False,
        lifespan="on",
        log_config=None,
        log_level="warning",
        access_log=False,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        server_header=False,
        limit_concurrency=max_connections(settings.max_connections),
        backlog=BACKLOG,
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=max(1, round(settings.drain_s)),
    )


def _say(url: str) -> None:
    sys.stdout.write(f"Pixelmill listens on {url}\n")
    sys.stdout.flush()


class Server(uvicorn.Server):
    """uvicorn with our signals: it drains the edge at once, and announces itself when it is ready."""

    def __init__(self, config: uvicorn.Config, edge: Edge, url: str, announce: Callable[[str], None]) -> None:
        super().__init__(config)
        self._edge, self._url, self._announce = edge, url, announce
        self._loop: asyncio.AbstractEventLoop | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the service, listen, say so."""
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if self.started and not self.should_exit:
            self._announce(self._url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End what is open, then the service."""
        logs.event("service.draining", requests=self._edge.in_flight, streams=len(self._edge.streams))
        self._edge.drain()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """The first signal drains, the second has its default effect: the process ends."""
        handled = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._on_signal) for number in handled}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        for handled in (signal.SIGINT, signal.SIGTERM):
            signal.signal(handled, signal.SIG_DFL)
        self.should_exit = True
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._edge.drain)
