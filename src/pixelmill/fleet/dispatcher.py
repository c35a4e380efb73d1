"""The dispatcher: owns every slot of this process and gives each free one to the next task, interactive work first.

It knows targets, gates and priorities; it knows no jobs, queues or pixels. A slot is given at the last moment: to the
first waiter of the highest class, on the place that ``fleet/places.py`` chooses. Places come and go while it runs.
Tasks that want learned models wait in lines of their own, for slots of their own: they hold up nobody else.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pixelmill.errors import Busy, QueueFull, ShuttingDown
from pixelmill.fleet.gates import AutoGate, GatePolicy
from pixelmill.fleet.places import Choice, Place, choose, overflow_reason
from pixelmill.fleet.slot import Asked, Slot
from pixelmill.jobs.model import Priority
from pixelmill.pipelines.learned import wants_models
from pixelmill.targets.target import RunRequest, RunResult, Target

ORDER = (Priority.INTERACTIVE, Priority.NORMAL, Priority.BATCH)

_RECHECK_S = 0.25  # while work waits and a gate is closed: gates open without telling anybody
_MAX_RETRY_AFTER_S = 60.0
_SMOOTHING = 0.1  # weight of the newest duration in the running mean


class Dispatcher:
    """Slots of ``targets``, to begin with. ``gates`` by target name; others are always open.

    The last ``reserved`` slots of each target are only given to interactive work. No more than ``max_waiting``
    tasks wait. ``latency_s``: work of a class that has waited longer may overflow; without it, only when no gate of our
    own is open. Belongs to one event loop.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        *,
        reserved: int = 1,
        max_waiting: int = 10_000,
        gates: Mapping[str, GatePolicy] | None = None,
        latency_s: Mapping[Priority, float] | None = None,
    ) -> None:
        gates = gates or {}
        self._places: dict[str, Place] = {}
        self._leaving: list[Place] = []  # removed, with slots that are still out
        self._max_waiting = max_waiting
        self._latency_s = latency_s or {}
        self._queued: Mapping[Priority, float] = {}  # since when the oldest task in a queue waits, by class
        # Dictionaries as ordered sets: first in, first out, and a waiter that gives up leaves at once.
        self._waiting: Mapping[bool, dict[Priority, dict[asyncio.Future[Slot], float]]] = {
            models: {priority: {} for priority in ORDER} for models in (False, True)
        }
        self._stay: set[asyncio.Future[Slot]] = set()  # of them, those that overflow does not take
        self._draining = False
        self._empty = asyncio.Event()
        self._empty.set()
        self._recheck: asyncio.TimerHandle | None = None
        self._mean_s = 1.0
        self._peak = self._peak_ever = 0
        for target in targets:
            self.add(target, gates.get(target.name), reserved=reserved)

    # -- places ----------------------------------------------------------------------------------

    def add(
        self,
        target: Target,
        gate: GatePolicy | None = None,
        *,
        reserved: int = 0,
        overflow: bool = False,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        """From now on slots are given there too; raises :class:`ValueError` for a name that is taken."""
        if target.name in self._places:
            raise ValueError(f"there is a target {target.name!r} already")
        self._places[target.name] = Place(target, gate or AutoGate(), reserved=reserved, overflow=overflow, lacks=lacks)
        self._grant()

    def remove(self, name: str) -> None:
        """Give no more slots there; those that are out stay valid. An unknown name is no error."""
        place = self._places.pop(name, None)
        if place is not None and place.held:
            self._leaving.append(place)
        self._grant()  # with that place gone overflow may take what waits

    def names(self) -> list[str]:
        """The names that are taken."""
        return list(self._places)

    def note_queued(self, since: Mapping[Priority, float]) -> None:
        """Tell since when (``time.monotonic``) the oldest task of each class waits in queues outside."""
        self._queued = since
        self._grant()

    # -- taking slots ----------------------------------------------------------------------------

    async def acquire(
        self,
        priority: Priority | str = Priority.NORMAL,
        wait_s: float | None = None,
        *,
        own: bool = False,
        models: bool = False,
    ) -> Slot:
        """A slot, in turn. Raises :class:`Busy` after ``wait_s`` (None: wait as long as it takes).

        ``own``: on a machine of our own, for work that overflow does not take. ``models``: for a task that wants
        learned models.
        Raises :class:`QueueFull` where too many wait already, and :class:`ShuttingDown` while draining.
        """
        asked = Asked(Priority(priority), own, models)
        if self._draining:
            raise _shutting_down()
        if not self._is_anybody_ahead(asked):
            choice = self.find(asked)
            if choice is not None:
                return self._give(choice, asked)
        if wait_s is not None and wait_s <= 0:
            raise self._busy(0)
        if self.waiting >= self._max_waiting:
            raise QueueFull(
                f"{self.waiting:,} tasks wait already, which is the limit. Try again in a while.",
                retry_after=self.retry_after(),
            )
        return await self._wait(asked, wait_s)

    async def run(
        self, request: RunRequest, priority: Priority | str = Priority.NORMAL, wait_s: float | None = None
    ) -> RunResult:
        """Acquire a slot, run a task on it, and give it back."""
        async with await self.acquire(priority, wait_s, models=wants_models(request.pipeline)) as slot:
            return await slot.run(request)

    async def _wait(self, asked: Asked, wait_s: float | None) -> Slot:
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Slot] = loop.create_future()
        queue = self._waiting[asked.models][asked.priority]
        queue[waiter] = time.monotonic()
        if asked.own:
            self._stay.add(waiter)
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
            self._stay.discard(waiter)
            if timer is not None:
                timer.cancel()

    def _expire(self, waiter: asyncio.Future[Slot], wait_s: float) -> None:
        if not waiter.done():
            waiter.set_exception(self._busy(wait_s))

    def _is_anybody_ahead(self, asked: Asked) -> bool:
        line = self._waiting[asked.models]
        return any(line[other] for other in ORDER[: ORDER.index(asked.priority) + 1])

    def find(self, asked: Asked) -> Choice | None:
        """The place with room now, None where there is none."""
        latency = self._latency_s.get(asked.priority)
        waited = 0.0 if latency is None else self._waited(asked.priority, models=asked.models)
        places = self._fitting(asked)
        return choose(places, asked.priority, waited_s=waited, latency_s=latency, models=asked.models)

    def _fitting(self, asked: Asked) -> list[Place]:
        places = self._places.values()
        return [place for place in places if not (asked.own and place.overflow) and not place.lacks & asked.needed]

    def has_any(self, asked: Asked) -> bool:
        """Whether there is a place that may have the extras, with room or not."""
        return bool(self._fitting(asked))

    def _waited(self, priority: Priority, *, models: bool = False) -> float:
        """Seconds that the oldest work of the class has waited, here or in a queue outside."""
        now = time.monotonic()
        line = self._waiting[models][priority]
        return now - min(next(iter(line.values()), now), self._queued.get(priority, now))

    def _since(self, priority: Priority, *, models: bool) -> float:
        """When the oldest task that waits here came."""
        return next(iter(self._waiting[models][priority].values()), math.inf)

    def _give(self, choice: Choice, asked: Asked) -> Slot:
        slot = Slot(self, choice, asked)
        self._peak = max(self._peak, self.running)
        self._empty.clear()
        return slot

    # -- giving slots ----------------------------------------------------------------------------

    def give_back(self, place: Place, *, lane: bool) -> None:
        """A slot was released (only :class:`Slot` calls this, once)."""
        place.give_back(lane=lane)
        if not place.held and place in self._leaving:
            self._leaving.remove(place)
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
        for priority in ORDER:  # a less urgent class may overflow, for it has waited too long by its own measure
            # Where a target has no slots for models, both lines want the same ones: who waits longest goes first.
            for models in sorted((False, True), key=lambda models: self._since(priority, models=models)):
                self._grant_class(priority, models=models)
        if self.waiting:
            self._check_again_later()

    def _grant_class(self, priority: Priority, *, models: bool) -> None:
        queue = self._waiting[models][priority]
        full = False  # our own machines are: who must stay there waits, and does not hold up those who need not
        while (waiter := next((one for one in queue if not (full and one in self._stay)), None)) is not None:
            if waiter.done():  # cancelled or expired, and about to leave
                del queue[waiter]
                continue
            asked = Asked(priority, waiter in self._stay, models)
            choice = self.find(asked)
            if choice is not None:
                del queue[waiter]
                waiter.set_result(self._give(choice, asked))
            elif asked.own:
                full = True
            else:
                break

    def _check_again_later(self) -> None:
        """A slot that is released grants; a gate that opens, and time that passes, do not."""
        places = self._places.values()
        if self._latency_s or not self._places or any(not place.verdict().open for place in places):
            self._recheck = asyncio.get_running_loop().call_later(_RECHECK_S, self._grant)

    # -- ending ----------------------------------------------------------------------------------

    async def drain(self, timeout_s: float) -> bool:
        """Give no more slots, and wait until all are back; False if some are still out after ``timeout_s``."""
        self._draining = True
        if self._recheck is not None:
            self._recheck.cancel()
            self._recheck = None
        for queue in self._queues():
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
        return sum(place.held for place in (*self._places.values(), *self._leaving))

    def take_peak(self) -> int:
        """The most slots that were out at once since this was asked last."""
        peak, self._peak = self._peak, self.running
        self._peak_ever = max(self._peak_ever, peak)
        return peak

    @property
    def peak_ever(self) -> int:
        """The most slots that were out at once so far."""
        return max(self._peak_ever, self._peak)

    def is_own_gate_shut(self) -> bool:
        """True while a gate of our own is shut: work may soon overflow."""
        return any(not place.verdict().open for place in self._places.values() if not place.overflow)

    def overflowing(self) -> str | None:
        """Why work of some class would overflow now; None where it would stay."""
        for priority in ORDER:
            latency = self._latency_s.get(priority)
            waited = 0.0 if latency is None else self._waited(priority)
            reason = overflow_reason(self._places.values(), waited_s=waited, latency_s=latency)
            if reason is not None:
                return reason
        return None

    @property
    def waiting(self) -> int:
        """Tasks that wait for a slot, of all classes."""
        return sum(map(len, self._queues()))

    @property
    def waiting_for_models(self) -> int:
        """Of them, those that want learned models."""
        return sum(map(len, self._waiting[True].values()))

    @property
    def model_room(self) -> int:
        """Tasks with learned models that could begin now, beside those that wait."""
        return max(0, sum(place.model_room() for place in self._places.values()) - self.waiting_for_models)

    def _queues(self) -> list[dict[asyncio.Future[Slot], float]]:
        return [queue for line in self._waiting.values() for queue in line.values()]

    @property
    def capacity(self) -> int:
        """Slots of all targets of our own together."""
        return sum(place.target.load().capacity for place in self._places.values() if not place.overflow)

    def retry_after(self) -> int:
        """Seconds after which a slot is likely to be free: what waits and runs, at the recent pace."""
        rounds = (self.waiting + 1) / max(1, self.capacity)
        return math.ceil(min(_MAX_RETRY_AFTER_S, max(1.0, rounds * self._mean_s)))

    def snapshot(self) -> dict[str, Any]:
        """Targets with their slots and gates, and what waits, as plain values."""
        now = time.monotonic()
        oldest = [next(iter(queue.values())) for queue in self._queues() if queue]
        return {
            "draining": self._draining,
            "waiting": {one.value: sum(len(line[one]) for line in self._waiting.values()) for one in ORDER},
            "waiting_for_models": self.waiting_for_models,
            "oldest_wait_s": round(now - min(oldest), 3) if oldest else 0.0,
            "targets": [self._describe(place) for place in self._places.values()],
        }

    def _describe(self, place: Place) -> dict[str, Any]:
        load = place.target.load()
        gate = place.verdict(load)
        return {
            "name": place.target.name,
            "running": place.out,
            "capacity": load.capacity,
            "reserved": place.reserved,
            "models": {"running": place.models_out, "capacity": load.model_slots},
            "restarts": load.restarts,
            "healthy": load.healthy,
            "overflow": place.overflow,
            "gate": {"open": gate.open, "reason": gate.reason, **place.gate.describe()},
        }

    def _busy(self, wait_s: float) -> Busy:
        retry_after = self.retry_after()
        return Busy(
            f"No worker came free within {wait_s:g} s. Try again in about {retry_after} s.", retry_after=retry_after
        )


def _shutting_down() -> ShuttingDown:
    return ShuttingDown("This process is shutting down and takes no new work; send it to another one, or try later.")
