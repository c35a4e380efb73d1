"""Tasks with learned models that an engine holds while they wait for a slot of their own lane.

The slot with which a task was received goes to the next one meanwhile. No more are held than can begin, and a few.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from pixelmill.engines.executor import Slot
from pixelmill.errors import PixelmillError
from pixelmill.jobs.model import Priority

log = logging.getLogger(__name__)

PARKED = 2
"""Tasks that are held beyond those that can begin, so that the next one is there when a slot comes free."""
T = TypeVar("T")


class Dispatcher(Protocol):
    """What gives slots (see ``fleet/dispatcher.py``)."""

    @property
    def model_room(self) -> int:
        """Tasks with learned models that could begin now."""
        ...

    async def acquire(self, priority: Priority | str = ..., wait_s: float | None = ..., *, models: bool = ...) -> Slot:
        """A slot, in turn; ``models``: for a task that wants learned models."""
        ...


class Lane(Generic[T]):
    """``begin`` runs a task on its slot; ``refused`` takes one back for which there will be none."""

    def __init__(
        self, dispatcher: Dispatcher, begin: Callable[[T, Slot], None], refused: Callable[[T, PixelmillError], None]
    ) -> None:
        self._dispatcher, self._begin, self._refused = dispatcher, begin, refused
        self._parked: dict[T, asyncio.Task[None]] = {}

    @property
    def room(self) -> int:
        """Tasks that may be taken in."""
        return self._dispatcher.model_room + max(0, PARKED - len(self._parked))

    def __len__(self) -> int:
        return len(self._parked)

    def __contains__(self, held: T) -> bool:
        return held in self._parked

    def park(self, held: T, priority: Priority) -> None:
        """Hold it until it has a slot."""
        self._parked[held] = asyncio.create_task(self._wait(held, priority))

    def leave(self, held: T) -> None:
        """It waits no more."""
        self._parked.pop(held).cancel()

    def clear(self) -> list[T]:
        """All wait no more; which those are."""
        left = list(self._parked)
        for held in left:
            self.leave(held)
        return left

    async def _wait(self, held: T, priority: Priority) -> None:
        try:
            slot = await self._dispatcher.acquire(priority, None, models=True)
        except PixelmillError as error:
            del self._parked[held]
            self._refused(held, error)
            return
        if self._parked.pop(held, None) is None:  # it left in this very moment
            slot.release()
        else:
            self._begin(held, slot)
