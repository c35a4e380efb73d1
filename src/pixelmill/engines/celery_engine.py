"""The Celery engine: tasks from RabbitMQ's quorum queues, received by a Celery worker, run on this process's slots.

It is the consumer loop of ``leased.py`` over another queue: what the Celery worker (``celery_worker.py``) received.
Its own here are the gate, which pauses and resumes consumption, and cancelling on workers that know no database.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence

from pixelmill.engines.cancels import Cancels
from pixelmill.engines.celery_feed import CeleryFeed
from pixelmill.engines.celery_worker import CeleryWorker
from pixelmill.engines.executor import Execution
from pixelmill.engines.lane import Dispatcher
from pixelmill.engines.leased import VISIBILITY_S, LeasedEngine
from pixelmill.engines.queue import QueueDepth
from pixelmill.engines.rabbit import OVERFLOW, TASK_QUEUES, RabbitQueue
from pixelmill.engines.reporter import Emit
from pixelmill.errors import PixelmillError
from pixelmill.fleet.gates import GatePolicy
from pixelmill.fleet.spill import Backlog, Spill

log = logging.getLogger(__name__)

LINGER_S = 0.01
"""How long an event waits for others: unacknowledged messages hold back new ones, so less than in other engines."""
GATE_S = 0.3
"""How often the gate is looked at; the broker is asked only while it is shut, or for an overflow worker."""
OVERFLOW_PRIORITY = -1
FOLLOW_S = 10.0
"""How long :meth:`CeleryEngine.stop` waits beyond its drain for the broker."""


class CeleryEngine:
    """See :class:`pixelmill.engines.engine.Engine`. One in a process at a time; belongs to one event loop.

    ``prefetch``: messages of each priority that this worker holds, those that run included: twice its slots, and no
    fewer than a few more, keep them busy and events in batches. ``gate``: while it is shut this worker consumes
    nothing, unless nobody else does. ``spill``: for an overflow worker, whose dispatcher has serverless targets only.
    It consumes what that lets through and nothing else, at a lower priority, so that a worker of our own with room
    for a task is given it first.
    """

    def __init__(
        self,
        broker: RabbitQueue,
        dispatcher: Dispatcher,
        executor: Execution,
        emit: Emit,
        *,
        prefetch: int = 4,
        gate: GatePolicy | None = None,
        spill: Spill | None = None,
        gate_s: float = GATE_S,
        cancels: Cancels | None = None,
    ) -> None:
        self._broker, self._gate, self._spill, self._gate_s = broker, gate, spill, gate_s
        self._backlog = Backlog()
        self._feed = CeleryFeed(broker, self.wake, self._unwanted)
        self._loop = LeasedEngine(
            self._feed,
            dispatcher,
            executor,
            emit,
            prefetch=0,
            visibility_s=VISIBILITY_S,
            linger_s=LINGER_S,
            door=spill,
            cancels=cancels,
        )
        if spill is None:
            self._worker = CeleryWorker(broker.address, self._feed, prefetch=prefetch)
        else:
            self._worker = CeleryWorker(
                broker.address,
                self._feed,
                prefetch=prefetch,
                consumer_priority=OVERFLOW_PRIORITY,
                queues=(OVERFLOW, *TASK_QUEUES),
            )
            self._worker.pause()
        self._feed.acks = self._worker
        self._keeper: asyncio.Task[None] | None = None
        self._started = False

    async def start(self) -> None:
        """Begin to take tasks."""
        await self._loop.start()
        self._worker.start()
        self._started = True
        if self._spill is not None:
            self._keeper = asyncio.create_task(self._keep_spill(self._spill), name="engine-spill")
        elif self._gate is not None:
            self._keeper = asyncio.create_task(self._keep_gate(self._gate), name="engine-gate")

    def wake(self) -> None:
        """There may be work."""
        self._loop.wake()

    async def depth(self) -> QueueDepth:
        """What waits in the queues."""
        return await self._broker.depth()

    async def cancel(self, messages: Sequence[str]) -> None:
        """Stop these tasks here, and tell all workers; if the broker is away they run in vain, and change nothing."""
        if not messages:
            return
        self._feed.cancelled(messages)
        await self._loop.cancel(messages)
        try:
            await self._broker.tell_cancelled(messages)
        except PixelmillError as error:
            log.warning("workers could not be told of %d cancelled tasks: %s", len(messages), error)

    async def _unwanted(self, messages: Sequence[str]) -> None:
        await self._loop.cancel(messages)

    async def stop(self, drain_s: float) -> None:
        """Take no more tasks, let running ones end within ``drain_s``, give the rest back."""
        if not self._started:
            return
        self._started = False
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        self._worker.pause()
        self._feed.close()
        await self._worker.settled()
        await self._feed.give_back()
        await self._loop.stop(drain_s)
        try:
            async with asyncio.timeout(FOLLOW_S):
                await self._feed.flush()
                await self._worker.settled()
        except TimeoutError:
            log.warning("messages could not be given back; the broker gives them out when our connection ends")
        await self._worker.stop()

    # -- the gate ------------------------------------------------------------------------------------

    async def _keep_gate(self, gate: GatePolicy) -> None:
        """Pause and resume until cancelled."""
        while True:
            try:
                await self._look(gate)
            except PixelmillError as error:
                log.debug("the gate could not ask who else consumes: %s", error)
            # Not all at the same moment: of several that are shut one goes on.
            await asyncio.sleep(self._gate_s * random.uniform(0.8, 1.2))  # noqa: S311 -- no secret

    async def _look(self, gate: GatePolicy) -> None:
        verdict, paused = gate.verdict(), self._worker.paused
        if verdict.open:
            if paused:
                log.info("this worker takes tasks again")
                self._worker.resume()
            return
        # Thresholds say where work goes, never whether: the last one that consumes goes on.
        others = await self._broker.consumers() - (not paused)
        if paused and others <= 0:
            log.info("this worker takes tasks although its gate is shut (%s): nobody else does", verdict.reason)
            self._worker.resume()
        elif not paused and others > 0:
            log.info("this worker takes no tasks: %s", verdict.reason)
            self._worker.pause()
            await self._worker.settled()
            await self._feed.give_back()

    async def _keep_spill(self, spill: Spill) -> None:
        """Consume what may overflow, until cancelled; show that we would, so that workers whose gate is shut rest."""
        while True:
            try:
                crowd = await self._broker.crowd()
            except PixelmillError as error:
                log.debug("overflow could not ask who else consumes: %s", error)
                spill.blind()
            else:
                spill.look(self._backlog.ages(crowd.waiting), crowd.own)
            await self._consume(spill)
            await asyncio.sleep(self._gate_s)

    async def _consume(self, spill: Spill) -> None:
        wanted = frozenset((*((OVERFLOW,) if spill.ready else ()), *TASK_QUEUES[: spill.most + 1]))
        if wanted != self._worker.consumed:
            self._worker.consume(wanted)
            await self._worker.settled()
        await self._feed.give_back(spill.most + 1)
