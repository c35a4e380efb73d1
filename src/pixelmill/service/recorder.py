"""Turns task events into job state, in batches, and tells subscribers and metrics.

``emit`` returns when its events are durable. While one batch is being written the next one gathers, so the batch grows
with the load and a single event never waits for company.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pixelmill.events.bus import EventBus
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.recorder import Recorded
from pixelmill.jobs.store import JobStore
from pixelmill.metrics import Metrics

MAX_BATCH = 500
MAX_PENDING = 10_000


class Recorder:
    """One per process. Pending events are bounded: ``emit`` waits while ``MAX_PENDING`` are not yet written."""

    def __init__(self, store: JobStore, bus: EventBus, metrics: Metrics) -> None:
        self._store, self._bus, self._metrics = store, bus, metrics
        self._pending: list[tuple[Sequence[TaskEvent], asyncio.Future[None]]] = []
        self._room = asyncio.Semaphore(MAX_PENDING)
        self._writer: asyncio.Task[None] | None = None

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        """Record events; returns once they are durable, raises what the store raised."""
        async with self._room:
            done = asyncio.get_running_loop().create_future()
            self._pending.append((events, done))
            if self._writer is None:
                self._writer = asyncio.create_task(self._write(), name="recorder")
            # Shielded: a cancelled caller must not cancel the future that the writer will resolve.
            await asyncio.shield(done)

    async def close(self) -> None:
        """Wait until everything emitted so far is written."""
        if self._writer is not None:
            await self._writer

    async def _write(self) -> None:
        while self._pending:
            batch, self._pending = self._pending[:MAX_BATCH], self._pending[MAX_BATCH:]
            try:
                await self._record([event for events, _ in batch for event in events])
            except Exception as error:  # noqa: BLE001  handed to every waiting caller, which decides
                for _, done in batch:
                    if not done.done():
                        done.set_exception(error)
            else:
                for _, done in batch:
                    if not done.done():
                        done.set_result(None)
        self._writer = None

    async def _record(self, events: Sequence[TaskEvent]) -> None:
        self.tell(await self._store.record(events))

    def tell(self, recorded: Recorded) -> None:
        """Count what ended, and wake who waits for it."""
        for change in recorded.tasks:
            if change.after.is_final:
                self._metrics.task_ended(change)
        for job in recorded.jobs:
            self._bus.publish(job.owner, job.job)
