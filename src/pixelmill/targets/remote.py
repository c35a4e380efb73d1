"""What targets have in common that call somebody else's machines: room for so many calls, hard ends, an orderly stop.

How a call failed is said in the context of :class:`TargetUnavailable`, for who pays and who watches:

- ``billed``: ``none`` (nothing was asked of the machine), ``elapsed`` (it answered), ``worst`` (nobody knows how long
  it went on).
- ``fault``: False where the target did nothing wrong, so that its circuit stays closed.
- ``begun``: True where the task may have run there, and may be what made the call fail.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from typing import Protocol

from pixelmill.errors import Cancelled, ShuttingDown, TargetUnavailable
from pixelmill.targets.target import RunRequest, RunResult, Target, TargetLoad

GRACE_S = 15.0
"""What a call may take beyond the task's time limit: a cold start, and the bytes' way there and back."""
WARM_S = 10.0
"""Longest warm-up call."""


class RemoteTarget(Target, Protocol):
    """A target that may be asked to get machines ready."""

    async def warm(self) -> None:
        """One call without a task, of :data:`WARM_S` at most. Raises :class:`TargetUnavailable`."""
        ...


class Remote(ABC):
    """Runs calls within ``concurrency`` and ``timeout_s`` (None: the task's limit and :data:`GRACE_S`)."""

    def __init__(self, name: str, *, concurrency: int, timeout_s: float | None = None) -> None:
        self.name = name
        self._concurrency, self._timeout_s = concurrency, timeout_s
        self._room = asyncio.Semaphore(concurrency)
        self._calls: set[asyncio.Task[RunResult]] = set()
        self._stopped = False

    @abstractmethod
    async def _call(self, request: RunRequest, within_s: float) -> RunResult:
        """One call; ended by cancelling it."""

    async def start(self) -> None:  # noqa: B027 -- most have nothing to do
        """Get ready to call; machines come with the first call."""

    async def stop(self) -> None:
        """Hang up; running tasks raise :class:`Cancelled`."""
        self._stopped = True
        calls = list(self._calls)
        for call in calls:
            call.cancel()
        if calls:
            await asyncio.wait(calls)

    def load(self) -> TargetLoad:
        """The load now."""
        return TargetLoad(
            len(self._calls), self._concurrency, healthy=not self._stopped, reason="stopped" if self._stopped else ""
        )

    def _is_stopped(self) -> bool:
        return self._stopped

    async def run(self, request: RunRequest) -> RunResult:
        """Run one task there. Cancelling the await hangs up, which ends the work where the other side notices."""
        async with self._room:
            if self._is_stopped():
                raise ShuttingDown(f"The target {self.name} was stopped.")
            within_s = self._timeout_s or request.timeout_s + GRACE_S
            call = asyncio.ensure_future(self._bounded(request, within_s))
            self._calls.add(call)
            try:
                return await call
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None, "this runs in a task"
                if self._is_stopped() and not task.cancelling():
                    raise Cancelled(f"The target {self.name} was stopped while the task ran.") from None
                raise
            finally:
                self._calls.discard(call)

    async def _bounded(self, request: RunRequest, within_s: float) -> RunResult:
        started = time.monotonic()
        try:
            async with asyncio.timeout(within_s):
                return await self._call(request, within_s)
        except TimeoutError:
            raise TargetUnavailable(
                f"{self.name} had not answered after {time.monotonic() - started:.1f} s.", billed="worst", begun=True
            ) from None
