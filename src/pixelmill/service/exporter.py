"""A worker's ``/metrics`` and ``/healthz`` on loopback: the least HTTP that Prometheus and a supervisor need."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from pixelmill.errors import ConfigError
from pixelmill.metrics import CONTENT_TYPE, Metrics

HOST = "127.0.0.1"
REQUEST_S = 5.0
MAX_HEAD = 8192


class Exporter:
    """One listener; each connection gets one answer."""

    def __init__(self, metrics: Metrics, port: int) -> None:
        self._metrics, self._port = metrics, port
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen; raises :class:`ConfigError` where the port is taken."""
        try:
            self._server = await asyncio.start_server(self._answer, HOST, self._port, limit=MAX_HEAD)
        except OSError as error:
            raise ConfigError(
                f"Can't listen on {HOST}, port {self._port}: {error.strerror}. Choose another with --metrics-port.",
                setting="metrics_port",
            ) from error

    async def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            async with asyncio.timeout(REQUEST_S):
                head = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(head.split(b" ", 2)[1:2]))
                await writer.drain()
        writer.close()

    def _response(self, path: list[bytes]) -> bytes:
        if path == [b"/metrics"]:
            status, kind, body = "200 OK", CONTENT_TYPE, self._metrics.render()
        elif path == [b"/healthz"]:
            status, kind, body = "200 OK", "text/plain", b"ok\n"
        else:
            status, kind, body = "404 Not Found", "text/plain", b"There are /metrics and /healthz.\n"
        head = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
        return head.encode() + body
