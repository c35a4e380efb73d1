"""What the service does beside its work: retention, expired uploads, garbage, gauges. Each round is bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING

from pixelmill.errors import NotFound, PixelmillError

if TYPE_CHECKING:
    from pixelmill.service.wiring import Wiring

log = logging.getLogger(__name__)

GAUGES_S = 2.0
ROUND_S = 30.0
GARBAGE_BATCH = 500


class Housekeeping:
    """Runs until cancelled; an error in one round is logged, and the next round tries again."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self.waiting = 0
        """Tasks that wait in the queue, at most ``GAUGES_S`` old."""
        self._wake = asyncio.Event()

    def collect_soon(self) -> None:
        """There is garbage: don't wait for the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Gauges every two seconds; a round of cleaning every half minute, or when something was deleted."""
        next_round = time.monotonic()
        while True:
            try:
                await self.measure()
                if self._wake.is_set() or time.monotonic() >= next_round:
                    self._wake.clear()
                    next_round = time.monotonic() + ROUND_S
                    await self.clean()
            except PixelmillError as error:
                log.warning("housekeeping failed and will be tried again: %s", error, extra={"error": error.type})
            try:
                async with asyncio.timeout(GAUGES_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def measure(self) -> None:
        """Read the gauges that cost a query."""
        depth = await self._wiring.queue.depth()
        self.waiting = depth.waiting
        self._wiring.metrics.set_queue(depth)

    async def clean(self) -> None:
        """Delete expired jobs, forget expired uploads, remove objects that nothing refers to."""
        wiring = self._wiring
        for owner, job in await wiring.upkeep.expired_jobs():
            try:
                held = await wiring.jobs.delete(owner, job)
            except NotFound:
                continue  # its owner was quicker
            await wiring.engine.cancel(held)
            wiring.bus.publish(owner, job)
        await wiring.uploads.expire()
        await wiring.event_log.prune()
        await wiring.upkeep.prune()
        while keys := await wiring.upkeep.garbage(GARBAGE_BATCH):
            await wiring.store.delete(keys)
            wiring.parameters.forget(keys)
            await wiring.upkeep.forget_garbage(keys)
