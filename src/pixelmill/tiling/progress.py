"""What a runner tells while it runs, and what it may be told: how far it is, which tiles are written, when to stop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. ``stage`` counts from 1; tiles and pixels are of this sweep, ``share`` is of the whole run.

    ``read`` and ``written`` are bytes of pixels so far, of all sweeps.
    """

    stage: int
    stages: int
    name: str
    tiles: int
    of_tiles: int
    pixels: int
    of_pixels: int
    read: int
    written: int
    share: float
    all_pixels: int
    """Of all sweeps."""


Told: TypeAlias = Callable[[Progress], None]


class TileLog(Protocol):
    """Which tiles of the result are written, for a run that goes on where another ended."""

    def has(self, number: int) -> bool:
        """Whether the result holds this tile."""
        ...

    def add(self, number: int) -> None:
        """It does now. Called by several threads at once, behind the write."""
        ...
