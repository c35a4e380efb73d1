"""What the service does beside its work: retention, expired uploads, garbage, gauges. Each round is bounded."""

from __future__ import annotations

import asyncio
import logging
import time

from pixelmill.engines.queue import QueueDepth
from pixelmill.errors import NotFound, PixelmillError
from pixelmill.service.parts import Parts

log = logging.getLogger(__name__)

GAUGES_S = 2.0
ROUND_S = 30.0
SWEEP_S = 24 * 3600.0
GARBAGE_BATCH = 500


class Housekeeping:
    """Runs until cancelled; an error in one round is logged, and the next round tries again."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.depth = QueueDepth(0, 0, 0, 0.0)
        self.waiting = 0
        """Tasks that wait in the queue, at most ``GAUGES_S`` old."""
        self._wake = asyncio.Event()

    def collect_soon(self) -> None:
        """There is garbage: don't wait for the next round."""
        self._wake.set()

    async def run(self) -> None:
        """Gauges every two seconds; cleaning every half minute, or when something was deleted; a sweep a day."""
        next_round = next_sweep = time.monotonic()
        while True:
            try:
                await self.measure()
                if self._wake.is_set() or time.monotonic() >= next_round:
                    self._wake.clear()
                    next_round = time.monotonic() + ROUND_S
                    await self.clean()
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + SWEEP_S
                    await self.sweep()
            except PixelmillError as error:
                log.warning("housekeeping failed and will be tried again: %s", error, extra={"error": error.type})
            except Exception:
                # A defect; but without these rounds nothing expires any more, and nobody would notice.
                log.exception("housekeeping failed and will be tried again")
            try:
                async with asyncio.timeout(GAUGES_S):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def measure(self) -> None:
        """Read the gauges that cost a query."""
        depth = await self._parts.queue.depth()
        self.depth = depth
        self.waiting = depth.waiting
        self._parts.metrics.set_queue(depth)

    async def clean(self) -> None:
        """Delete expired jobs, forget expired uploads, remove objects that nothing refers to."""
        parts = self._parts
        for owner, job in await parts.upkeep.expired_jobs():
            try:
                held = await parts.jobs.delete(owner, job)
            except NotFound:
                continue  # its owner was quicker
            await parts.engine.cancel(held)
            parts.bus.publish(owner, job)
        await parts.uploads.expire()
        await parts.event_log.prune()
        await parts.upkeep.prune()
        await parts.webhooks.prune()
        while await self._collect():
            pass

    async def _collect(self) -> bool:
        parts = self._parts
        async with self._parts.blobs:
            keys = await parts.upkeep.garbage(GARBAGE_BATCH)
            await parts.store.delete(keys)
            parts.parameters.forget(keys)
            await parts.upkeep.forget_garbage(keys)
        return bool(keys)

    async def sweep(self) -> None:
        """Remove inputs, images and results that no row refers to and that are older than an upload may get.

        A process that died between storing bytes and recording them leaves such objects, and synchronous requests
        leave the images they referred to.
        """
        oldest = time.time() - self._parts.config.upload_ttl_s
        for prefix in ("uploads/", "images/", "results/"):
            batch: list[str] = []
            async for found in self._parts.store.list(prefix):
                if found.modified < oldest:
                    batch.append(found.key)
                if len(batch) >= GARBAGE_BATCH:
                    await self._sweep(prefix, batch)
                    batch = []
            await self._sweep(prefix, batch)

    async def _sweep(self, prefix: str, keys: list[str]) -> None:
        if not keys:
            return
        async with self._parts.blobs:
            if prefix == "results/":
                # A result that was still being written when its job was deleted: results/OWNER/JOB/TASK.
                gone = await self._parts.upkeep.gone(list({key.split("/")[2] for key in keys}))
                unknown = [key for key in keys if key.split("/")[2] in gone]
            else:
                unknown = await self._parts.upkeep.unknown(keys)
            await self._parts.store.delete(unknown)
            self._parts.parameters.forget(unknown)
