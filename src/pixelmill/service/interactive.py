"""Runs one request now, on the first slot that comes free, and counts it."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Any

from pixelmill.errors import NodeLost, PixelmillError, TargetUnavailable
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.model import Priority, State
from pixelmill.metrics import Metrics
from pixelmill.targets.target import RunRequest, RunResult

TRIES = 3
"""Machines that one request may be lost with."""


class Interactive:
    """Work that somebody waits for: it goes first, and waits ``wait_s`` at most."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics, wait_s: float) -> None:
        self._dispatcher, self._metrics, self._wait_s = dispatcher, metrics, wait_s

    async def run(self, request: RunRequest) -> RunResult:
        """The result; raises :class:`Busy` where no slot comes free in time, and what the run raises.

        Where a machine went away under it, or did not take it, another one does it.
        """
        for _ in range(TRIES - 1):
            with suppress(NodeLost, TargetUnavailable):
                return await self._run(request)
        return await self._run(request)

    async def _run(self, request: RunRequest) -> RunResult:
        asked = time.perf_counter()
        slot = await self._dispatcher.acquire(Priority.INTERACTIVE, self._wait_s)
        waited_s, began = time.perf_counter() - asked, time.perf_counter()
        async with slot:
            try:
                result = await slot.run(request)
            except (NodeLost, TargetUnavailable):
                raise  # it has not ended
            except PixelmillError:
                self._metrics.image_processed(state=State.FAILED, target=slot.target, waited_s=waited_s)
                raise
        ran_s = time.perf_counter() - began
        self._metrics.image_processed(
            state=State.SUCCEEDED, target=slot.target, waited_s=waited_s, ran_s=ran_s, outcome=_measured(result)
        )
        return result


def _measured(result: RunResult) -> dict[str, Any]:
    body = result.outcome.bytes
    return result.outcome.to_dict() | {"bytes": None if body is None else len(body)}
