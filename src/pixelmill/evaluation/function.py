"""The target `function`: each image is an event, and each event an invocation of a function on this machine.

Whoever runs the function hands it in: this file knows what an invocation tells, not what runs it. An event comes when
its image is in its place; as many are invoked at a time as the function may have environments, and the start of a new
environment counts as waiting, for the work begins after it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pixelmill.evaluation.observation import Harvest, Observation
from pixelmill.evaluation.service import first_of, in_lanes
from pixelmill.evaluation.subject import OF_AN_IMAGE, Batch, Tell

LANES = 16


class Call(Protocol):
    """One invocation that has ended. Times are seconds; ``started_at`` since the epoch."""

    @property
    def result(self) -> Any:
        """What the handler returned."""

    @property
    def error(self) -> Mapping[str, Any] | None:
        """``errorType`` and ``errorMessage``, or None."""

    @property
    def throttled(self) -> bool:
        """Nothing ran."""

    @property
    def cold(self) -> bool:
        """It was the first of its environment."""

    @property
    def init_s(self) -> float:
        """How long the environment took to start; 0 where it was warm."""

    @property
    def duration_s(self) -> float:
        """Of the handler."""

    @property
    def started_at(self) -> float:
        """When its environment was there, or began to start."""


class Function(Protocol):
    """What runs invocations. ``concurrency`` is how many at a time."""

    concurrency: int

    def invoke(self, event: Any, *, wait_s: float = 0.0) -> Call:
        """Blocking: an invocation, which waits so long for an environment."""
        ...


@dataclass(frozen=True, slots=True)
class Reply:
    """What a result says: the type of an error or nothing, bytes of the image, milliseconds of the work's parts."""

    error: str = ""
    bytes_out: int = 0


class Events(Protocol):
    """How an image becomes an event, and what its result means."""

    async def appear(self, path: Path) -> Mapping[str, Any]:
        """Put the image where the function finds it; the event that tells of it."""
        ...

    async def read(self, event: Mapping[str, Any], result: Any) -> Reply:
        """What became of an event."""
        ...

    async def clear(self) -> None:
        """Remove images and results."""
        ...


class FunctionSubject:
    """A function, and the events it is called for."""

    def __init__(self, function: Function, events: Events) -> None:
        self._function, self._events = function, events

    async def run(self, batch: Batch, tell: Tell) -> Harvest:
        """See :class:`~pixelmill.evaluation.subject.Subject`."""
        seen: list[Observation] = []
        start, sending, throttles = time.perf_counter(), 0.0, 0
        pool = ThreadPoolExecutor(self._function.concurrency, "invoke")
        loop = asyncio.get_running_loop()
        pixels = batch.resolution.width * batch.resolution.height

        async def follow(path: Path, event: Mapping[str, Any], received: float) -> None:
            nonlocal throttles
            call, returned = await loop.run_in_executor(pool, self._invoke, event, batch.limit_s)
            throttles += call.throttled
            try:
                seen.append(await self._seen(path, event, (received, returned), call, pixels))
            except OF_AN_IMAGE as error:  # its result can't be looked at
                seen.append(Observation(path.name, "failed", received, error=error.type))
            tell(len(seen))

        async def send(path: Path) -> None:
            nonlocal sending
            try:
                event = await self._events.appear(path)
            except OF_AN_IMAGE as error:
                seen.append(Observation(path.name, "dropped", error=error.type))
                return
            following.create_task(follow(path, event, time.time()))
            sending = time.perf_counter() - start
            if batch.trigger == "manual" and batch.pause_s:
                await asyncio.sleep(batch.pause_s)

        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(batch.limit_s), asyncio.TaskGroup() as following:
                    await in_lanes(send, batch.files, 1 if batch.trigger == "manual" else LANES)
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            await self._events.clear()
        missing = len(batch.files) - len(seen)
        seen += [Observation("", "dropped", error="not-ended-in-time")] * missing
        return Harvest(tuple(seen), sending, throttles)

    def _invoke(self, event: Mapping[str, Any], wait_s: float) -> tuple[Call, float]:
        return self._function.invoke(event, wait_s=wait_s), time.time()

    async def _seen(
        self, path: Path, event: Mapping[str, Any], times: tuple[float, float], call: Call, pixels: int
    ) -> Observation:
        received, returned = times
        size = path.stat().st_size  # noqa: ASYNC240 -- microseconds
        if call.throttled:
            return Observation(path.name, "dropped", received, error="throttled", bytes_in=size)
        reply = Reply(str(call.error.get("errorType") or "unknown")) if call.error else None
        reply = reply or await self._events.read(event, call.result)
        # A process may have begun to start before its invocation did: the end is known best.
        started = min(call.started_at + call.init_s, returned - call.duration_s)
        return Observation(
            name=path.name,
            state="failed" if reply.error else "succeeded",
            received=received,
            started=started,
            ended=started + call.duration_s,
            error=reply.error,
            target="function",
            cold=call.cold,
            init_s=call.init_s,
            bytes_in=size,
            bytes_out=reply.bytes_out,
            pixels=pixels,
        )
