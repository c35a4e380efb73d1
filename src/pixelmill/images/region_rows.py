"""Regions of a picture that is decoded row by row from the top.

A window holds the last rows; for what is above it, decoding starts anew. A picture that is stored turned goes by way of
a scratch file. Which codec gives the rows is not known here.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage
from pixelmill.images.disk_faults import disk_fault
from pixelmill.images.header import oriented
from pixelmill.images.image import Size
from pixelmill.images.orientation import stored_region, upright
from pixelmill.images.regions import Raster, Region

Bands: TypeAlias = Callable[[], Iterator[NDArray[Any]]]
"""Begins to decode at the top, and gives the rows in arrays of some height each."""

_MOST_ROWS = 64
_BAND_BYTES = 16 << 20


def band_rows(row_bytes: int) -> int:
    """How many rows of that length are decoded at once."""
    return max(1, min(_MOST_ROWS, _BAND_BYTES // max(1, row_bytes)))


class RowsReader:
    """A :class:`RegionReader` over ``bands``, which ``close`` ends.

    The rows of the last region are kept, and as many as ``keep_bytes`` hold. Threads take turns.
    """

    in_order = True

    def __init__(self, bands: Bands, raster: Raster, close: Callable[[], None], *, keep_bytes: int) -> None:
        self._bands, self._raster, self._close = bands, raster, close
        row_bytes = raster.bytes // raster.size.height
        self._keep_rows = keep_bytes // max(1, row_bytes)
        self._unit = Size(raster.size.width, band_rows(row_bytes))
        self._lock = threading.Lock()
        self._window: deque[NDArray[Any]] = deque()
        self._top = self._bottom = 0
        self._running: Iterator[NDArray[Any]] | None = None

    @property
    def raster(self) -> Raster:
        """Size, channels and depth."""
        return self._raster

    @property
    def unit(self) -> Size:
        """Some whole rows."""
        return self._unit

    def read(self, region: Region) -> NDArray[Any]:
        """The pixels of a region; what lies above the window is decoded again from the top."""
        with self._lock:
            if self._running is None or region.top < self._top:
                self._window.clear()
                self._top = self._bottom = 0
                self._running = self._bands()
            while self._bottom < region.bottom:
                self._advance(self._running, region.top)
            out = np.empty(self._raster.shape(region), self._raster.dtype)
            top = self._top
            for band in self._window:
                first, last = max(top, region.top), min(top + len(band), region.bottom)
                if first < last:
                    columns = slice(region.left, region.right)
                    out[first - region.top : last - region.top] = band[first - top : last - top, columns]
                top += len(band)
            return out

    def close(self) -> None:
        """End decoding."""
        with self._lock:
            self._window.clear()
            self._running = None
            self._close()

    def _advance(self, running: Iterator[NDArray[Any]], wanted_top: int) -> None:
        band = next(running, None)
        if band is None:
            raise CorruptImage("The file ends before the picture does. Get a fresh copy of it.")
        self._window.append(band)
        self._bottom += len(band)
        needless = min(wanted_top, self._bottom - self._keep_rows)
        while self._window and self._top + len(self._window[0]) <= needless:
            self._top += len(self._window.popleft())


class ScratchReader:
    """A :class:`RegionReader` of a picture that is stored turned.

    The first read decodes it into a scratch file, where regions lie in any order.
    """

    in_order = False

    def __init__(self, bands: Bands, raster: Raster, close: Callable[[], None], *, turn: int) -> None:
        """``raster`` is of the upright picture."""
        self._bands, self._raster, self._close, self._turn = bands, raster, close, turn
        self._stored = oriented(raster.size, turn)  # it swaps the sides, or does not: both ways alike
        self._row = Raster(Size(self._stored.width, 1), raster.channels, raster.dtype).bytes
        self._lock = threading.Lock()
        self._fd = -1

    @property
    def raster(self) -> Raster:
        """Size, channels and depth."""
        return self._raster

    @property
    def unit(self) -> Size:
        """Any grid is as good as another."""
        return Size(512, 512)

    def read(self, region: Region) -> NDArray[Any]:
        """The pixels of a region."""
        with self._lock:
            if self._fd < 0:
                self._fd = self._decoded()
        part = stored_region(region, self._stored, self._turn)
        pixel = self._row // self._stored.width
        found = np.empty((part.height, part.width * pixel), np.uint8)
        try:
            for row in range(part.height):
                at = (part.top + row) * self._row + part.left * pixel
                found[row] = np.frombuffer(os.pread(self._fd, part.width * pixel, at), np.uint8)
        except OSError as error:
            raise disk_fault(error, "read", "a scratch file") from error
        return upright(found.view(self._raster.dtype).reshape(self._raster.shape(part)), self._turn)

    def close(self) -> None:
        """Remove the scratch file."""
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)
        self._close()

    def _decoded(self) -> int:
        rows = 0
        with tempfile.TemporaryFile() as file:
            try:
                for band in self._bands():
                    file.write(np.ascontiguousarray(band).data)
                    rows += len(band)
                file.flush()
            except OSError as error:
                raise disk_fault(error, "write", "a scratch file") from error
            if rows != self._stored.height:
                raise CorruptImage("The file ends before the picture does. Get a fresh copy of it.")
            return os.dup(file.fileno())
