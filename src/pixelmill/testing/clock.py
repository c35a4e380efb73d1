"""A clock that moves only when told to."""

from __future__ import annotations


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
