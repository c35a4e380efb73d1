"""What several services share through Redis: the bus, the registry of nodes, the stream of task events.

Without Redis the same parts live in this process. An outage of Redis is told once, and this service goes on alone.
"""

from __future__ import annotations

import asyncio
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from pixelmill import logs
from pixelmill.errors import PixelmillError
from pixelmill.events.bus import EventBus, InProcessBus
from pixelmill.events.redis_bus import RedisBus
from pixelmill.events.redis_client import PREFIX, key_of
from pixelmill.events.redis_news import RedisNews
from pixelmill.events.redis_stream import NAME, RedisEventSource
from pixelmill.fleet.registry import InProcessRegistry, NodeRegistry, RedisRegistry
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.taskevents import event_from_json

ANNOUNCE_S = 1.0
READ_S = 2.0


class Shared:
    """Made without connecting. Raises :class:`ConfigError` for a wrong address, :class:`MissingExtra` without redis."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._url, self._stream = url, key_of(prefix, NAME)
        self.replica = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._redis_bus = RedisBus(url, prefix=prefix) if url else None
        self.bus: EventBus = self._redis_bus or InProcessBus()
        self.news = RedisNews(url, prefix) if url else None
        self.registry: NodeRegistry = RedisRegistry(url, prefix) if url else InProcessRegistry()
        self._well = True
        self._announced: str | None = None
        """What the last announcement failed of; empty where it did not; None before the first."""

    def start(self) -> None:
        """Begin to hear others; Redis need not be there yet."""
        if self._redis_bus is not None:
            self._redis_bus.start()

    async def stop(self) -> None:
        """Leave the registry and end the threads of the bus."""
        with suppress(PixelmillError):
            await self.registry.remove(self.replica)
        await self.registry.close()
        if self.news is not None:
            await self.news.close()
        if self._redis_bus is not None:
            await asyncio.to_thread(self._redis_bus.stop)

    def source(
        self, record: Callable[[Sequence[TaskEvent]], Awaitable[object]], on_lost: Callable[[str], object]
    ) -> RedisEventSource[TaskEvent] | None:
        """Task events of workers without a database; None where there is no Redis."""
        if not self._url:
            return None
        return RedisEventSource(self._url, event_from_json, record, on_lost=on_lost, stream=self._stream)

    def state(self) -> dict[str, Any] | None:
        """How Redis is, as of the last announcement: ``ok`` and a sentence. None where none is configured."""
        if not self._url:
            return None
        failed = self._announced
        said = "It was not asked yet." if failed is None else failed or "It can be written."
        return {"ok": failed == "", "detail": said}

    async def announce(self, nodes: Callable[[], Sequence[dict[str, Any]]]) -> None:
        """Write our nodes (which come without their last hour) each second, until cancelled."""
        while True:
            try:
                await self.registry.write(self.replica, [_seen(node) for node in nodes()])
                self._well, self._announced = True, ""
            except PixelmillError as error:
                self._announced = str(error)
                self._complain(error)
            await asyncio.sleep(ANNOUNCE_S)

    async def fleet(self, own: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Our nodes as they are now, then those that other replicas wrote."""
        mine = [{**node, "replica": self.replica, "seen": time.time(), "age_s": 0.0} for node in own]
        try:
            async with asyncio.timeout(READ_S):
                found = await self.registry.read()
        except (PixelmillError, TimeoutError) as error:
            self._complain(error)
            return mine
        return mine + [node for node in found if node["replica"] != self.replica]

    def _complain(self, error: Exception) -> None:
        if self._well:
            self._well = False
            logs.event("registry.failed", detail=str(error) or type(error).__name__)


def _seen(node: dict[str, Any]) -> dict[str, Any]:
    """With ``seen`` by this machine's clock, for people."""
    return node | {"seen": time.time()}
