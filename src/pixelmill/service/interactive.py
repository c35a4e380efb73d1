"""Runs one request now, on the first slot that comes free, and counts it."""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import replace

from pixelmill import tracing
from pixelmill.errors import NodeLost, PixelmillError, TargetUnavailable
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.slot import Slot
from pixelmill.jobs.model import Priority, State
from pixelmill.metrics import Metrics, Run
from pixelmill.pipelines.learned import wants_models
from pixelmill.targets.target import RunRequest, RunResult, measured

AGAIN_S = 0.05
"""Before another place is asked for."""
LOST = 2
"""Machines that one request may be lost with before it fails."""


class Interactive:
    """Work that somebody waits for: it goes first, and waits ``wait_s`` at most."""

    def __init__(self, dispatcher: Dispatcher, metrics: Metrics, wait_s: float) -> None:
        self._dispatcher, self._metrics, self._wait_s = dispatcher, metrics, wait_s

    async def run(self, request: RunRequest) -> RunResult:
        """The result; raises :class:`Busy` where no slot comes free in time, and what the run raises.

        A place that does not take it after all costs nothing but time: another one is asked for, while there is any.
        So is one where a machine went away under it, twice at most.
        """
        asked = time.perf_counter()
        lost = 0
        for number in itertools.count(1):
            left_s = max(0.0, self._wait_s - (time.perf_counter() - asked))
            with tracing.part("slot.wait"):
                slot = await self._dispatcher.acquire(
                    Priority.INTERACTIVE, left_s, own=request.kind != "image", models=wants_models(request.pipeline)
                )
            try:
                # An id of its own each time: a place remembers those whose calls failed there.
                attempt = request if number == 1 else replace(request, id=f"{request.id}-{number}")
                return await self._on(slot, attempt, time.perf_counter() - asked)
            except NodeLost:
                lost += 1
                if lost > LOST:
                    raise
            except TargetUnavailable:
                if time.perf_counter() - asked >= self._wait_s:
                    raise
                await asyncio.sleep(AGAIN_S)
        raise AssertionError("the loop ends by a return or a raise")

    async def _on(self, slot: Slot, request: RunRequest, waited_s: float) -> RunResult:
        began = time.perf_counter()
        async with slot:
            try:
                result = await slot.run(request)
            except (NodeLost, TargetUnavailable):
                raise  # it has not ended
            except PixelmillError as error:
                ran_s = time.perf_counter() - began
                self._metrics.ran(Run(State.FAILED, slot.target, waited_s=waited_s, ran_s=ran_s, error=error.type))
                raise
        ran_s = time.perf_counter() - began
        outcome = measured(request, result)
        self._metrics.ran(Run(State.SUCCEEDED, slot.target, waited_s=waited_s, ran_s=ran_s, outcome=outcome))
        return result
