"""The target `process`, and the URL of a container: each image is one ``POST /v1/process``, and its answer the result.

An event comes when its image is due: at once for all of a high-rate batch, though only :data:`CONNECTIONS` requests
are on their way at a time. Its work is what ``Server-Timing`` tells (decode, apply, encode), and ended when the answer
came.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from pixelmill.client import AsyncClient
from pixelmill.errors import PixelmillError
from pixelmill.evaluation.observation import Harvest, Observation
from pixelmill.evaluation.service import in_lanes
from pixelmill.evaluation.subject import OF_AN_IMAGE, Batch, CountingPolicy, Tally, Tell, state_of

CONNECTIONS = 64
OF_A_CLIENT = 16
WORK = ("decode", "apply", "encode")


class ProcessSubject:
    """Synchronous requests to the service or container at a URL."""

    def __init__(self, url: str, token: str | None, pipeline: str, *, overflow: frozenset[str] = frozenset()) -> None:
        self._url, self._token, self._pipeline, self._overflow = url, token, pipeline, overflow

    async def run(self, batch: Batch, tell: Tell) -> Harvest:
        """See :class:`~pixelmill.evaluation.subject.Subject`."""
        tally, seen, start = Tally(), list[Observation](), time.perf_counter()
        due = time.time()
        manual = batch.trigger == "manual"
        lanes = 1 if manual else min(CONNECTIONS, len(batch.files))
        async with AsyncExitStack() as stack:
            clients = [
                await stack.enter_async_context(AsyncClient(self._url, self._token, retry=CountingPolicy(tally=tally)))
                for _ in range(-(-lanes // OF_A_CLIENT))
            ]

            async def send(numbered: tuple[int, Path]) -> None:
                number, path = numbered
                seen.append(
                    await self._one(clients[number % len(clients)], path, batch, time.time() if manual else due)
                )
                tell(len(seen))
                if manual and batch.pause_s:
                    await asyncio.sleep(batch.pause_s)

            try:
                async with asyncio.timeout(batch.limit_s):
                    await in_lanes(send, list(enumerate(batch.files)), lanes)
            except TimeoutError:
                seen += [Observation("", "dropped", error="not-ended-in-time")] * (len(batch.files) - len(seen))
        return Harvest(tuple(seen), time.perf_counter() - start, tally.throttles, tally.retries, tally.waited_s)

    async def _one(self, client: AsyncClient, path: Path, batch: Batch, due: float) -> Observation:
        size = path.stat().st_size  # noqa: ASYNC240 -- microseconds
        try:
            done = await client.process(path, self._pipeline)
        except OF_AN_IMAGE as error:
            return self._failed(path, size, due, error)
        ended = time.time()
        timings = {name: done.timings[name] for name in WORK if name in done.timings}
        target = done.target or ""
        return Observation(
            name=path.name,
            state="succeeded",
            received=due,
            started=max(due, ended - sum(timings.values()) / 1000),
            ended=ended,
            target=target,
            overflow=target in self._overflow,
            bytes_in=size,
            bytes_out=len(done.bytes or b""),
            pixels=batch.resolution.width * batch.resolution.height,
            timings=timings,
        )

    def _failed(self, path: Path, size: int, due: float, error: PixelmillError) -> Observation:
        state = state_of(error)
        received = due if state == "failed" else None
        return Observation(path.name, state, received=received, error=error.type, bytes_in=size)
