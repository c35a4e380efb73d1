"""Cancel across processes: what a process with a database knows of it, and how one without is told.

The database decides: what it has as cancelled ends as cancelled, whatever a worker still says, and no result of it
stays. The rest is about slots: running tasks are stopped, so that others may have their places.

- An engine whose process has the database asks it each second.
- With RabbitMQ, workers are told through the broker (``engines/celery_engine.py``).
- With queues of a cloud, workers are told through Redis where there is one, and find marks in the object store when
  they extend their leases.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from pixelmill.engines.cancels import CancelMarks, discard_results
from pixelmill.errors import PixelmillError
from pixelmill.events.redis_news import RedisNews
from pixelmill.jobs.cancelled import cancelled_among
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import TaskMessage, message_id
from pixelmill.jobs.model import TaskEvent, result_key
from pixelmill.storage.store import ObjectStore

log = logging.getLogger(__name__)

LOOK_S = 1.0
TOPIC = "cancelled"
CHUNK = 500
"""Ids in one piece of news."""
TELL_S = 10.0
"""Longest that a cancel waits for Redis, and for the store; the tasks have ended by then, and only hold slots."""


class Cancelled:
    """See :class:`pixelmill.engines.cancels.Cancels`: with a database."""

    every_s = LOOK_S

    def __init__(self, database: Database, store: ObjectStore) -> None:
        self._database, self._store = database, store

    async def unwanted(self, messages: Sequence[TaskMessage]) -> frozenset[str]:
        """As the database has it."""
        return await cancelled_among(self._database, [message.id for message in messages], or_gone=True)

    async def discard(self, messages: Sequence[TaskMessage]) -> None:
        """Remove what was stored."""
        await discard_results(self._store, [result_key(one.owner, one.job, one.task, one.run) for one in messages])

    async def came_late(self, ends: Sequence[TaskEvent]) -> None:
        """Ends that changed nothing: where the task was cancelled before, its result goes. Raises nothing.

        Results of deleted jobs are left to the sweep, for an unknown task may be one of another installation.
        """
        try:
            ids = {message_id(end.task, end.run): end for end in ends}
            late = [ids[one] for one in await cancelled_among(self._database, ids)]
            await discard_results(self._store, [result_key(end.owner, end.job, end.task, end.run) for end in late])
        except PixelmillError as error:
            log.warning("results of cancelled tasks stay until their jobs are deleted: %s", error)


class Tell:
    """Tells workers that have no database which tasks were cancelled. ``news``: None where there is no Redis."""

    def __init__(self, store: ObjectStore, news: RedisNews | None) -> None:
        self._marks, self._news = CancelMarks(store), news

    async def __call__(self, ids: Sequence[str]) -> None:
        """Raises nothing: a worker that is not told runs in vain, and changes nothing."""
        if not ids:
            return
        ways = {"Redis": self._say, "marks in the store": self._marks.put}
        for name, way in ways.items():
            try:
                async with asyncio.timeout(TELL_S):
                    await way(ids)
            except (PixelmillError, TimeoutError) as error:
                reason = str(error) or f"no answer within {TELL_S:g} s"
                log.warning("workers could not be told of %d cancelled tasks by %s: %s", len(ids), name, reason)

    async def _say(self, ids: Sequence[str]) -> None:
        if self._news is not None:
            for start in range(0, len(ids), CHUNK):
                await self._news.tell(TOPIC, list(ids[start : start + CHUNK]))


async def hear_cancels(news: RedisNews, cancel: Callable[[Sequence[str]], Awaitable[None]]) -> None:
    """The other end of :class:`Tell`, in a worker: ``cancel`` is given ids of messages, until this is cancelled."""

    async def heard(ids: list[Any]) -> None:
        await cancel([one for one in ids if isinstance(one, str)])

    await news.listen(TOPIC, heard)
