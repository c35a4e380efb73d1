"""What was seen of one image on its way through a target. Plain values; no I/O.

Times are seconds since the epoch, all by the clock of the target that tells them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Trigger = Literal["manual", "high-rate"]
TRIGGERS: tuple[Trigger, ...] = ("manual", "high-rate")
State = Literal["succeeded", "failed", "dropped"]


@dataclass(frozen=True, slots=True, order=True)
class Resolution:
    """Width and height in pixels."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def megapixels(self) -> float:
        """Millions of pixels."""
        return self.width * self.height / 1e6


@dataclass(frozen=True, slots=True)
class Observation:
    """One event and what became of it.

    ``received``: the target took the event, and from then on it waits; None where it never did. ``started`` and
    ``ended`` are of the last attempt. ``dropped`` is an event without an outcome: refused for good, or not ended in
    time. ``cold``: it was the first of its process; None where that can't be known. ``init_s``: how
    long that process took to start, where it is told. ``timings``: milliseconds of decode, apply and encode.
    """

    name: str
    state: State
    received: float | None = None
    started: float | None = None
    ended: float | None = None
    error: str = ""
    attempts: int = 1
    target: str = ""
    overflow: bool = False
    cold: bool | None = None
    init_s: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    pixels: int = 0
    timings: Mapping[str, float] = field(default_factory=dict)

    @property
    def duration_s(self) -> float | None:
        """From started to ended."""
        return None if self.started is None or self.ended is None else max(0.0, self.ended - self.started)

    @property
    def age_s(self) -> float | None:
        """From received to started: the age of the event when its work began."""
        return None if self.received is None or self.started is None else max(0.0, self.started - self.received)

    @property
    def total_s(self) -> float | None:
        """From received to ended."""
        return None if self.received is None or self.ended is None else max(0.0, self.ended - self.received)


@dataclass(frozen=True, slots=True)
class Harvest:
    """All of a batch. ``throttles``: answers 429 and 503; ``retries``: requests sent again; ``waited_s`` before them.

    ``sending_s``: from the first byte sent to the last event taken, by the clock of the sender.
    """

    observations: tuple[Observation, ...]
    sending_s: float = 0.0
    throttles: int = 0
    retries: int = 0
    waited_s: float = 0.0
