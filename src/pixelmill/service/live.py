"""What this service does, once a second, for everybody who watches: taken and written down once for all of them.

Nothing is taken while nobody watches. There is only the newest sample: a slow reader skips those that it missed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any

from pixelmill.errors import PixelmillError
from pixelmill.jobs.model import State
from pixelmill.service.parts import Parts
from pixelmill.service.wiring import Wiring

log = logging.getLogger(__name__)

EVERY_S = 1.0
HEARTBEAT_S = 15.0


class Live:
    """Hands the newest of ``take`` to any number of readers. Belongs to one event loop."""

    def __init__(self, take: Callable[[], Awaitable[bytes]], every_s: float = EVERY_S) -> None:
        self._take, self._every_s = take, every_s
        self._readers = 0
        self._work: asyncio.Task[None] | None = None
        self._newest: bytes | None = None
        self._news = asyncio.Event()

    @property
    def readers(self) -> int:
        """How many follow."""
        return self._readers

    async def follow(self) -> AsyncGenerator[bytes | None]:
        """Samples until it is closed, the first one at once; None after :data:`HEARTBEAT_S` without one."""
        self._readers += 1
        if self._work is None:
            self._work = asyncio.create_task(self._run(), name="live metrics")
        try:
            seen: bytes | None = None
            while True:
                if self._newest is seen:
                    news = self._news
                    try:
                        async with asyncio.timeout(HEARTBEAT_S):
                            await news.wait()
                    except TimeoutError:
                        yield None
                    continue
                seen = self._newest
                if seen is not None:
                    yield seen
        finally:
            self._readers -= 1
            if not self._readers:
                await self.stop()

    async def stop(self) -> None:
        """Take no more samples."""
        work, self._work, self._newest = self._work, None, None
        if work is not None:
            work.cancel()
            with suppress(asyncio.CancelledError):
                await work

    async def _run(self) -> None:
        failed = False
        while True:
            began = time.monotonic()
            try:
                self._newest = await self._take()
                failed = False
            except PixelmillError as error:  # the database does not answer: there is a gap
                if not failed:
                    log.warning("live metrics have a gap: %s", error)
                failed = True
            # Each wait has an event of its own, so that one that is slow to wake misses nothing.
            news, self._news = self._news, asyncio.Event()
            news.set()
            await asyncio.sleep(max(0.05, self._every_s - (time.monotonic() - began)))


class Sampler:
    """Takes the samples of one service."""

    def __init__(self, parts: Parts, wiring: Wiring) -> None:
        self._parts, self._wiring = parts, wiring

    async def take(self) -> bytes:
        """A sample as compact JSON."""
        sample = await self.sample()
        return json.dumps(sample, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")

    async def sample(self) -> dict[str, Any]:
        """Nodes without their history, overflow with its budgets, the newest row of the history, jobs that run."""
        parts = self._parts
        targets = parts.dispatcher.snapshot()["targets"]
        return {
            "at": round(time.time(), 3),
            "nodes": [_now(node) for node in await self._wiring.fleet(history=False)],
            "overflow": [target for target in targets if target["overflow"]],
            "budget": parts.overflow.budget(),
            "row": parts.history.newest(),
            "jobs_running": await parts.jobs.count(State.RUNNING),
        }


def _now(node: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in node.items() if name != "history"}
