"""Watches overflow each second: tells the dispatcher what waits, reads the ledger, warms machines up, logs changes."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from pixelmill import logs
from pixelmill.errors import PixelmillError
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.overflow import Books, PaidTarget
from pixelmill.jobs.model import Priority

log = logging.getLogger(__name__)

TICK_S = 1.0
PRUNE_S = 3_600.0


class OverflowWatch:
    """``ages``: how long the first task of each class has waited in the queue, in seconds.

    ``warm``: calls without a task that each target gets when our own gates begin to shut. ``overflowing``: why work
    overflows now, None where none does; the dispatcher's answer unless another is given.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        ledger: Books,
        targets: Sequence[PaidTarget],
        ages: Callable[[], Awaitable[Mapping[Priority, float]]],
        *,
        warm: Mapping[str, int] | None = None,
        overflowing: Callable[[], str | None] | None = None,
    ) -> None:
        self._overflowing = overflowing or dispatcher.overflowing
        self._dispatcher, self._ledger, self._targets, self._ages = dispatcher, ledger, targets, ages
        self._warm = warm or {}
        self._warming: set[asyncio.Task[None]] = set()
        self._was_open = self._was_shutting = self._was_exhausted = False
        self._next_prune = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        try:
            while True:
                try:
                    await self.tick()
                except PixelmillError as error:
                    log.warning("overflow could not be looked after and will be again: %s", error)
                except Exception:
                    log.exception("overflow could not be looked after and will be again")
                await asyncio.sleep(TICK_S)
        finally:
            for task in self._warming:
                task.cancel()

    async def tick(self) -> None:
        """One look."""
        await self._ledger.refresh()
        now = time.monotonic()
        self._dispatcher.note_queued({priority: now - age for priority, age in (await self._ages()).items()})
        self.look()
        if now >= self._next_prune:
            self._next_prune = now + PRUNE_S
            await self._ledger.prune()

    def look(self) -> None:
        """See what changed at the gates; costs nothing, so also called with each sample of the load."""
        shutting = self._dispatcher.is_own_gate_shut()
        if shutting and not self._was_shutting:
            self._warm_up()
        self._was_shutting = shutting
        exhausted = [target for target in self._targets if self._ledger.refusal(target.worst)]
        if exhausted and not self._was_exhausted:
            logs.event("budget.exhausted", reason=self._ledger.refusal(exhausted[0].worst))
        self._was_exhausted = bool(exhausted)
        reason = self._overflowing()
        if reason and not self._was_open:
            logs.event("overflow.opened", reason=reason)
        elif self._was_open and not reason:
            logs.event("overflow.closed")
        self._was_open = bool(reason)

    def _warm_up(self) -> None:
        for target in self._targets:
            count = self._warm.get(target.name, 0)
            if count and target.gate.verdict().open:
                task = asyncio.create_task(target.warm(count))
                self._warming.add(task)
                task.add_done_callback(self._warming.discard)
