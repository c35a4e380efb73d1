"""Puts tiles in order before a writer that must get them so. What it holds is bounded by the lanes' window."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from pixelmill.images.regions import Region, RegionWriter
from pixelmill.operations.passes import Array


class Ordered:
    """Writes tiles of ``numbers`` in that order, by whichever thread brings the one that was missing."""

    def __init__(self, writer: RegionWriter, numbers: Sequence[int]) -> None:
        self._writer, self._numbers = writer, iter(numbers)
        self._next = next(self._numbers, None)
        self._early: dict[int, tuple[Region, Array]] = {}
        self._lock = threading.Lock()

    def write(self, number: int, region: Region, pixels: Array) -> None:
        """Write it, and what waited for it; or hold it."""
        with self._lock:
            self._early[number] = (region, pixels)
            while self._next is not None and self._next in self._early:
                self._writer.write(*self._early.pop(self._next))
                self._next = next(self._numbers, None)
