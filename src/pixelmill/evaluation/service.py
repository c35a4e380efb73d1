"""The target `service`: files are uploaded, jobs are made of them, and their tasks tell what became of each.

Everything that is known of a task comes from the service's list of tasks; its times are in milliseconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from pixelmill.client import AsyncClient, AsyncJob, Counts, TaskStatus
from pixelmill.errors import AccessError, PipelineError, PixelmillError
from pixelmill.evaluation.observation import Harvest, Observation, State
from pixelmill.evaluation.subject import OF_AN_IMAGE, Batch, CountingPolicy, Tally, Tell, state_of

T = TypeVar("T")
LANES = 8
"""Questions at once after a batch."""
TIDY_S = 120.0


class ServiceSubject:
    """A service under its URL. ``overflow``: the names of its overflow targets; see :func:`look_at`."""

    def __init__(
        self,
        url: str,
        token: str | None,
        pipeline: str,
        *,
        overflow: Iterable[str] = (),
        name: str = "evaluation",
    ) -> None:
        self._url, self._token, self._pipeline, self._name = url, token, pipeline, name
        self._overflow = frozenset(overflow)

    async def run(self, batch: Batch, tell: Tell) -> Harvest:
        """See :class:`~pixelmill.evaluation.subject.Subject`."""
        tally = Tally()
        async with AsyncClient(self._url, self._token, retry=CountingPolicy(tally=tally)) as client:
            sending = _Sending(client, self._pipeline, self._name, batch, tell)
            async with tidy(sending.jobs):
                with suppress(TimeoutError):
                    async with asyncio.timeout(batch.limit_s):
                        await (sending.one_by_one() if batch.trigger == "manual" else sending.at_once())
                tasks = await tasks_of(sending.jobs)
        seen = [*sending.refused, *self.observed(tasks, sizes_of(batch.files))]
        missing = len(batch.files) - len(seen)
        seen += [Observation("", "dropped", error="not-sent-in-time")] * max(0, missing)
        return Harvest(tuple(seen), sending.seconds, tally.throttles, tally.retries, tally.waited_s)

    def observed(self, tasks: Sequence[TaskStatus], sizes: Mapping[str, int]) -> list[Observation]:
        """Tasks as observations, those that started first first; ``sizes`` are bytes by the last part of a name."""
        ordered = sorted(tasks, key=lambda task: task.started or "")
        return [observation(task, sizes.get(task.name.rpartition("/")[2], 0), self._overflow) for task in ordered]


def sizes_of(files: Iterable[Path]) -> dict[str, int]:
    """Bytes by name."""
    return {path.name: path.stat().st_size for path in files}


class _Sending:
    """One batch on its way."""

    def __init__(self, client: AsyncClient, pipeline: str, name: str, batch: Batch, tell: Tell) -> None:
        self._client, self._pipeline, self._name, self._batch, self._tell = client, pipeline, name, batch, tell
        self.jobs: list[AsyncJob] = []
        self.refused: list[Observation] = []
        self.seconds = 0.0

    async def one_by_one(self) -> None:
        """A job for each file; then wait for all, the last first: it is the one that ends last, as a rule."""
        start = time.perf_counter()
        for path in self._batch.files:
            await self._submit([path])
            if self._batch.pause_s:
                await asyncio.sleep(self._batch.pause_s)
            self.seconds = time.perf_counter() - start
            self._tell(len(self.jobs) + len(self.refused))
        for job in reversed(self.jobs):
            await job.wait()

    async def at_once(self) -> None:
        """One job of all files: every event comes when it is taken."""
        start = time.perf_counter()
        await self._submit(self._batch.files)
        self.seconds = time.perf_counter() - start
        for job in self.jobs:
            async for event in job.events():
                if event.type == "job" and "counts" in event.data:
                    self._tell(Counts.read(event.data["counts"]).done)

    async def _submit(self, files: Sequence[Path]) -> None:
        try:
            self.jobs.append(await self._client.submit(files, self._pipeline, name=self._name))
        except OF_AN_IMAGE as error:
            self.refused += [Observation(path.name, state_of(error), error=error.type) for path in files]


@asynccontextmanager
async def tidy(jobs: Sequence[AsyncJob]) -> AsyncIterator[None]:
    """Delete the jobs that were made, also where the batch was ended early."""
    try:
        yield
    finally:
        deleting = asyncio.ensure_future(_delete(jobs))
        try:
            await asyncio.wait_for(asyncio.shield(deleting), TIDY_S)
        except asyncio.CancelledError:
            # Interrupted once more: the jobs that are left are those of somebody in a hurry.
            deleting.cancel()
            raise
        except TimeoutError:
            deleting.cancel()


async def _delete(jobs: Sequence[AsyncJob]) -> None:
    async def one(job: AsyncJob) -> None:
        # It may be gone, or the service may be: what was measured stands all the same.
        with suppress(PixelmillError):
            await job.delete()

    await in_lanes(one, jobs)


async def tasks_of(jobs: Sequence[AsyncJob]) -> list[TaskStatus]:
    """All tasks of all jobs."""

    async def of(job: AsyncJob) -> list[TaskStatus]:
        return [task async for task in job.tasks()]

    return [task for tasks in await in_lanes(of, jobs) for task in tasks]


async def in_lanes(call: Callable[[Any], Awaitable[T]], items: Sequence[Any], lanes: int = LANES) -> list[T]:
    """``call`` of each item, ``lanes`` at a time; results in the order of the items."""
    results: dict[int, T] = {}
    numbered = iter(enumerate(items))

    async def lane() -> None:
        for index, item in numbered:
            results[index] = await call(item)

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(lanes, len(items))):
                group.create_task(lane())
    except BaseExceptionGroup as errors:
        raise first_of(errors) from None
    return [results[index] for index in range(len(items))]


def first_of(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first real error of a group."""
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def observation(task: TaskStatus, size: int, overflow: frozenset[str]) -> Observation:
    """A task as an observation; one that has not ended was dropped."""
    outcome = task.outcome or {}
    width, height = outcome.get("source_size") or (0, 0)
    states: Mapping[str, State] = {"succeeded": "succeeded", "failed": "failed"}
    state: State = states.get(task.state, "dropped")
    return Observation(
        name=task.name,
        state=state,
        received=moment(task.queued),
        started=moment(task.started),
        ended=moment(task.ended) if state != "dropped" else None,
        error="" if state == "succeeded" else str((task.error or {}).get("type") or "not-ended-in-time"),
        attempts=max(1, task.attempts),
        target=task.target or "",
        overflow=task.target in overflow,
        cold=outcome.get("cold"),
        bytes_in=size,
        bytes_out=int(outcome.get("bytes") or 0),
        pixels=int(width) * int(height),
        timings={name.removesuffix("_ms"): float(value) for name, value in (outcome.get("timings") or {}).items()},
    )


def moment(text: str | None) -> float | None:
    """ISO 8601 as seconds since the epoch."""
    return None if text is None else datetime.fromisoformat(text).timestamp()


async def look_at(url: str, token: str | None, pipeline: str) -> tuple[str, list[Mapping[str, Any]]]:
    """Whether a service is there and can run a pipeline: the pipeline's text form, and its machines.

    Raises :class:`PipelineError` where it can't be read or run there. Without the right to see machines there are none.
    """
    async with AsyncClient(url, token, retry=CountingPolicy(attempts=3)) as client:
        found = await client.check(pipeline)
        if not found.get("valid"):
            error = found.get("error") or {}
            raise PipelineError(str(error.get("detail") or f"The service can't read the pipeline {pipeline!r}."))
        if found.get("needs"):
            lacks = "; ".join(str(lack.get("detail") or lack) for lack in found["needs"])
            raise PipelineError(f"The service can't run {pipeline!r}: {lacks}")
        try:
            nodes = await client.nodes()
        except AccessError:
            nodes = []
        return str(found.get("text") or pipeline), nodes


def targets_of(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The targets that the machines tell of, by name."""
    return {
        str(target["name"]): target for node in nodes for target in (node.get("dispatcher") or {}).get("targets") or []
    }
