"""The outbox: releases tasks that wait in the job store to a queue elsewhere, a bounded window with fair shares.

Planning is in ``jobs/outbox.py``. A task is sent first and marked afterwards: a crash between the two sends it twice,
which a lease queue and the run of a task both tolerate; none is lost.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress

from pixelmill.engines.queue import DeadLetter, Lease, LeaseQueue, Message, QueueDepth, QueueTraits
from pixelmill.errors import PixelmillError
from pixelmill.jobs.outbox import plan_release
from pixelmill.jobs.release import Releases

log = logging.getLogger(__name__)

WINDOW = 1000


class Outbox:
    """Call :meth:`release` when tasks were added, and when tasks have ended."""

    def __init__(self, releases: Releases, queue: LeaseQueue, window: int = WINDOW) -> None:
        self._releases = releases
        self._queue = queue
        self._window = window

    async def release(self) -> int:
        """Fill the window; returns how many tasks were sent."""
        waiting, in_flight = await self._releases.waiting()
        plan = plan_release(waiting, in_flight, self._window)
        sent = 0
        for job, count in plan.items():
            queued = await self._releases.next(job, count)
            await self._queue.send(
                [
                    Message(
                        id=one.message.id,
                        body=one.message.to_json(),
                        priority=one.priority,
                        owner=one.message.owner,
                        trace=one.message.trace,
                        sent=one.message.queued,
                    )
                    for one in queued
                ]
            )
            await self._releases.mark([one.message.task for one in queued])
            sent += len(queued)
        return sent


class CheckedQueue:
    """A lease queue that discards what was cancelled after its release, on receipt. Everything else passes through."""

    def __init__(self, queue: LeaseQueue, releases: Releases) -> None:
        self._queue = queue
        self._releases = releases

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Messages whose tasks are still wanted. Where the job store can't tell, they go back and lose no attempt."""
        leases = await self._queue.receive(limit, visibility_s, models=models)
        try:
            wanted = await self._releases.wanted([lease.message.id for lease in leases])
        except BaseException:
            with suppress(PixelmillError):
                await self._queue.release(leases, begun=False)
            raise
        try:
            await self._queue.delete([lease for lease in leases if lease.message.id not in wanted])
        except PixelmillError as error:  # they come again, and those that are wanted are here
            log.warning("unwanted messages could not be deleted: %s", error)
        return [lease for lease in leases if lease.message.id in wanted]

    async def send(self, messages: Sequence[Message]) -> None:
        """Pass through."""
        await self._queue.send(messages)

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Pass through."""
        await self._queue.extend(leases, visibility_s)

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Pass through."""
        await self._queue.delete(leases)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Pass through."""
        await self._queue.release(leases, after_s=after_s, begun=begun)

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Pass through."""
        await self._queue.dead_letter(lease, reason)

    @property
    def traits(self) -> QueueTraits:
        """Those of the queue."""
        return self._queue.traits

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Pass through."""
        return await self._queue.dead(limit)

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Pass through."""
        return await self._queue.redrive(ids)

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Pass through."""
        return await self._queue.forget(ids)

    async def depth(self) -> QueueDepth:
        """Pass through."""
        return await self._queue.depth()
