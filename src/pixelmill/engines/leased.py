"""The leased engine: one consumer loop between a lease queue and the dispatcher's slots.

A slot comes first, then a message: work is bound to a place at the last moment. To save transactions a few messages are
fetched ahead; the leases held are never more than the slots of this engine, plus ``prefetch`` (or ``ASIDE``), plus
``lane.PARKED``, plus ``reporter.MAX_UNRECORDED`` and ``executor.MAX_STORING`` tasks that have run. A task that wants
learned models waits in its lane (``lane.py``), and its slot goes to the next message; one for which there is no room
there stays in the queue. A heartbeat extends leases at a third of the visibility time. A lease is settled only after
the end of its task is durable: a crash at any moment leads to a second delivery at worst, never to a lost task.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from pixelmill.engines.cancels import Cancels
from pixelmill.engines.executor import Execution, ReasonedSlot, Slot, cost_of
from pixelmill.engines.lane import Dispatcher, Lane
from pixelmill.engines.queue import Lease, LeaseQueue, QueueDepth
from pixelmill.engines.reporter import LINGER_S, Emit, Reporter
from pixelmill.errors import (
    CapacityError,
    JobError,
    PixelmillError,
    ShuttingDown,
    StorageError,
    TargetUnavailable,
    WorkerCrashed,
    error_to_dict,
)
from pixelmill.jobs.messages import PRIORITY_NUMBERS, TaskMessage, urgency
from pixelmill.jobs.model import Priority, TaskEvent
from pixelmill.pipelines.learned import wants_models
from pixelmill.targets.target import Progress

log = logging.getLogger(__name__)

VISIBILITY_S = 60.0
PREFETCH = 8
POLL_S = 1.0
"""How often an idle engine looks by itself: for delayed messages, and for what other processes queued."""
ASIDE = 15
"""Messages that are fetched ahead while what comes is put back, to get past it quickly."""
ASIDE_S = 0.05
"""Until the queue is asked again when all that it gave were tasks with models, for which there is no room."""
PAUSE_S = 1.0
"""After an error of the queue or the dispatcher."""
STOP_FLUSH_S = 5.0
CANCEL_S = 10.0

_CLASSES = {PRIORITY_NUMBERS[Priority.INTERACTIVE]: Priority.NORMAL, PRIORITY_NUMBERS[Priority.NORMAL]: Priority.NORMAL}
"""Classes of slots by priority of messages; all others are batch. An urgent job comes first in the queue, but the slot
that is kept free for people who wait stays free."""


class Door(Protocol):
    """What says which queued work may be taken here; without one all may (see ``fleet/spill.py``)."""

    @property
    def most(self) -> int:
        """The least urgent priority that may be taken, below 0 for nothing."""
        ...

    def why(self, priority: int) -> str:
        """Why a message of that priority may be taken; empty where it may not."""
        ...


@dataclass(eq=False, slots=True)
class _Held:
    """A message that this process holds, from receipt until its lease is settled."""

    lease: Lease
    message: TaskMessage
    reason: str = ""  # the door's
    running: asyncio.Task[None] | None = None
    unwanted: bool = False  # cancelled by its owner: nothing more is said of it
    back_in_s: float | None = None  # given back: it is visible again so long after that

    @property
    def attempt(self) -> int:
        """The delivery; one beyond the last allowed only finds that attempts are used up."""
        return min(self.lease.deliveries, self.message.max_attempts)


class LeasedEngine:
    """See :class:`pixelmill.engines.engine.Engine`. Belongs to one event loop.

    With a ``door`` tasks are taken, one by one, only while it lets them through, for the reason that it gives.
    ``cancels`` tells of running tasks that another process has cancelled.
    """

    def __init__(
        self,
        queue: LeaseQueue,
        dispatcher: Dispatcher,
        executor: Execution,
        emit: Emit,
        *,
        visibility_s: float = VISIBILITY_S,
        prefetch: int = PREFETCH,
        poll_s: float = POLL_S,
        linger_s: float = LINGER_S,
        now: Callable[[], float] = time.time,
        door: Door | None = None,
        cancels: Cancels | None = None,
    ) -> None:
        self._queue = queue
        self._door = door
        self._dispatcher = dispatcher
        self._executor = executor
        self._visibility_s = visibility_s
        self._prefetch = prefetch if door is None else 0
        self._poll_s = poll_s
        self._now = now
        self._cancels = cancels
        self._reporter = Reporter(queue, emit, self._settled, linger_s=linger_s)
        self._wake = asyncio.Event()
        self._fetched: deque[_Held] = deque()
        self._lane: Lane[_Held] = Lane(dispatcher, self._begin_parked, self._unparked)
        self._put_aside = False
        self._held: dict[str, _Held] = {}  # by receipt
        self._running: set[asyncio.Task[None]] = set()
        self._receiving: asyncio.Task[None] | None = None
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._stopping = False

    # -- the contract ----------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to take tasks."""
        loops = {
            "consume": self._consume,
            "report": self._reporter.run,
            "heartbeat": self._beat,
            "cancels": self._look,
        }
        self._loops = {name: asyncio.create_task(loop(), name=f"engine-{name}") for name, loop in loops.items()}

    def wake(self) -> None:
        """There may be work."""
        self._wake.set()

    async def depth(self) -> QueueDepth:
        """What waits in the queue."""
        return await self._queue.depth()

    @property
    def held(self) -> int:
        """Leases that this process holds."""
        return len(self._held)

    async def cancel(self, messages: Sequence[str]) -> None:
        """Stop these tasks where this process holds them; returns when they have ended."""
        unwanted = set(messages)
        if unwanted and self._receiving is not None:
            # Some may be on their way: leased, but not heard of here.
            await asyncio.wait([self._receiving], timeout=CANCEL_S)
        mine = [held for held in self._held.values() if held.message.id in unwanted and not held.unwanted]
        ending = []
        for held in mine:
            held.unwanted = True
            if held.running is not None:
                held.running.cancel()
                ending.append(held.running)
            elif held in self._fetched or held in self._lane:
                if held in self._lane:
                    self._lane.leave(held)
                else:
                    self._fetched.remove(held)
                self._reporter.end(held.lease, None)
        if ending:
            await asyncio.wait(ending, timeout=CANCEL_S)
            await self._discard([held.message for held in mine if held.running is not None])

    async def _discard(self, messages: Sequence[TaskMessage]) -> None:
        """Some were perhaps being stored when they were stopped."""
        if self._cancels is not None:
            try:
                await self._cancels.discard(messages)
            except PixelmillError as error:
                log.warning("what cancelled tasks have stored could not be removed: %s", error)

    async def stop(self, drain_s: float) -> None:
        """Take no more tasks, let running ones end within ``drain_s``, give the rest back."""
        if self._stopping or not self._loops:
            return
        self._stopping = True
        await _end(self._loops["consume"])
        await self._give_back()
        if self._running:
            await asyncio.wait(self._running, timeout=drain_s)
        for running in list(self._running):
            running.cancel()
        if self._running:
            await asyncio.wait(self._running, timeout=CANCEL_S)
        try:
            async with asyncio.timeout(STOP_FLUSH_S):
                await self._reporter.flush()
        except TimeoutError:
            log.warning("%d leases could not be settled; they will end by themselves", len(self._held))
        for name in ("report", "heartbeat", "cancels"):
            await _end(self._loops[name])

    # -- taking tasks ----------------------------------------------------------------------------

    async def _consume(self) -> None:
        while True:
            try:
                await self._reporter.room()
                slot = await self._slot()
                try:
                    held = await self._take()
                except BaseException:
                    slot.release()
                    raise
                if held is not None:
                    self._begin(held, slot)
                    continue
                slot.release()
                await self._idle()
            except PixelmillError as error:
                log.warning("no task could be taken, trying again in %.1f s: %s", PAUSE_S, error)
                await asyncio.sleep(PAUSE_S)
            except Exception:
                # A defect; but an engine that takes nothing any more would look healthy from outside.
                log.exception("no task could be taken, trying again in %.1f s", PAUSE_S)
                await asyncio.sleep(PAUSE_S)

    def _priority(self) -> Priority:
        if not self._fetched:
            return Priority.NORMAL
        return _class(self._fetched[0].lease.message.priority)

    async def _slot(self) -> Slot:
        """A slot for the next message. What is fetched ahead for a batch does not hold up what is more urgent."""
        wanted = self._priority()
        if wanted is not Priority.BATCH:
            return await self._dispatcher.acquire(wanted, None)
        slot = asyncio.create_task(self._acquire(wanted))
        try:
            while self._priority() is Priority.BATCH and not await self._comes(slot):
                await self._look_for_urgent()
        finally:
            slot.cancel()  # where it has come, that does nothing
            await asyncio.wait([slot])
        return await self._slot() if slot.cancelled() else slot.result()

    async def _acquire(self, priority: Priority) -> Slot:
        return await self._dispatcher.acquire(priority, None)

    async def _comes(self, slot: asyncio.Task[Slot]) -> bool:
        """Whether it comes before there may be other work, or it is time to look."""
        woken = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({slot, woken}, timeout=self._poll_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
        return slot.done()

    async def _look_for_urgent(self) -> None:
        """Fetch one more message: the queue gives the most urgent one. Of a batch no more are held for that."""
        try:
            await self._fetch(1)
            self._fetched = deque(sorted(self._fetched, key=lambda held: urgency(held.lease.message.priority)))
            if len(self._fetched) > max(1, self._prefetch):
                last = self._fetched.pop().lease
                self._settled(last)
                await self._queue.release([last], begun=False)
        except PixelmillError as error:
            log.warning("it is not known whether more urgent work waits: %s", error)

    async def _idle(self) -> None:
        """Wait until somebody says that there may be work, or it is time to look."""
        if not self._running:
            self._reporter.hurry()
        if self._put_aside:
            await asyncio.sleep(ASIDE_S)  # what was put back wakes us, and there may be others behind
            return
        try:
            async with asyncio.timeout(self._poll_s):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _take(self) -> _Held | None:
        """The next message, fetched ahead or now; None if the queue has none."""
        while not self._fetched:
            parked = len(self._lane)
            await self._fetch(
                1 + (max(self._prefetch, ASIDE) if self._put_aside and self._door is None else self._prefetch)
            )
            if not self._fetched and len(self._lane) <= parked:
                return None
        return self._fetched.popleft()

    async def _fetch(self, limit: int) -> None:
        self._wake.clear()  # before looking: what is queued meanwhile sets it again
        self._receiving = asyncio.create_task(self._receive(limit))
        try:
            # Shielded: if this loop is cancelled just now, the leases must not be forgotten (see _give_back).
            await asyncio.shield(self._receiving)
        except Exception:
            self._receiving = None
            raise
        self._receiving = None

    async def _receive(self, limit: int) -> None:
        """Fetch and keep what is there; what can't be read is set aside."""
        if self._door is not None and self._door.most < 0:
            return
        unreadable, aside = [], []
        room = self._lane.room
        lanes = {"models": room} if self._queue.traits.lanes else {}
        for lease in await self._queue.receive(limit, self._visibility_s, **lanes):
            reason = "" if self._door is None else self._door.why(urgency(lease.message.priority))
            if self._door is not None and not reason:
                await self._queue.release([lease], begun=False)
                continue
            try:
                one = lease.message
                held = _Held(lease, TaskMessage.from_json(one.body, trace=one.trace, queued=one.sent), reason)
            except JobError as error:
                unreadable.append((lease, str(error)))
                continue
            learned = wants_models(held.message.pipeline)
            if learned and room <= 0:
                aside.append(lease)
                continue
            self._held[lease.receipt] = held
            if learned:
                room -= 1
                self._lane.park(held, _class(lease.message.priority))
            else:
                self._fetched.append(held)
        self._put_aside = bool(aside)
        if aside:
            await self._queue.release(aside, after_s=self._queue.traits.aside_s, begun=False)
        for lease, reason in unreadable:
            log.error("message %s was set aside: %s", lease.message.id, reason)
            await self._queue.dead_letter(lease, reason)

    def _begin_parked(self, held: _Held, slot: Slot) -> None:
        self._begin(held, slot)
        self._wake.set()  # there is room for the next one

    def _unparked(self, held: _Held, error: PixelmillError) -> None:
        """It gets no slot: nothing ran, and the attempt does not count."""
        self._returned(held, TargetUnavailable(error.detail, fault=False, billed="none"))

    def _begin(self, held: _Held, slot: Slot) -> None:
        if held.reason:
            slot = ReasonedSlot(slot, held.reason)
        held.running = asyncio.create_task(self._run(held, slot))
        self._running.add(held.running)
        held.running.add_done_callback(lambda running: self._ended(held, slot, running))

    def _ended(self, held: _Held, slot: Slot, running: asyncio.Task[None]) -> None:
        self._running.discard(running)
        slot.release()
        if running.cancelled():  # before its first step, so that it could not say so itself
            self._interrupted(held)
        elif (error := running.exception()) is not None:
            # A defect in the executor: the lease ends by itself, and the deliveries are counted.
            log.error("task %s was left to its lease", held.message.id, exc_info=error)
            self._settled(held.lease)
        if not self._running and not self._fetched:
            self._reporter.hurry()

    async def _give_back(self) -> None:
        """Release what was fetched ahead, and what arrives while we stop; those deliveries don't count."""
        if self._receiving is not None:
            await asyncio.wait([self._receiving])
            if (error := self._receiving.exception()) is not None:
                log.warning("the last messages could not be received: %s", error)
        ahead = [held.lease for held in (*self._fetched, *self._lane.clear())]
        self._fetched.clear()
        try:
            await self._queue.release(ahead, begun=False)
        except PixelmillError as error:
            log.warning("%d messages fetched ahead could not be given back: %s", len(ahead), error)
        for lease in ahead:
            self._settled(lease)

    def _settled(self, lease: Lease) -> None:
        held = self._held.pop(lease.receipt, None)
        if held is not None and held.back_in_s is not None and not self._stopping:
            asyncio.get_running_loop().call_later(held.back_in_s, self._wake.set)

    async def _beat(self) -> None:
        """Extend all leases in time; one that is late was perhaps lost, which costs work but no result."""
        while True:
            await asyncio.sleep(self._visibility_s / 3)
            try:
                await self._queue.extend([held.lease for held in self._held.values()], self._visibility_s)
            except PixelmillError as error:
                log.warning("leases could not be extended: %s", error)
            except Exception:
                log.exception("leases could not be extended")  # a defect; without this loop every lease would end

    async def _look(self) -> None:
        """Find out which of the running tasks another process has cancelled, and stop them."""
        cancels = self._cancels
        while cancels is not None and cancels.every_s is not None:
            await asyncio.sleep(cancels.every_s)
            running = [
                held.message
                for held in self._held.values()
                if held.running is not None and not held.running.done() and not held.unwanted
            ]
            try:
                unwanted = await cancels.unwanted(running) if running else frozenset()
            except PixelmillError as error:
                log.warning("it is not known whether tasks were cancelled: %s", error)
            except Exception:
                # A defect; but without these rounds cancelled tasks would keep their slots, and nobody would notice.
                log.exception("it is not known whether tasks were cancelled")
            else:
                await self.cancel(list(unwanted))

    # -- running one -----------------------------------------------------------------------------

    async def _run(self, held: _Held, slot: Slot) -> None:
        try:
            if held.lease.deliveries > held.message.max_attempts:
                slot.release()
                reason = (
                    f"The task was given out {held.lease.deliveries - 1} times, and no worker lived to report its end."
                )
                await self._give_up(held, WorkerCrashed(reason))
                return
            self._reporter.say(self._event("started", held, slot=slot))
            event = await self._executor.execute(
                held.message, held.attempt, slot, lambda progress: self._progress(held, progress)
            )
            self._reporter.end(held.lease, event)
        except asyncio.CancelledError:
            self._interrupted(held)
        except TargetUnavailable as error:
            self._returned(held, error)
        except PixelmillError as error:
            await self._lost(held, error)
        except Exception as error:
            log.exception("task %s ended in an unexpected error", held.message.id)
            await self._lost(held, PixelmillError(f"An unexpected error ({type(error).__name__}: {error})."))

    def _progress(self, held: _Held, progress: Progress) -> None:
        """How far it is; whoever tells that does not tell it often."""
        self._reporter.say(replace(self._event("progress", held), progress=progress.to_dict()))

    def _interrupted(self, held: _Held) -> None:
        """Cancelled from outside: by the task's owner, or because this process stops."""
        if held.unwanted:
            self._reporter.end(held.lease, None)
        else:
            error = ShuttingDown("The service stopped while the task ran; it was put back.")
            self._put_back(held, error, 0.0)

    async def _lost(self, held: _Held, error: PixelmillError) -> None:
        if held.attempt < held.message.max_attempts:
            self._put_back(held, error, _pause(error, held.attempt))
        else:
            await self._give_up(held, error)

    def _put_back(self, held: _Held, error: PixelmillError, after_s: float) -> None:
        held.back_in_s = after_s
        self._reporter.lose(held.lease, self._event("requeued", held, error), after_s)

    def _returned(self, held: _Held, error: TargetUnavailable) -> None:
        """Nothing ran: the task waits for a better place, and the attempt does not count."""
        log.warning("task %s was not taken: %s", held.message.id, error)
        held.back_in_s = PAUSE_S
        self._reporter.give_back(held.lease, self._event("returned", held, error), PAUSE_S)

    async def _give_up(self, held: _Held, error: PixelmillError) -> None:
        event = await self._executor.give_up(held.message, held.attempt, error)
        self._reporter.bury(held.lease, event, str(error))

    def _event(
        self, kind: str, held: _Held, error: PixelmillError | None = None, slot: Slot | None = None
    ) -> TaskEvent:
        message = held.message
        return TaskEvent(
            kind=kind,
            task=message.task,
            job=message.job,
            owner=message.owner,
            run=message.run,
            attempt=held.attempt,
            at=self._now(),
            target=None if slot is None else slot.target,
            error=None if error is None else error_to_dict(error),
            why=None if slot is None else slot.reason,
            cost=cost_of(error),
        )


def _class(number: int) -> Priority:
    """The class of slots for a message of that number."""
    return _CLASSES.get(urgency(number), Priority.BATCH)


def _pause(error: PixelmillError, attempt: int) -> float:
    """Seconds before the next attempt: what was full or away needs time, a process that crashed is back at once."""
    if isinstance(error, StorageError):
        return min(60.0, 5.0 * 2.0 ** (attempt - 1))
    return PAUSE_S if isinstance(error, CapacityError) else 0.0


async def _end(loop: asyncio.Task[None]) -> None:
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
