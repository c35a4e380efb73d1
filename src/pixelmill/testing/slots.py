"""Slots without targets behind them, for tests and benchmarks of engines."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from pixelmill.jobs.model import Priority
from pixelmill.targets.target import RunRequest, RunResult

Run = Callable[[RunRequest], Awaitable[RunResult]]


class BareSlot:
    """One of :class:`Slots`; ``run`` calls the function that was given there."""

    target = "bare"
    reason = "there is no other"

    def __init__(self, owner: Slots) -> None:
        self._owner = owner
        self._held = True

    async def run(self, request: RunRequest) -> RunResult:
        """Call the function."""
        return await self._owner.function(request)

    def release(self) -> None:
        """Give it back; twice changes nothing."""
        if self._held:
            self._held = False
            self._owner.give_back()


async def _nothing(request: RunRequest) -> RunResult:
    raise NotImplementedError(f"no function runs {request.id}")


class Slots:
    """A dispatcher of ``count`` slots, first come first served. ``out`` are held now, ``most`` were at once."""

    def __init__(self, count: int, function: Run = _nothing) -> None:
        self.function = function
        self.out = 0
        self.most = 0
        self._free = asyncio.Semaphore(count)

    @property
    def model_room(self) -> int:
        """Slots that are free: there are none for models alone."""
        return self._free._value  # noqa: SLF001 -- what it has no other name for

    async def acquire(
        self, priority: Priority | str = Priority.NORMAL, wait_s: float | None = None, *, models: bool = False
    ) -> BareSlot:
        """The next free slot; raises :class:`TimeoutError` after ``wait_s``."""
        del priority, models
        async with asyncio.timeout(wait_s):
            await self._free.acquire()
        self.out += 1
        self.most = max(self.most, self.out)
        return BareSlot(self)

    def give_back(self) -> None:
        """A slot was released."""
        self.out -= 1
        self._free.release()
