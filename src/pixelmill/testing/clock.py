"""A clock that moves only when told to."""

from __future__ import annotations

import time


class Clock:
    """Call it for seconds since the epoch."""

    def __init__(self, start: float = 1_000_000.0) -> None:
        self.seconds = start

    def __call__(self) -> float:
        """Now."""
        return self.seconds

    def advance(self, seconds: float) -> None:
        """Time passes."""
        self.seconds += seconds


class RealClock(Clock):
    """The time of day, for services that take it from nowhere else: to advance is to wait."""

    def __call__(self) -> float:
        """Now."""
        return time.time()

    def advance(self, seconds: float) -> None:
        """Wait so long, and a moment more than a service's clock may count in."""
        time.sleep(seconds + 0.1)
