"""Regions of an image in memory: what is small enough, and what tests read from and write to."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image, Size
from pixelmill.images.region_grid import check_whole
from pixelmill.images.regions import Raster, Region

UNIT = Size(512, 512)


class MemoryReader:
    """A :class:`RegionReader` of an image that is decoded already."""

    in_order = False

    def __init__(self, image: Image, unit: Size = UNIT) -> None:
        self._pixels: NDArray[Any] = image.pixels
        self._unit = unit
        self._raster = Raster(image.size, image.channels, image.pixels.dtype, image.icc)

    @property
    def raster(self) -> Raster:
        """Size, channels and depth."""
        return self._raster

    @property
    def unit(self) -> Size:
        """Any grid is as good as another."""
        return self._unit

    def read(self, region: Region) -> NDArray[Any]:
        """A copy of the pixels of a region."""
        return self._pixels[region.top : region.bottom, region.left : region.right].copy()

    def close(self) -> None:
        """Nothing is open; the pixels go with the reader."""


class MemoryWriter:
    """A :class:`RegionWriter` into an image in memory, which is there after ``finish``."""

    in_order = False

    def __init__(self, raster: Raster, unit: Size = UNIT) -> None:
        self._raster, self._unit = raster, unit
        self._pixels = np.zeros(raster.shape(Region(0, 0, *raster.size)), raster.dtype)
        self._written, self._lock = 0, threading.Lock()
        self._image: Image | None = None

    @property
    def unit(self) -> Size:
        """The grid that regions come along."""
        return self._unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Copy the pixels of a region."""
        self._pixels[region.top : region.bottom, region.left : region.right] = pixels
        with self._lock:
            self._written += region.pixels

    def finish(self) -> None:
        """Make the image."""
        check_whole(self._written, self._raster.size.pixels)
        self._image = Image(self._pixels, self._raster.icc)

    def abort(self) -> None:
        """Take the image back."""
        self._image = None

    @property
    def image(self) -> Image:
        """The result."""
        if self._image is None:
            raise RuntimeError("the image is not finished")
        return self._image
