"""Smaller copies of a picture, each of half the size, made of its tiles while these come, in any order.

A tile of a copy is the mean of two by two pixels of its four tiles above (of the picture's odd last column or row, of
what is there); it is given out when the last of the four has come. Those that still wait are in memory up to a bound,
and beyond it in a scratch file.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.disk_faults import disk_fault
from pixelmill.images.image import Size
from pixelmill.images.region_grid import Grid
from pixelmill.images.regions import Raster, Region

Emit: TypeAlias = Callable[[int, int, NDArray[Any]], None]
"""Takes level, number and pixels of a tile of a copy."""

WAITING_BYTES = 64 << 20
"""Of tiles that wait in memory."""


def level_sizes(size: Size, least: int) -> list[Size]:
    """The picture's size, and those of its copies down to one whose sides are at most ``least``."""
    sizes = [size]
    while max(sizes[-1]) > least:
        sizes.append(Size(-(-sizes[-1].width // 2), -(-sizes[-1].height // 2)))
    return sizes


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """Half as many rows and columns (rounded up), each pixel the mean of four; integers are rounded, halves up.

    Of straight RGBA colors count as much as they cover.
    """
    down, right = pixels.shape[0] % 2, pixels.shape[1] % 2
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right)) + ((0, 0),) * (pixels.ndim - 2), mode="edge")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        return _halved_rgba(pixels)
    quarters = [pixels[top::2, left::2] for top in (0, 1) for left in (0, 1)]
    if pixels.dtype.kind == "f":
        return np.asarray(np.add.reduce(quarters) * pixels.dtype.type(0.25))
    if pixels.dtype == np.uint8:
        # OpenCV's sum of 2×2 with its rounding, (sum + 2) >> 2, in one pass.
        return np.asarray(
            cv2.resize(pixels, (pixels.shape[1] // 2, pixels.shape[0] // 2), interpolation=cv2.INTER_AREA)
        )
    total = np.add.reduce(quarters, dtype=np.uint32)
    return ((total + 2) >> 2).astype(pixels.dtype)


def _halved_rgba(pixels: NDArray[Any]) -> NDArray[Any]:
    integer = pixels.dtype.kind == "u"
    quarters = [pixels[top::2, left::2].astype(np.float64) for top in (0, 1) for left in (0, 1)]
    cover = np.add.reduce([quarter[..., 3:] for quarter in quarters])
    seen = np.add.reduce([quarter[..., :3] * quarter[..., 3:] for quarter in quarters])
    colors = np.divide(seen, cover, out=np.zeros(seen.shape), where=cover > 0)
    both = np.concatenate((colors, cover / 4), axis=2)
    return (np.floor(both + 0.5) if integer else both).astype(pixels.dtype)


@dataclass(slots=True)
class _Waiting:
    """A tile of a copy of which parts are missing. ``slot`` is its place in the scratch file, or -1."""

    pixels: NDArray[Any]
    missing: int
    slot: int


class Pyramid:
    """The copies of a picture of ``raster`` in tiles of ``tile`` pixels (an even number), given out by ``emit``.

    ``feed`` may be called by several threads; the one that brings the last part of a tile emits it. ``folder`` is where
    the scratch file would be.
    """

    def __init__(
        self,
        raster: Raster,
        tile: int,
        sizes: list[Size],
        emit: Emit,
        folder: Path | None,
        *,
        most: int = WAITING_BYTES,
    ) -> None:
        self._raster, self._tile, self._emit, self._folder, self._most = raster, tile, emit, folder, most
        self._grids = [Grid(size, Size(tile, tile)) for size in sizes]
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, int], _Waiting] = {}
        self._bytes = 0
        self._scratch: _Scratch | None = None

    def feed(self, level: int, number: int, pixels: NDArray[Any]) -> None:
        """A tile of a level (0 is the picture), cut at the picture's edges; tiles of the copies are fed by this too."""
        if level + 1 >= len(self._grids):
            return
        small = halved(pixels)
        above, below = self._grids[level], self._grids[level + 1]
        row, column = divmod(number, above.across)
        parent = row // 2 * below.across + column // 2
        left, top = column % 2 * (self._tile // 2), row % 2 * (self._tile // 2)
        with self._lock:
            waiting = self._waiting.get((level + 1, parent))
            if waiting is None:
                children = (2 - (column | 1 >= above.across)) * (2 - (row | 1 >= above.down))
                waiting = self._begin(below.place(parent), children)
                self._waiting[level + 1, parent] = waiting
        waiting.pixels[top : top + small.shape[0], left : left + small.shape[1]] = small
        with self._lock:
            waiting.missing -= 1
            if waiting.missing:
                return
            del self._waiting[level + 1, parent]
        self._emit(level + 1, parent, waiting.pixels)
        self.feed(level + 1, parent, waiting.pixels)
        with self._lock:
            self._end(waiting)

    def close(self) -> None:
        """Let go of memory and scratch file."""
        with self._lock:
            self._waiting.clear()
            if self._scratch is not None:
                self._scratch.close()

    def _begin(self, place: Region, children: int) -> _Waiting:
        shape = self._raster.shape(place)
        size = int(np.prod(shape)) * self._raster.dtype.itemsize
        if self._bytes + size <= self._most:
            self._bytes += size
            return _Waiting(np.empty(shape, self._raster.dtype), children, -1)
        if self._scratch is None:
            self._scratch = _Scratch(self._folder, self._tile**2 * self._raster.channels * self._raster.dtype.itemsize)
        slot, room = self._scratch.take()
        return _Waiting(np.frombuffer(room, self._raster.dtype, int(np.prod(shape))).reshape(shape), children, slot)

    def _end(self, waiting: _Waiting) -> None:
        if waiting.slot < 0:
            self._bytes -= waiting.pixels.nbytes
        elif self._scratch is not None:
            self._scratch.give(waiting.slot)


class _Scratch:
    """A nameless file of equal slots, mapped into memory, which the system may write out."""

    _GROWTH = 64

    def __init__(self, folder: Path | None, slot_bytes: int) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 -- closed by close()
        self._slot_bytes = -(-slot_bytes // mmap.ALLOCATIONGRANULARITY) * mmap.ALLOCATIONGRANULARITY
        self._maps: list[mmap.mmap] = []
        self._free: list[int] = []

    def take(self) -> tuple[int, memoryview]:
        """A slot and its room."""
        if not self._free:
            begin, length = len(self._maps) * self._GROWTH, self._GROWTH * self._slot_bytes
            try:
                # Room on the disk is taken now: a mapped page without it would end the process.
                os.posix_fallocate(self._file.fileno(), begin * self._slot_bytes, length)
                self._maps.append(mmap.mmap(self._file.fileno(), length, offset=begin * self._slot_bytes))
            except OSError as error:
                raise disk_fault(error, "write", "a scratch file") from error
            self._free.extend(range(begin, begin + self._GROWTH))
        slot = self._free.pop()
        part, place = divmod(slot, self._GROWTH)
        return slot, memoryview(self._maps[part])[place * self._slot_bytes : (place + 1) * self._slot_bytes]

    def give(self, slot: int) -> None:
        """Take a slot back."""
        self._free.append(slot)

    def close(self) -> None:
        """Remove it."""
        for room in self._maps:
            with suppress(BufferError):  # somebody still looks at it: it goes with them
                room.close()
        self._file.close()
