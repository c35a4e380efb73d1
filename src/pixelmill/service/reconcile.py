"""Rebuilds state from what can't be lost: the job store, the queue, and the results in the object store.

For when task events were lost (Redis was wiped, or lost its last second): a task whose result document exists has
ended, whatever the job store knows; an open one that nobody attends to is queued again. Bounded memory, idempotent,
safe beside running workers: a task that is put back although somebody runs it ends once, for its first result stands.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pixelmill import logs
from pixelmill.errors import ObjectNotFound, PixelmillError
from pixelmill.jobs.model import State, TaskEvent, result_key
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.suspects import OpenTask, Suspects
from pixelmill.storage.store import ObjectStore

log = logging.getLogger(__name__)

PAGE = 500
_RUN = re.compile(r"-r[0-9]+$")
READS = 16
"""Result documents that are read at once."""
PAUSE_S = 30.0
"""Between two rounds that lost events ask for."""

Emit = Callable[[Sequence[TaskEvent]], Awaitable[object]]


@dataclass(slots=True)
class Rebuilt:
    """What a round has found so far."""

    looked_at: int = 0
    ended: int = 0
    requeued: int = 0


class Lost:
    """That events may be lost, as a flag with a reason. Belongs to one event loop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self, reason: str) -> None:
        """Something may be lost."""
        logs.event("events.lost", reason=reason)
        self._event.set()

    async def wait(self) -> None:
        """Return when something may be lost since the last return."""
        await self._event.wait()
        self._event.clear()


class Reconcile:
    """Over a job store and an object store. ``emit`` records the ends that were missed (and tells readers)."""

    def __init__(self, jobs: JobStore, store: ObjectStore, emit: Emit) -> None:
        self._suspects, self._store, self._emit = Suspects(jobs), store, emit
        self._inside = jobs.enqueues

    async def forever(self, lost: Lost) -> None:
        """A round whenever something may be lost, until cancelled."""
        while True:
            await lost.wait()
            try:
                await self.run(thorough=True)
            except PixelmillError as error:
                log.warning("state could not be rebuilt and will be tried again: %s", error)
                lost.set("the last round failed")
            await asyncio.sleep(PAUSE_S)

    async def run(
        self,
        *,
        thorough: bool = False,
        requeue: bool = True,
        resend: bool = False,
        progress: Callable[[Rebuilt], object] = lambda _: None,
    ) -> Rebuilt:
        """One round. ``thorough``: look at every result of every open job, not only of tasks that nobody attends to.

        ``requeue`` False: only ends are recorded. ``resend``: with a queue elsewhere too, whose messages may be lost;
        those that are not come twice, which costs work and changes nothing.
        """
        done = Rebuilt()
        requeue = requeue and (resend or self._inside)
        if thorough:
            async for ids in self._with_results():
                await self._record_ends(await self._suspects.still_open(ids), done)
                progress(done)
        after = ""
        while page := await self._suspects.unattended(after, PAGE):
            after = page[-1].id
            await self._settle(page, done, requeue=requeue)
            progress(done)
        return _told(done)

    async def send_again(self, lost: Sequence[OpenTask]) -> Rebuilt:
        """Record the ends of those of these tasks that have a result, and queue the others again."""
        done = Rebuilt()
        for start in range(0, len(lost), PAGE):
            await self._settle(lost[start : start + PAGE], done, requeue=True)
        return _told(done)

    async def _settle(self, page: Sequence[OpenTask], done: Rebuilt, *, requeue: bool) -> None:
        # In this order: whoever deleted a message had stored its result before.
        left = await self._record_ends(page, done)
        done.requeued += await self._suspects.put_back(left) if requeue else 0

    async def _record_ends(self, page: Sequence[OpenTask], done: Rebuilt) -> list[OpenTask]:
        """Record the end of those that have a result document; the others are returned."""
        left: list[OpenTask] = []
        events: list[TaskEvent] = []
        for start in range(0, len(page), READS):
            some = page[start : start + READS]
            for task, event in zip(some, await asyncio.gather(*map(self._end_of, some)), strict=True):
                if event is None:
                    left.append(task)
                else:
                    events.append(event)
        if events:
            await self._emit(events)
        done.looked_at += len(page)
        done.ended += len(events)
        return left

    async def _end_of(self, task: OpenTask) -> TaskEvent | None:
        """The end that the task's result document tells; None where there is none, or none that can be read."""
        key = result_key(task.owner, task.job, task.id, task.run) + ".json"
        try:
            document: dict[str, Any] = json.loads(await self._store.get(key))
            state = State(document["state"])
            if state not in {State.SUCCEEDED, State.FAILED}:
                return None
            return TaskEvent(
                kind=state.value,
                task=task.id,
                job=task.job,
                owner=task.owner,
                run=task.run,
                attempt=max(1, int(document["attempt"])),
                at=float(document["ended"]),
                target=document["target"],
                worker=document["worker"],
                outcome=document["outcome"],
                error=document["error"],
                why=document.get("why"),
                cost=document.get("cost", 0.0),
            )
        except ObjectNotFound:
            return None
        except (ValueError, TypeError, KeyError) as error:
            log.warning("the result document %s can't be read: %s", key, error)
            return None

    async def _with_results(self) -> AsyncIterator[list[str]]:
        """Ids of tasks of open jobs that have a result document, by pages."""
        after = ""
        while page := await self._suspects.open_jobs(after, PAGE):
            after = page[-1][1]
            for owner, job in page:
                ids: list[str] = []
                async for found in self._store.list(f"results/{owner}/{job}/"):
                    name = found.key.rpartition("/")[2]
                    if name.endswith(".json"):
                        ids.append(_RUN.sub("", name.removesuffix(".json")))
                    if len(ids) >= PAGE:
                        yield ids
                        ids = []
                if ids:
                    yield ids


def _told(done: Rebuilt) -> Rebuilt:
    if done.ended or done.requeued:
        logs.event("recovery.reconciled", ended=done.ended, requeued=done.requeued)
    return done
