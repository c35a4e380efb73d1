"""Places: targets with their gates and the slots that are out, and which of them takes the next task. Pure.

The rule, in order: a place of our own whose gate is open; overflow, while no gate of our own is open or work has waited
too long; and where there is no such place either, any of our own: thresholds decide where work runs, never whether.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pixelmill.fleet.gates import Gate, GatePolicy
from pixelmill.jobs.model import Priority
from pixelmill.targets.target import Target, TargetLoad


class Place:
    """A target with its gate and the slots that are out.

    The last ``reserved`` slots are only given to interactive work. ``overflow``: it costs money, and takes work only
    while the others don't. ``lacks``: extras and models that it does not have, as far as is known.

    Tasks that want learned models have a lane of their own where the target has ``model_slots``: they neither take
    slots from others nor get theirs. Elsewhere they are tasks like all others.
    """

    def __init__(
        self,
        target: Target,
        gate: GatePolicy,
        *,
        reserved: int = 0,
        overflow: bool = False,
        lacks: frozenset[str] = frozenset(),
    ) -> None:
        self.target = target
        self.gate = gate
        self.reserved = reserved
        self.overflow = overflow
        self.lacks = lacks
        self.out = 0
        self.models_out = 0

    @property
    def held(self) -> int:
        """Slots that are out, of both kinds."""
        return self.out + self.models_out

    def take(self, *, models: bool) -> bool:
        """Give one out; whether it is of the lane of models (``give_back`` must be told)."""
        lane = models and self.target.load().model_slots > 0
        if lane:
            self.models_out += 1
        else:
            self.out += 1
        return lane

    def give_back(self, *, lane: bool) -> None:
        """One has come back."""
        if lane:
            self.models_out -= 1
        else:
            self.out -= 1

    def note_lacking(self, extra: str) -> None:
        """It turned out not to have it."""
        self.lacks |= {extra}

    def note_brought(self, extra: str) -> None:
        """It may have it by now."""
        self.lacks -= {extra}

    def verdict(self, load: TargetLoad | None = None) -> Gate:
        """The gate's, unless the target itself can't run anything."""
        load = load or self.target.load()
        return self.gate.verdict() if load.healthy else Gate(open=False, reason=load.reason or "unhealthy")

    def has_room(self, priority: Priority, *, models: bool = False) -> bool:
        """True where a slot is free that is not kept for more urgent work, whatever the gate says."""
        load = self.target.load()
        if models and load.model_slots:
            return load.healthy and self.models_out < load.model_slots
        # A pool of one slot has none to spare: it serves all classes.
        kept = 0 if priority is Priority.INTERACTIVE else max(0, min(self.reserved, load.capacity - 1))
        return load.healthy and self.out < load.capacity - kept

    def model_room(self) -> int:
        """Tasks that want models which could begin now."""
        load = self.target.load()
        free = load.model_slots - self.models_out if load.model_slots else load.capacity - self.out
        return max(0, free) if load.healthy else 0

    def busy(self, *, models: bool = False) -> float:
        """Share of its slots that are out."""
        load = self.target.load()
        if models and load.model_slots:
            return self.models_out / load.model_slots
        return self.out / max(1, load.capacity)


class Choice(NamedTuple):
    """The place that takes the next task, and why it goes there."""

    place: Place
    reason: str


OWN = "its gate is open"
AS_AUTO = "no gate is open and overflow takes nothing, so gates count as open"


def choose(
    places: Iterable[Place],
    priority: Priority,
    *,
    waited_s: float = 0.0,
    latency_s: float | None = None,
    models: bool = False,
) -> Choice | None:
    """The place for the next task of that class, None where it must wait.

    ``waited_s``: how long the oldest task has waited; beyond ``latency_s`` (None: however long) overflow helps.
    ``models``: it wants learned models.
    """
    every = list(places)
    own = [place for place in every if not place.overflow]
    opened = [place for place in own if place.verdict().open]

    def order(place: Place) -> tuple[float, float]:
        """By the gate's rank, then the least busy; of equals the first."""
        return place.gate.rank(), place.busy(models=models)

    room = [place for place in opened if place.has_room(priority, models=models)]
    if room:
        return Choice(min(room, key=order), OWN)
    why = _why_overflow(own, opened, waited_s, latency_s)
    if why is None:
        return None
    spill = [place for place in every if place.overflow and place.verdict().open]
    free = [place for place in spill if place.has_room(priority, models=models)]
    if free:
        return Choice(min(free, key=order), why)
    if opened or spill:
        return None
    room = [place for place in own if place.has_room(priority, models=models)]
    return Choice(min(room, key=order), AS_AUTO) if room else None


def overflow_reason(places: Iterable[Place], *, waited_s: float = 0.0, latency_s: float | None = None) -> str | None:
    """Why the next task would go to overflow, None where it would not."""
    every = list(places)
    own = [place for place in every if not place.overflow]
    if not any(place.overflow and place.verdict().open for place in every):
        return None
    return _why_overflow(own, [place for place in own if place.verdict().open], waited_s, latency_s)


def _why_overflow(
    own: Sequence[Place], opened: Sequence[Place], waited_s: float, latency_s: float | None
) -> str | None:
    if not own:
        return "there is no machine of our own"
    if not opened:
        reasons = "; ".join(f"{place.target.name}: {place.verdict().reason}" for place in own)
        return f"every gate is shut ({reasons})"
    if latency_s is not None and waited_s > latency_s:
        return f"work had waited for {waited_s:.1f} s, longer than {latency_s:g} s"
    return None
