"""Turns task events into job state, and tells subscribers and metrics what changed.

Engines emit events in batches, and the database commits what arrives together in one transaction; so the batch grows
with the load and nothing is buffered here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from pixelmill.events.bus import EventBus
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.recorder import Recorded
from pixelmill.jobs.store import JobStore
from pixelmill.metrics import Metrics


class Recorder:
    """One per process. ``ended`` is called where tasks have ended: there is room for others.

    ``came_late`` is given the ends that changed nothing: told before, or of tasks that were cancelled.
    """

    def __init__(
        self,
        store: JobStore,
        bus: EventBus,
        metrics: Metrics,
        ended: Callable[[], None] = lambda: None,
        came_late: Callable[[Sequence[TaskEvent]], Awaitable[None]] | None = None,
    ) -> None:
        self._store, self._bus, self._metrics, self._ended = store, bus, metrics, ended
        self._came_late = came_late

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        """Record events; returns once they are durable, raises what the store raised."""
        recorded = await self._store.record(events)
        self._tell(recorded)
        if self._came_late is not None:
            changed = {change.task for change in recorded.tasks}
            late = [one for one in events if one.kind in {"succeeded", "failed"} and one.task not in changed]
            if late:
                await self._came_late(late)

    def _tell(self, recorded: Recorded) -> None:
        for change in recorded.tasks:
            if change.after.is_final:
                self._metrics.task_ended(change)
                error = (change.event.error or {}).get("type", "")
                if error.startswith("storage-"):
                    self._metrics.store_failed("task", error)
        if recorded.tasks:
            self._ended()
        for owner, job in dict.fromkeys([*((one.owner, one.job) for one in recorded.jobs), *recorded.moving]):
            self._bus.publish(owner, job)
