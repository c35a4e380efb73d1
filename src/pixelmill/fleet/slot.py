"""A slot: room for one running task at a place, and its way to another place where this one lacks what the task needs.

What gives slots is ``dispatcher.py``; a slot knows of it what :class:`Giver` says.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from typing import Protocol, Self

from pixelmill import tracing
from pixelmill.errors import LimitExceeded, MissingExtra, ModelMissing, TargetUnavailable, UnsupportedFormat
from pixelmill.fleet.places import Choice, Place
from pixelmill.jobs.model import Priority
from pixelmill.targets.needs import MODEL, TILES, lacking, needs
from pixelmill.targets.target import RunRequest, RunResult

FORGET_S = 60.0
"""How long a place is taken to lack weights that it did not have."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a slot is asked for. ``own``: on a machine of our own. ``models``: the task wants learned models.

    ``needed``: extras without which it can't run.
    """

    priority: Priority
    own: bool = False
    models: bool = False
    needed: frozenset[str] = frozenset()


class Giver(Protocol):
    """What a slot asks of who gave it."""

    def names(self) -> list[str]:
        """Places that there are."""
        ...

    def has_any(self, asked: Asked) -> bool:
        """Whether there is a place that may do it, with room or not."""
        ...

    def find(self, asked: Asked) -> Choice | None:
        """Such a place with room now."""
        ...

    def give_back(self, place: Place, *, lane: bool) -> None:
        """A slot was released."""
        ...

    def note_duration(self, seconds: float) -> None:
        """So long a task has run."""
        ...


class Slot:
    """Room for one running task. Release it when done (``async with`` does); releasing again changes nothing."""

    __slots__ = ("_asked", "_dispatcher", "_lane", "_place", "_released", "reason")

    def __init__(self, dispatcher: Giver, choice: Choice, asked: Asked) -> None:
        self._dispatcher = dispatcher
        self._place, self.reason = choice
        self._asked = asked
        self._lane = self._place.take(models=asked.models)
        self._released = False

    @property
    def priority(self) -> Priority:
        """The class that it was given to."""
        return self._asked.priority

    @property
    def target(self) -> str:
        """The name of the target it is on."""
        return self._place.target.name

    async def run(self, request: RunRequest) -> RunResult:
        """Run a task here; raises what the target raises. The slot stays held.

        It moves to another place where this one lacks an extra or the weights that the task needs and another one may
        have them; raises
        :class:`TargetUnavailable` where none of those has room now.
        """
        needed: frozenset[str] = frozenset()
        while True:
            if self._place.lacks and len(self._dispatcher.names()) > 1:
                needed |= await asyncio.to_thread(needs, request)
                if self._place.lacks & needed:
                    self._move(needed)
            started = time.monotonic()
            try:
                name = "overflow.call" if self._place.overflow else "target.run"
                with tracing.part(name, "client", {"pixelmill.target": self.target}):
                    result = await self._place.target.run(request)
            except LimitExceeded:
                needed |= {TILES}
                if request.tiled is None or TILES not in self._place.lacks or not self._move(needed):
                    raise
            except (UnsupportedFormat, MissingExtra, ModelMissing) as error:
                extra = lacking(error)
                if extra is None or extra in self._place.lacks:
                    raise
                self._place.note_lacking(extra)
                if extra.startswith(MODEL):  # it may be pulled at any time
                    asyncio.get_running_loop().call_later(FORGET_S, self._place.note_brought, extra)
                needed |= {extra}
                if not self._move(needed):
                    raise
            else:
                self._dispatcher.note_duration(time.monotonic() - started)
                return result

    def _move(self, needed: frozenset[str]) -> bool:
        """Take a slot of a place that may have all that; False where there is none: then it fails here, rightly."""
        asked = replace(self._asked, needed=needed)
        if self._released or not self._dispatcher.has_any(asked):
            return False
        choice = self._dispatcher.find(asked)
        missing = ", ".join(sorted(map(_told, self._place.lacks & needed)))
        if choice is None:
            raise TargetUnavailable(
                f"{self.target} lacks {missing}, and no machine that has it has room now. The task waits for one.",
                fault=False,
                billed="none",
            )
        before, lane = self._place, self._lane
        self._lane = choice.place.take(models=asked.models)
        self._place, self.reason = choice.place, f"{choice.reason}; {before.target.name} lacks {missing}"
        self._dispatcher.give_back(before, lane=lane)
        return True

    def release(self) -> None:
        """Give the room to whoever is next."""
        if not self._released:
            self._released = True
            self._dispatcher.give_back(self._place, lane=self._lane)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.release()


def _told(extra: str) -> str:
    """What is lacking, as messages say it."""
    return f"the weights of {extra.removeprefix(MODEL)}" if extra.startswith(MODEL) else f"the extra {extra}"
