"""Verbs on tasks whose attempts were used up: list them, and run them again once the cause is gone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from pixelmill.errors import PixelmillError
from pixelmill.jobs.dead_letters import MAX_REDRIVEN, Redriven
from pixelmill.jobs.model import Page
from pixelmill.service.parts import Parts

log = logging.getLogger(__name__)


class DeadLetterVerbs:
    """``owner`` None: everybody's. ``take_work`` raises while the service drains."""

    def __init__(self, parts: Parts, take_work: Callable[[], None]) -> None:
        self._parts, self._take_work = parts, take_work

    async def list(
        self, owner: str | None, *, limit: int = 100, cursor: str | None = None, job: str | None = None
    ) -> Page:
        """Tasks (:class:`Task`) that failed because their attempts were used up, the latest first."""
        return await self._parts.dead_letters.list(owner, limit=limit, cursor=cursor, job=job)

    async def redrive(self, owner: str | None, ids: Sequence[str]) -> Redriven:
        """Queue these tasks again, in a new run; what is not (any more) dead is left alone."""
        self._take_work()
        return await self._tell(await self._parts.dead_letters.redrive(owner, ids=ids))

    async def redrive_job(self, owner: str | None, job: str) -> Redriven:
        """The same with all dead tasks of a job, a transaction for each ``MAX_REDRIVEN``."""
        self._take_work()
        tasks: list[str] = []
        messages: list[str] = []
        while True:
            some = await self._tell(await self._parts.dead_letters.redrive(owner, job=job))
            tasks += some.tasks
            messages += some.messages
            if len(some.tasks) < MAX_REDRIVEN:
                return Redriven(tasks, messages, some.jobs)

    async def _tell(self, redriven: Redriven) -> Redriven:
        """Say that there is work, and forget the copies that the queue keeps."""
        if not redriven.tasks:
            return redriven
        for job in redriven.jobs:
            self._parts.bus.publish(job.owner, job.id)
        self._parts.wake()
        try:
            await self._parts.queue.forget(redriven.messages)
        except PixelmillError as error:
            # They are redriven all the same; a letter that stays is one that nobody asks about.
            log.warning("%d dead letters stay in the queue: %s", len(redriven.messages), error)
        return redriven
