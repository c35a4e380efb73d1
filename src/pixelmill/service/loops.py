"""What runs beside the service's work, where more than this process and its database take part.

:class:`Releaser` fills the window of a queue elsewhere; :class:`Follower` tells this process's subscribers what other
processes recorded. Both go on after errors, and are bounded.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress

from pixelmill import logs
from pixelmill.engines.outbox import Outbox
from pixelmill.errors import PixelmillError
from pixelmill.events.bus import EventBus
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog

log = logging.getLogger(__name__)

RELEASE_S = 1.0
"""How often the window is looked at by itself: for tasks that other processes added or ended."""
LINGER_S = 0.02
FOLLOW_S = 0.5
PAUSE_S = 1.0


async def for_ever(step: Callable[[], Awaitable[object]], what: str) -> None:
    """Again and again until cancelled; an error is logged, and tried again after a pause."""
    while True:
        try:
            await step()
        except PixelmillError as error:
            log.warning("%s, trying again in %.1f s: %s", what, PAUSE_S, error)
            await asyncio.sleep(PAUSE_S)
        except Exception:
            log.exception("%s, trying again in %.1f s", what, PAUSE_S)
            await asyncio.sleep(PAUSE_S)


async def keep_going(work: Callable[[], Awaitable[object]], name: str) -> None:
    """Run what never ends, and again after a defect in it: without it nobody would notice what no longer happens."""
    while True:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 -- logged
            logs.event("loop.failed", error=error, loop=name)
        else:
            return
        await asyncio.sleep(PAUSE_S)


def in_background(stack: AsyncExitStack, work: Callable[[], Awaitable[object]], name: str) -> None:
    """Start what never ends; it is cancelled, and has ended, when its turn comes as the stack is closed."""
    task = asyncio.create_task(keep_going(work, name), name=name)

    async def end() -> None:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    stack.push_async_callback(end)


class Releaser:
    """Releases tasks from the outbox when some were added or have ended, and each second; one process at a time."""

    def __init__(self, outbox: Outbox, database: Database, wake: Callable[[], None]) -> None:
        self._outbox, self._database, self._wake = outbox, database, wake
        self._news = asyncio.Event()

    def nudge(self) -> None:
        """There may be something to release."""
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        await for_ever(self._step, "tasks can't be released")

    async def _step(self) -> None:
        try:
            async with asyncio.timeout(RELEASE_S):
                await self._news.wait()
                await asyncio.sleep(LINGER_S)  # more ends come in the same moment
        except TimeoutError:
            pass
        self._news.clear()
        async with self._database.hold("outbox", wait=False) as mine:
            if mine and await self._outbox.release():
                self._wake()


class Follower:
    """Publishes to the bus what the event log tells of other processes."""

    def __init__(self, event_log: EventLog, bus: EventBus) -> None:
        self._log, self._bus = event_log, bus
        self._last: int | None = None

    async def run(self) -> None:
        """Until cancelled."""
        await for_ever(self._step, "events of other processes can't be read")

    async def _step(self) -> None:
        if self._last is None:
            self._last = await self._log.last_id()
        await asyncio.sleep(FOLLOW_S)
        while True:  # all that is there: under load one page in each pause would fall behind for ever
            self._last, changed = await self._log.changed(self._last)
            for owner, job in changed:
                self._bus.publish(owner, job)
            if not changed:
                return
