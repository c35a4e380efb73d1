"""A taker that keeps what sources hand over, and can fail or take its time."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pixelmill.errors import PixelmillError, StorageUnavailable
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.source import EventSource
from pixelmill.triggers.verbs import Taken

PATIENCE_S = 60.0


class RecordingTaker:
    """``failures``: how many calls fail before one succeeds. ``gate`` holds calls up while it is not set."""

    def __init__(self, failures: int = 0) -> None:
        self.events: list[ObjectEvent] = []
        self.unread: list[Unread] = []
        self.calls = 0
        self.failures = failures
        self.error: PixelmillError = StorageUnavailable("The database does not answer.")
        self.gate = asyncio.Event()
        self.gate.set()
        self._news = asyncio.Condition()

    async def take(self, source: str, events: Sequence[ObjectEvent], unread: Sequence[Unread] = ()) -> Taken:
        async with self._news:
            self.calls += 1
            self._news.notify_all()
        await self.gate.wait()
        if self.failures:
            self.failures -= 1
            raise self.error
        async with self._news:
            self.events.extend(events)
            self.unread.extend(unread)
            self._news.notify_all()
        return Taken(accepted=len(events))

    @property
    def uris(self) -> Counter[str]:
        """How often each address was handed over."""
        return Counter(event.uri for event in self.events)

    async def until_called(self, count: int = 1) -> None:
        """Wait for calls, whether they succeed or not."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: self.calls >= count)

    async def until(self, *uris: str) -> None:
        """Wait until all of these were handed over."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: set(uris) <= {event.uri for event in self.events})

    async def until_unread(self, count: int = 1) -> None:
        """Wait for parts that could not be read."""
        async with asyncio.timeout(PATIENCE_S), self._news:
            await self._news.wait_for(lambda: len(self.unread) >= count)


@asynccontextmanager
async def running(source: EventSource, taker: RecordingTaker) -> AsyncIterator[asyncio.Task[None]]:
    """The source while it runs; a failure of it fails the test."""
    task = asyncio.create_task(source.run(taker))
    try:
        yield task
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()
