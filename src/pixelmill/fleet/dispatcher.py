"""The dispatcher: owns every slot of this process and gives each free one to the next task, interactive work first.

It knows targets, gates and priorities; it knows no jobs, queues or pixels. A slot is given at the last moment: to the
first waiter of the highest class, on the first target that has room and whose gate is open.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from pixelmill.errors import Busy, QueueFull, ShuttingDown
from pixelmill.fleet.gates import AutoGate, Gate
from pixelmill.jobs.model import Priority
from pixelmill.targets.target import RunRequest, RunResult, Target, TargetLoad

ORDER = (Priority.INTERACTIVE, Priority.NORMAL, Priority.BATCH)

_RECHECK_S = 0.25  # while work waits and a gate is closed: gates open without telling anybody
_MAX_RETRY_AFTER_S = 60.0
_SMOOTHING = 0.1  # weight of the newest duration in the running mean


class GatePolicy(Protocol):
    """What judges one target."""

    def verdict(self) -> Gate:
        """Whether the next task may go there."""
        ...


class _Place:
    """A target with its gate and the slots that are out."""

    def __init__(self, target: Target, gate: GatePolicy, reserved: int) -> None:
        self.target = target
        self.gate = gate
        self.reserved = reserved
        self.out = 0

    def verdict(self, load: TargetLoad) -> Gate:
        """The gate's, unless the target itself can't run anything."""
        return self.gate.verdict() if load.healthy else Gate(open=False, reason=load.reason or "unhealthy")

    def has_room(self, priority: Priority) -> bool:
        """True where a slot is free, its gate is open, and it is not kept for more urgent work."""
        load = self.target.load()
        # A pool of one slot has none to spare: it serves all classes.
        kept = 0 if priority is Priority.INTERACTIVE else min(self.reserved, load.capacity - 1)
        return self.out < load.capacity - kept and self.verdict(load).open


class Slot:
    """Room for one running task. Release it when done (``async with`` does); releasing again changes nothing."""

    __slots__ = ("_dispatcher", "_place", "_released", "priority")

    def __init__(self, dispatcher: Dispatcher, place: _Place, priority: Priority) -> None:
        self._dispatcher = dispatcher
        self._place = place
        self._released = False
        self.priority = priority

    @property
    def target(self) -> str:
        """The name of the target it is on."""
        return self._place.target.name

    async def run(self, request: RunRequest) -> RunResult:
        """Run a task here; raises what the target raises. The slot stays held."""
        started = time.monotonic()
        result = await self._place.target.run(request)
        self._dispatcher.note_duration(time.monotonic() - started)
        return result

    def release(self) -> None:
        """Give the room to whoever is next."""
        if not self._released:
            self._released = True
            self._dispatcher.give_back(self._place)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


class Dispatcher:
    """Slots of ``targets``, in order of preference. ``gates`` by target name; others are always open.

    The last ``reserved`` slots of each target are only given to interactive work. No more than ``max_waiting``
    tasks wait. Belongs to one event loop.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        reserved: int = 1,
        max_waiting: int = 10_000,
        gates: Mapping[str, GatePolicy] | None = None,
    ) -> None:
        gates = gates or {}
        self._places = [_Place(target, gates.get(target.name, AutoGate()), reserved) for target in targets]
        self._max_waiting = max_waiting
        # Dictionaries as ordered sets: first in, first out, and a waiter that gives up leaves at once.
        self._waiting: dict[Priority, dict[asyncio.Future[Slot], float]] = {priority: {} for priority in ORDER}
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._recheck: asyncio.TimerHandle | None = None
        self._mean_s = 1.0

    # -- taking slots ----------------------------------------------------------------------------

    async def acquire(self, priority: Priority | str = Priority.NORMAL, wait_s: float | None = None) -> Slot:
        """A slot, in turn. Raises :class:`Busy` after ``wait_s`` (None: wait as long as it takes).

        Raises :class:`QueueFull` where too many wait already, and :class:`ShuttingDown` while draining.
        """
        priority = Priority(priority)
        if self._draining:
            raise _shutting_down()
        if not self._is_anybody_ahead(priority):
            place = self._find(priority)
            if place is not None:
                return self._give(place, priority)
        if wait_s is not None and wait_s <= 0:
            raise self._busy(0)
        if self.waiting >= self._max_waiting:
            raise QueueFull(
                f"{self.waiting:,} tasks wait already, which is the limit. Try again in a while.",
                retry_after=self.retry_after(),
            )
        return await self._wait(priority, wait_s)

    async def run(
        self, request: RunRequest, priority: Priority | str = Priority.NORMAL, wait_s: float | None = None
    ) -> RunResult:
        """Acquire a slot, run a task on it, and give it back."""
        async with await self.acquire(priority, wait_s) as slot:
            return await slot.run(request)

    async def _wait(self, priority: Priority, wait_s: float | None) -> Slot:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Slot] = loop.create_future()
        queue = self._waiting[priority]
        queue[waiter] = time.monotonic()
        timer = loop.call_later(wait_s, self._expire, waiter, wait_s) if wait_s is not None else None
        self._grant()
        try:
            return await waiter
        except asyncio.CancelledError:
            # It may have been given a slot in the same turn of the loop in which it was cancelled.
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                waiter.result().release()
            raise
        finally:
            queue.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    def _expire(self, waiter: asyncio.Future[Slot], wait_s: float) -> None:
        if not waiter.done():
            waiter.set_exception(self._busy(wait_s))

    def _is_anybody_ahead(self, priority: Priority) -> bool:
        return any(self._waiting[other] for other in ORDER[: ORDER.index(priority) + 1])

    def _find(self, priority: Priority) -> _Place | None:
        return next((place for place in self._places if place.has_room(priority)), None)

    def _give(self, place: _Place, priority: Priority) -> Slot:
        place.out += 1
        self._empty.clear()
        return Slot(self, place, priority)

    # -- giving slots ----------------------------------------------------------------------------

    def give_back(self, place: _Place) -> None:
        """A slot was released (only :class:`Slot` calls this, once)."""
        place.out -= 1
        if not self.running:
            self._empty.set()
        self._grant()

    def poke(self) -> None:
        """Look again: a gate may have opened, a target may have grown."""
        self._grant()

    def note_duration(self, seconds: float) -> None:
        """Keep the running mean of how long tasks take, for ``retry_after``."""
        self._mean_s += _SMOOTHING * (seconds - self._mean_s)

    def _grant(self) -> None:
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        for priority in ORDER:
            queue = self._waiting[priority]
            while queue:
                waiter = next(iter(queue))
                if waiter.done():  # cancelled or expired, and about to leave
                    del queue[waiter]
                    continue
                place = self._find(priority)
                if place is None:
                    # Less urgent classes may use no place that this one may not.
                    self._check_again_later()
                    return
                del queue[waiter]
                waiter.set_result(self._give(place, priority))

    def _check_again_later(self) -> None:
        """A slot that is released grants; a gate that opens does not."""
        if any(not place.verdict(place.target.load()).open for place in self._places):
            self._recheck = asyncio.get_running_loop().call_later(_RECHECK_S, self._grant)

    # -- ending ----------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """Give no more slots, and wait until all are back; False if some are still out after ``timeout_s``."""
        self._draining = True
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        for queue in self._waiting.values():
            for waiter in queue:
                if not waiter.done():
                    waiter.set_exception(_shutting_down())
            queue.clear()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    # -- what is known ---------------------------------------------------------------------------

    @property
    def running(self) -> int:
        """Slots that are out."""
        return sum(place.out for place in self._places)

    @property
    def waiting(self) -> int:
        """Tasks that wait for a slot, of all classes."""
        return sum(len(queue) for queue in self._waiting.values())

    @property
    def capacity(self) -> int:
        """Slots of all targets together."""
        return sum(place.target.load().capacity for place in self._places)

    def retry_after(self) -> int:
        """Seconds after which a slot is likely to be free: what waits and runs, at the recent pace."""
        rounds = (self.waiting + 1) / max(1, self.capacity)
        return math.ceil(min(_MAX_RETRY_AFTER_S, max(1.0, rounds * self._mean_s)))

    def snapshot(self) -> dict[str, Any]:
        """Targets with their slots and gates, and what waits, as plain values."""
        now = time.monotonic()
        oldest = [since for queue in self._waiting.values() for since in list(queue.values())[:1]]
        return {
            "draining": self._draining,
            "waiting": {priority.value: len(queue) for priority, queue in self._waiting.items()},
            "oldest_wait_s": round(now - min(oldest), 3) if oldest else 0.0,
            "targets": [self._describe(place) for place in self._places],
        }

    def _describe(self, place: _Place) -> dict[str, Any]:
        load = place.target.load()
        gate = place.verdict(load)
        return {
            "name": place.target.name,
            "running": place.out,
            "capacity": load.capacity,
            "reserved": place.reserved,
            "restarts": load.restarts,
            "healthy": load.healthy,
            "gate": {"open": gate.open, "reason": gate.reason},
        }

    def _busy(self, wait_s: float) -> Busy:
        retry_after = self.retry_after()
        return Busy(
            f"No worker came free within {wait_s:g} s. Try again in about {retry_after} s.", retry_after=retry_after
        )


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("This process is shutting down and takes no new work; send it to another one, or try later.")
