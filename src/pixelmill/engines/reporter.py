"""Tells the recorder what became of tasks, in batches, and settles their leases once that is durable.

A failing recorder (a full disk, a locked database) is tried again for ever, with pauses; meanwhile events wait here,
and the engine takes no more work than there is :meth:`Reporter.room` for. Nothing is lost by a crash: unsettled leases
are delivered again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pixelmill.engines.queue import Lease, LeaseQueue
from pixelmill.errors import PixelmillError
from pixelmill.jobs.model import TaskEvent

log = logging.getLogger(__name__)

Emit = Callable[[Sequence[TaskEvent]], Awaitable[object]]
"""The recorder: returns once the events are durable."""

MAX_UNRECORDED = 256
"""Leases of ended tasks that wait for the recorder; beyond it the engine pauses."""
BATCH = 128
"""Events that are emitted without waiting for more."""
LINGER_S = 0.05
"""How long an event waits for others while tasks run; not at all when nothing else runs."""
MAX_PAUSE_S = 5.0


@dataclass(eq=False, slots=True)
class _Batch:
    """Events, and what to do with leases once they are durable."""

    events: list[TaskEvent] = field(default_factory=list)
    ended: list[Lease] = field(default_factory=list)
    lost: list[tuple[Lease, float, bool]] = field(default_factory=list)  # visible in so many seconds; counted or not
    dead: list[tuple[Lease, str]] = field(default_factory=list)
    ends: list[tuple[TaskEvent, Lease]] = field(default_factory=list)  # which event is the end of which message

    def bury(self, unrecorded: Sequence[tuple[TaskEvent, str]]) -> None:
        """Keep the messages whose ends these are as dead letters: without them their tasks would stay open for ever."""
        reason_of = {id(event): reason for event, reason in unrecorded}
        for event, lease in self.ends:
            if id(event) in reason_of:
                self.ended.remove(lease)
                self.dead.append((lease, f"The end of the task could not be recorded: {reason_of[id(event)]}"))

    def leases(self) -> Iterable[Lease]:
        """All leases in it."""
        yield from self.ended
        yield from (lease for lease, *_ in self.lost)
        yield from (lease for lease, _ in self.dead)


class Reporter:
    """One batch collects while the one before is on its way. ``settled`` is told of each lease that is done with."""

    def __init__(
        self, queue: LeaseQueue, emit: Emit, settled: Callable[[Lease], None], *, linger_s: float = LINGER_S
    ) -> None:
        self._queue = queue
        self._emit = emit
        self._settled = settled
        self._linger_s = linger_s
        self._next = _Batch()
        self._unsettled = 0
        self._something = asyncio.Event()
        self._hurry = asyncio.Event()
        self._room = asyncio.Event()
        self._room.set()
        self._done = asyncio.Event()
        self._done.set()

    # -- what is to be told ----------------------------------------------------------------------

    def say(self, event: TaskEvent) -> None:
        """Something that leaves the lease as it is."""
        self._next.events.append(event)
        self._note()

    def end(self, lease: Lease, event: TaskEvent | None) -> None:
        """The task has ended: its message goes. Without an event nothing is said (a cancelled task)."""
        self._next.ended.append(lease)
        if event is not None:
            self._next.ends.append((event, lease))
        self._note(event)

    def lose(self, lease: Lease, event: TaskEvent, after_s: float) -> None:
        """The attempt is lost: the message goes back."""
        self._next.lost.append((lease, after_s, True))
        self._note(event)

    def give_back(self, lease: Lease, event: TaskEvent, after_s: float) -> None:
        """No attempt was made: the message goes back as if it had not been delivered."""
        self._next.lost.append((lease, after_s, False))
        self._note(event)

    def bury(self, lease: Lease, event: TaskEvent, reason: str) -> None:
        """The attempts are used up: the message becomes a dead letter."""
        self._next.dead.append((lease, reason))
        self._note(event)

    def hurry(self) -> None:
        """Nothing else runs: waiting for more events is no use."""
        if self._something.is_set():
            self._hurry.set()

    async def room(self) -> None:
        """Return when there is room for the end of one more task."""
        await self._room.wait()

    def _note(self, event: TaskEvent | None = None) -> None:
        if event is not None:
            self._next.events.append(event)
        self._something.set()
        self._done.clear()
        if len(self._next.events) >= BATCH:
            self._hurry.set()
        self._measure()

    def _measure(self) -> None:
        waiting = self._unsettled + sum(1 for _ in self._next.leases())
        if waiting >= MAX_UNRECORDED:
            self._room.clear()
        else:
            self._room.set()

    # -- telling it ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Tell until cancelled."""
        behind = _Batch()  # recorded, but not settled yet
        while True:
            await self._something.wait()
            await self._linger()
            batch, self._next = self._next, _Batch()
            self._unsettled = sum(1 for _ in (*batch.leases(), *behind.leases()))
            self._something.clear()
            self._hurry.clear()
            # Leases of the batch before are settled beside this one: with a database, in one commit.
            unrecorded, _ = await asyncio.gather(self._tell(batch.events), self._settle(behind))
            batch.bury(unrecorded)
            behind = batch
            if not self._something.is_set():
                await self._settle(behind)
                behind = _Batch()
            self._unsettled = sum(1 for _ in behind.leases())
            self._measure()
            if not self._something.is_set():
                self._done.set()

    async def flush(self) -> None:
        """Return when everything said so far is durable and settled."""
        self._hurry.set()
        await self._done.wait()

    async def _linger(self) -> None:
        try:
            async with asyncio.timeout(self._linger_s):
                await self._hurry.wait()
        except TimeoutError:
            pass

    async def _tell(self, events: Sequence[TaskEvent]) -> list[tuple[TaskEvent, str]]:
        """Emit, however often it takes; returns the events that the recorder can't take at all, with the reason."""
        pause = 0.1
        while events:
            try:
                await self._emit(events)
            except PixelmillError as error:
                log.error("events can't be recorded, trying again in %.1f s: %s", pause, error)  # noqa: TRY400 -- expected, and the sentence says it all
                await asyncio.sleep(pause)
                pause = min(MAX_PAUSE_S, 2 * pause)
            except Exception as error:
                log.exception("the recorder failed on %d events", len(events))
                if len(events) == 1:
                    return [(events[0], f"{type(error).__name__}: {error}")]
                return [one for event in events for one in await self._tell([event])]
            else:
                break
        return []

    async def _settle(self, batch: _Batch) -> None:
        """Delete, release, bury. What fails here is delivered again when its lease ends, and found to have ended."""
        try:
            await self._queue.delete(batch.ended)
            for after_s, begun in {(after_s, begun) for _, after_s, begun in batch.lost}:
                leases = [lease for lease, *kind in batch.lost if kind == [after_s, begun]]
                await self._queue.release(leases, after_s=after_s, begun=begun)
            for lease, reason in batch.dead:
                await self._queue.dead_letter(lease, reason)
        except PixelmillError as error:
            log.warning("leases could not be settled, they will end by themselves: %s", error)
        except Exception:
            # A defect of the queue; but an engine that reports nothing any more would look healthy from outside.
            log.exception("leases could not be settled, they will end by themselves")
        for lease in batch.leases():
            self._settled(lease)
