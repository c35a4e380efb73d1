"""Wakes whoever waits for news of an owner's jobs. It carries no events: readers fetch those from the event log.

So a slow reader costs one flag, however much happens, and nothing is lost when it is woken late. The bus must not know
what an event is. A reader subscribes first, then reads the log, then waits::

    async with bus.subscribe(owner, job) as news:
        while not news.closed:
            ...  # read and send all entries after the last one seen
            await news.wait(15)
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Protocol

from pixelmill.errors import Busy


class Subscription(Protocol):
    """One reader's view: a flag that says there is something new."""

    @property
    def closed(self) -> bool:
        """The bus was closed: read the log a last time and end."""
        ...

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 a bound on the wait, and no error
        """True as soon as something was published since the last True; False after ``timeout`` s or when closed."""
        ...


class EventBus(Protocol):
    """Publishes that something changed, and wakes subscribers."""

    def publish(self, owner: str, job: str) -> None:
        """Wake the subscribers of ``job`` and those of all jobs of ``owner``. Never blocks; any thread may call."""
        ...

    def subscribe(self, owner: str | None, job: str | None = None) -> AbstractAsyncContextManager[Subscription]:
        """News of one job, or of all jobs of ``owner`` (None: of every owner).

        Raises :class:`Busy` beyond the bound on readers.
        """
        ...

    def close(self) -> None:
        """Wake all subscribers and end them, now and for good. Any thread may call."""
        ...


class InProcessBus:
    """The bus of one process. Subscribers may live on different event loops."""

    def __init__(self, max_subscribers: int = 10_000) -> None:
        self._max = max_subscribers
        self._lock = threading.Lock()
        self._subscribers: dict[tuple[str | None, str | None], set[_Flag]] = {}
        self._count = 0
        self._closed = False

    def publish(self, owner: str, job: str) -> None:
        """Wake the subscribers of ``job``, those of all jobs of ``owner``, and those of everything."""
        with self._lock:
            for key in ((owner, job), (owner, None), (None, None)):
                for flag in self._subscribers.get(key, ()):
                    flag.set()

    def wake_all(self) -> None:
        """Wake every subscriber: something may have happened that nobody can name."""
        with self._lock:
            for flags in self._subscribers.values():
                for flag in flags:
                    flag.set()

    @asynccontextmanager
    async def subscribe(self, owner: str | None, job: str | None = None) -> AsyncIterator[Subscription]:
        """News of one job, of all jobs of ``owner``, or (None) of everything, from now until the block ends."""
        flag = _Flag()
        with self._lock:
            if self._count >= self._max:
                raise Busy(
                    f"{self._max:,} readers of events are connected, which is the limit. Close some, or poll the job.",
                    retry_after=5,
                )
            self._count += 1
            self._subscribers.setdefault((owner, job), set()).add(flag)
            if self._closed:
                flag.close()
        try:
            yield flag
        finally:
            with self._lock:
                self._count -= 1
                same = self._subscribers[owner, job]
                same.discard(flag)
                if not same:
                    del self._subscribers[owner, job]

    def close(self) -> None:
        """Wake all subscribers and end them; later ones are closed from the start."""
        with self._lock:
            self._closed = True
            for flags in self._subscribers.values():
                for flag in flags:
                    flag.close()


class _Flag:
    """A coalescing flag on one event loop. ``set`` and ``close`` are called under the bus's lock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._event = asyncio.Event()
        self._set = False
        self._closed = False

    @property
    def closed(self) -> bool:
        return self._closed

    def set(self) -> None:
        if self._set:
            return
        self._set = True
        if threading.get_ident() == self._thread:
            self._event.set()
        else:
            with suppress(RuntimeError):  # that loop has ended, and its reader with it
                self._loop.call_soon_threadsafe(self._event.set)

    def close(self) -> None:
        self._closed = True
        self.set()

    async def wait(self, timeout: float) -> bool:  # noqa: ASYNC109 a bound on the wait, and no error
        if self._closed:
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                # A wake-up from another thread may come late, for a flag that was seen and lowered meanwhile.
                while not self._set:
                    await self._event.wait()
                    self._event.clear()
        # Lower the flag before the reader looks at the log: what is published from here on wakes it again.
        self._event.clear()
        woken, self._set = self._set, False
        return woken and not self._closed
