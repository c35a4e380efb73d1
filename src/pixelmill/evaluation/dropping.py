"""The targets `folder` and `s3`: images are put where a trigger rule watches, and nobody asks for anything else.

An event comes when its file is whole in its place, by our clock; the service's tasks tell the rest. What is put gets a
name that was never there, for a rule takes each state of an object once.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from pixelmill.client import AsyncClient, AsyncJob, JobStatus, TaskStatus
from pixelmill.client.values import FINAL_STATES
from pixelmill.errors import PixelmillError
from pixelmill.evaluation.observation import Harvest, Observation
from pixelmill.evaluation.service import ServiceSubject, in_lanes, moment, tasks_of, tidy
from pixelmill.evaluation.subject import OF_AN_IMAGE, Batch, CountingPolicy, Tally, Tell

LANES = 16
"""Files put at a time where all come at once."""
LOOK_S = 0.2
DELIVERY_S = 60.0
CLOCKS_S = 60.0
"""How far the service's clock may be behind ours."""
TAG = "trigger"
"""The tag of a job that names its rule."""


class Drop(Protocol):
    """A place that a rule watches. ``rule`` is its name."""

    @property
    def rule(self) -> str:
        """The rule's name."""
        ...

    async def put(self, path: Path, name: str) -> None:
        """Put a file there under a name; it is whole when this returns."""
        ...

    async def delivered(self) -> int:
        """How many results are in the rule's output."""
        ...

    async def clear(self) -> None:
        """Remove what was put, and the results."""
        ...


@dataclass(slots=True)
class _Dropped:
    """What was put: when, and how large, by name."""

    when: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    refused: list[Observation] = field(default_factory=list)
    seconds: float = 0.0


class DropSubject:
    """A service with a rule that watches ``drop``. ``reader`` reads its tasks as observations."""

    def __init__(self, url: str, token: str | None, reader: ServiceSubject, drop: Drop) -> None:
        self._url, self._token, self._reader, self._drop = url, token, reader, drop

    async def run(self, batch: Batch, tell: Tell) -> Harvest:
        """See :class:`~pixelmill.evaluation.subject.Subject`."""
        tally, dropped, tasks = Tally(), _Dropped(), list[TaskStatus]()
        async with AsyncClient(self._url, self._token, retry=CountingPolicy(tally=tally)) as client:
            found = _Found(client, self._drop.rule, dropped)
            try:
                async with tidy(found.ours):
                    try:
                        with suppress(TimeoutError):
                            async with asyncio.timeout(batch.limit_s):
                                await self._put(batch, dropped)
                                while not await found.all_ended(tell):  # noqa: ASYNC110 -- another process works
                                    await asyncio.sleep(LOOK_S)
                    finally:
                        tasks = await found.tasks()
                    await self._until_delivered(sum(task.state == "succeeded" for task in tasks))
            finally:
                await self._drop.clear()
        seen = [
            replace(one, received=dropped.when[_last(one.name)]) for one in self._reader.observed(tasks, dropped.sizes)
        ]
        missing = [name for name in dropped.when if name not in {_last(one.name) for one in seen}]
        # Its place took it, and the service has no task of it.
        seen += [Observation(name, "dropped", dropped.when[name], error="no-task-in-time") for name in missing]
        seen += dropped.refused
        unsent = [Observation("", "dropped", error="not-sent-in-time")] * (len(batch.files) - len(seen))
        return Harvest((*seen, *unsent), dropped.seconds, tally.throttles, tally.retries, tally.waited_s)

    async def _put(self, batch: Batch, dropped: _Dropped) -> None:
        start, begun = time.perf_counter(), secrets.token_hex(4)

        async def put(path: Path) -> None:
            name = f"{begun}-{path.name}"
            try:
                await self._drop.put(path, name)
            except OF_AN_IMAGE as error:
                dropped.refused.append(Observation(name, "dropped", error=error.type))
                return
            dropped.when[name] = time.time()
            dropped.sizes[name] = path.stat().st_size  # noqa: ASYNC240 -- microseconds
            dropped.seconds = time.perf_counter() - start
            if batch.trigger == "manual" and batch.pause_s:
                await asyncio.sleep(batch.pause_s)

        await in_lanes(put, batch.files, 1 if batch.trigger == "manual" else LANES)

    async def _until_delivered(self, results: int) -> None:
        """The rule's results are copied to their place; before that nothing may be removed."""
        with suppress(TimeoutError, PixelmillError):
            async with asyncio.timeout(DELIVERY_S):
                while await self._drop.delivered() < results:  # noqa: ASYNC110 -- another process delivers
                    await asyncio.sleep(LOOK_S)


class _Found:
    """The jobs that a rule made since the batch began. Others may drop files there too: their jobs are left alone."""

    def __init__(self, client: AsyncClient, rule: str, dropped: _Dropped) -> None:
        self._client, self._rule, self._dropped = client, rule, dropped
        self._since = time.time() - CLOCKS_S
        self.ours: list[AsyncJob] = []

    async def all_ended(self, tell: Tell) -> bool:
        """Whether every file that was put has ended."""
        wanted = len(self._dropped.when)
        done = sum([status.counts.done async for status in self._jobs()])
        tell(min(done, wanted))
        if done < wanted:
            return False
        return sum(task.state in FINAL_STATES for task in await self.tasks()) >= wanted

    async def tasks(self) -> list[TaskStatus]:
        """One task for each file that was put; an event that was told twice has one, as a rule."""
        jobs = [AsyncJob(self._client, status) async for status in self._jobs()]
        every = await in_lanes(lambda job: tasks_of([job]), jobs)
        mine = [all(map(self._put, tasks)) for tasks in every]
        self.ours[:] = [job for job, own in zip(jobs, mine, strict=True) if own]
        return list({_last(task.name): task for tasks in every for task in tasks if self._put(task)}.values())

    def _put(self, task: TaskStatus) -> bool:
        return _last(task.name) in self._dropped.when

    async def _jobs(self) -> AsyncIterator[JobStatus]:
        async for status in self._client.jobs():  # newest first
            if (moment(status.created) or 0.0) < self._since:
                return
            if status.tags.get(TAG) == self._rule:
                yield status


def _last(name: str) -> str:
    return name.rpartition("/")[2]
