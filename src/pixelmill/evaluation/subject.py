"""What is measured: the seam between scenarios and the targets that they run against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pixelmill.client import RetryPolicy
from pixelmill.client.wire import Request
from pixelmill.errors import CapacityError, InputError, PixelmillError, RunError, StorageError
from pixelmill.evaluation.observation import Harvest, Resolution, State, Trigger

Tell = Callable[[int], None]
"""Called with how many of the batch have ended."""

REFUSED = frozenset({429, 503})
OF_AN_IMAGE = (CapacityError, InputError, RunError, StorageError)
"""What one image may end with. Any other error is about the whole evaluation, and ends it."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one resolution, and how they are sent.

    ``manual``: one after another, with ``pause_s`` between them, none waiting for the result of the one before.
    ``high-rate``: all at once. ``limit_s`` bounds the whole batch; what has not ended then was dropped.
    """

    trigger: Trigger
    resolution: Resolution
    files: Sequence[Path]
    limit_s: float
    pause_s: float = 0.0


class Subject(Protocol):
    """Something that takes batches. It leaves nothing behind that it made, whatever ends the batch."""

    async def run(self, batch: Batch, tell: Tell) -> Harvest:
        """One observation for each file; raises where no image could be observed for a reason of its own."""
        ...


class Images(Protocol):
    """Where the pictures come from. ``description`` is for the report."""

    description: str

    def files(self, resolution: Resolution, count: int) -> Sequence[Path]:
        """``count`` JPEG files, no two with the same bytes; they stay until files of another resolution are asked."""
        ...


@dataclass(slots=True)
class Tally:
    """What the retries of a client counted."""

    throttles: int = 0
    retries: int = 0
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CountingPolicy(RetryPolicy):
    """The client's own way to try again, with a count of it."""

    tally: Tally = field(default_factory=Tally, compare=False)

    def wait(self, attempt: int, request: Request, error: PixelmillError) -> float | None:
        """As :meth:`RetryPolicy.wait`."""
        if error.context.get("status") in REFUSED:
            self.tally.throttles += 1
        seconds = RetryPolicy.wait(self, attempt, request, error)
        if seconds is not None:
            self.tally.retries += 1
            self.tally.waited_s += seconds
        return seconds


def state_of(error: PixelmillError) -> State:
    """What became of an image that was refused or failed."""
    return "dropped" if isinstance(error, (CapacityError, StorageError)) else "failed"
