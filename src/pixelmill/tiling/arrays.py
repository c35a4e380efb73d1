"""Pixels in memory as a source and as a result of tiled runs: small images that are run in tiles, and tests."""

from __future__ import annotations

import numpy as np

from pixelmill.images.image import Image, Size
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Array


class ArrayReader:
    """A :class:`RegionReader` of an image that was decoded whole."""

    in_order = False

    def __init__(self, image: Image) -> None:
        self._pixels: Array = image.pixels
        self.raster = Raster(image.size, image.channels, image.pixels.dtype, image.icc)
        self.unit = Size(1, 1)

    def read(self, region: Region) -> Array:
        """A copy of these pixels."""
        return self._pixels[region.top : region.bottom, region.left : region.right].copy()

    def close(self) -> None:
        """Nothing to give back."""


class ArrayWriter:
    """A :class:`RegionWriter` whose result is ``pixels``; what was not written is black."""

    in_order = False

    def __init__(self, raster: Raster, unit: Size | None = None) -> None:
        self.pixels: Array = np.zeros(raster.shape(Region(0, 0, *raster.size)), raster.dtype)
        self.unit = unit or Size(1, 1)
        self.finished = self.aborted = False

    def write(self, region: Region, pixels: Array) -> None:
        """Copy them in."""
        self.pixels[region.top : region.bottom, region.left : region.right] = pixels

    def finish(self) -> None:
        """It is whole."""
        self.finished = True

    def abort(self) -> None:
        """It never will be."""
        self.aborted = True
