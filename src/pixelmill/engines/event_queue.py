"""Task events from workers without a database: how they are sent, and the way that needs nothing beside the queue.

``EventSink`` is the seam: what a worker hands its events to. :class:`QueueSink` puts them, in batches, into an events
queue of the same kind as the task queues; :class:`EventIntake`, in the service, records them and deletes them then. So
they are delivered at least once; applying an event twice, or late, changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from pixelmill import logs
from pixelmill.engines.queue import Lease, LeaseQueue, Message
from pixelmill.engines.reporter import Emit
from pixelmill.errors import JobError, PixelmillError
from pixelmill.jobs.model import TaskEvent
from pixelmill.jobs.taskevents import event_from_record, event_to_json

log = logging.getLogger(__name__)

BATCH_BYTES = 20_000
"""Of a message, unless one event alone is longer: encoded again it stays below what every service takes."""
RECEIVE = 10
VISIBILITY_S = 30.0
IDLE_S = 0.25
PAUSE_S = 1.0


class EventSink(Protocol):
    """Where the events of a worker go."""

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        """Return once they are durable; raises :class:`StorageUnavailable` and the like, and is called again then."""
        ...


def pack(events: Sequence[TaskEvent]) -> list[str]:
    """The events in order, as JSON arrays of bounded length."""
    bodies: list[list[str]] = []
    size = 0
    for event in events:
        text = event_to_json(event).decode()
        if not bodies or size + len(text) > BATCH_BYTES:
            bodies.append([])
            size = 0
        bodies[-1].append(text)
        size += len(text)
    return [f"[{','.join(texts)}]" for texts in bodies]


def unpack(body: str) -> list[TaskEvent]:
    """The inverse of one of :func:`pack`; raises :class:`JobError` where nothing in it can be read.

    Fields of a newer version are left out, and so are events of kinds that only it knows.
    """
    try:
        records: list[dict[str, Any]] = list(json.loads(body))
    except (ValueError, TypeError) as error:
        raise JobError(f"A message of events can't be read ({error}); it comes from another version.") from error
    events: list[TaskEvent] = []
    strange: JobError | None = None
    for record in records:
        try:
            events.append(event_from_record(record))
        except JobError as error:
            strange = error
            logs.event("events.unreadable", detail=str(error))
    if strange is not None and not events:
        raise strange
    return events


class QueueSink:
    """Puts events into a queue."""

    def __init__(self, queue: LeaseQueue) -> None:
        self._queue = queue

    async def emit(self, events: Sequence[TaskEvent]) -> None:
        """See :class:`EventSink`."""
        await self._queue.send([Message(f"events-{secrets.token_hex(8)}/0", body) for body in pack(events)])


class EventIntake:
    """Takes events from the queue and records them. Any number of processes may."""

    def __init__(self, queue: LeaseQueue, record: Emit, *, idle: Callable[[], float] = lambda: IDLE_S) -> None:
        self._queue, self._record, self._idle = queue, record, idle

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                if not await self.take():
                    await asyncio.sleep(self._idle())
            except PixelmillError as error:
                log.warning("events can't be taken, trying again in %.1f s: %s", PAUSE_S, error)
                await asyncio.sleep(PAUSE_S)
            except Exception:
                log.exception("events can't be taken, trying again in %.1f s", PAUSE_S)
                await asyncio.sleep(PAUSE_S)

    async def take(self) -> int:
        """Record what is there, up to a few messages; returns how many messages came.

        Where that fails they go back at once: a lease on RabbitMQ lasts as long as our connection, not some seconds.
        """
        leases = await self._queue.receive(RECEIVE, VISIBILITY_S)
        events: list[TaskEvent] = []
        good: list[Lease] = []
        for lease in leases:
            try:
                events += unpack(lease.message.body)
                good.append(lease)
            except JobError as error:
                log.error("events were set aside: %s", error)  # noqa: TRY400 -- expected, and the sentence says it all
                await self._queue.dead_letter(lease, str(error))
        try:
            await self._recorded(events)
        except BaseException:
            with suppress(PixelmillError):  # then their leases end, or the connection has
                await self._queue.release(good)
            raise
        await self._queue.delete(good)
        return len(leases)

    async def _recorded(self, events: Sequence[TaskEvent]) -> None:
        """Record; an event that can't be recorded at all is logged and left out."""
        try:
            if events:
                await self._record(events)
        except PixelmillError:
            raise
        except Exception as error:  # noqa: BLE001 -- a defect: logged below, and one event must not stop the others
            if len(events) == 1:
                logs.event("events.unreadable", error=error)
                return
            for event in events:
                await self._recorded([event])
