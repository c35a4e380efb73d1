"""What the service does beside its work: retention, expired uploads, garbage, gauges. Each round is bounded."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from pixelmill.engines.cancels import PREFIX as CANCELS
from pixelmill.engines.envelope import PREFIX as QUEUE_BODIES
from pixelmill.engines.queue import QueueDepth
from pixelmill.errors import NotFound, PixelmillError
from pixelmill.jobs.release import Releases
from pixelmill.service.objects import sweeps_here
from pixelmill.service.parts import Parts
from pixelmill.targets.transfer import PREFIX as TRANSFERS

log = logging.getLogger(__name__)

GAUGES_S = 2.0
ROUND_S = 30.0
SWEEP_S = 24 * 3600.0
GARBAGE_BATCH = 500
PASSING_S = 24 * 3600.0
"""No call and no running task takes that long."""


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
                    await self._alone(self.clean)
                if time.monotonic() >= next_sweep:
                    next_sweep = time.monotonic() + ROUND_S  # where it fails, not a day later
                    await self._alone(self.sweep)
                    next_sweep = time.monotonic() + SWEEP_S
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
        # Of a queue elsewhere most tasks are not in it yet.
        inside = self._parts.cloud is None
        self.waiting = depth.waiting if inside else (await self._parts.upkeep.statistics()).tasks["queued"]
        self._parts.metrics.set_queue(depth)

    async def _alone(self, work: Callable[[], Awaitable[None]]) -> None:
        """Of the processes that share the database one does this at a time; the others have nothing to do then."""
        async with self._parts.database.hold("housekeeping", wait=False) as mine:
            if mine:
                await work()

    async def clean(self) -> None:
        """Delete expired jobs, forget expired uploads, remove objects that nothing refers to."""
        parts, until = self._parts, time.monotonic() + ROUND_S
        # More may expire in a round than one page: by pages, else the tables would grow for ever.
        while (expired := await parts.upkeep.expired_jobs()) and time.monotonic() < until:
            for owner, job in expired:
                await self._remove(owner, job)
        while await parts.uploads.expire() and time.monotonic() < until:
            pass
        await parts.event_log.prune()
        await parts.upkeep.prune()
        await parts.webhooks.prune()
        await parts.sessions.prune()
        while await self._collect():
            pass

    async def _remove(self, owner: str, job: str) -> None:
        try:
            held = await self._parts.jobs.delete(owner, job)
        except NotFound:
            return  # its owner was quicker
        await self._parts.stop_tasks(held)
        self._parts.bus.publish(owner, job)

    async def _collect(self) -> bool:
        parts = self._parts
        async with self._parts.keep_blobs():
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
        if not await sweeps_here(self._parts.store, self._parts.config):
            log.info("another installation sweeps this store")
            return
        oldest = time.time() - self._parts.config.upload_ttl_s
        for prefix in ("incoming/", "uploads/", "images/", "results/", QUEUE_BODIES):
            batch: list[str] = []
            async for found in self._parts.store.list(prefix):
                if found.modified < oldest:
                    batch.append(found.key)
                if len(batch) >= GARBAGE_BATCH:
                    await self._sweep(prefix, batch)
                    batch = []
            await self._sweep(prefix, batch)

        await self._sweep_passing(TRANSFERS)
        await self._sweep_passing(CANCELS)

    async def _sweep_passing(self, prefix: str) -> None:
        """Remove what calls of processes that died had sent and stored, and marks of tasks that were cancelled."""
        oldest = time.time() - PASSING_S
        keys = [found.key async for found in self._parts.store.list(prefix) if found.modified < oldest]
        for start in range(0, len(keys), GARBAGE_BATCH):
            await self._parts.store.delete(keys[start : start + GARBAGE_BATCH])

    async def _sweep(self, prefix: str, keys: list[str]) -> None:
        if not keys:
            return
        async with self._parts.keep_blobs():
            if prefix == "results/":
                # A result that was still being written when its job was deleted: results/OWNER/JOB/TASK. Counted from
                # the end: the name of an owner may hold a slash.
                jobs = {key: key.split("/")[-2] for key in keys}
                gone = await self._parts.upkeep.gone(list(set(jobs.values())))
                unknown = [key for key, job in jobs.items() if job in gone]
            elif prefix == QUEUE_BODIES:
                ids = [key.removeprefix(prefix) for key in keys]
                wanted = await Releases(self._parts.jobs).wanted([one for one in ids if "/" in one])
                unknown = [key for key, one in zip(keys, ids, strict=True) if one not in wanted]
            else:
                unknown = await self._parts.upkeep.unknown(keys)
            await self._parts.store.delete(unknown)
            self._parts.parameters.forget(unknown)
