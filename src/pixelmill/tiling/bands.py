"""Reads tiles of a source that decodes from top to bottom only: rows are read once, and the last ones are held."""

from __future__ import annotations

import threading

import numpy as np

from pixelmill.images.regions import Region, RegionReader
from pixelmill.operations.passes import Array


class Bands:
    """Regions from rows that are held: those of the last ``held`` reads; what lies above is decoded anew.

    Lanes take tiles in order, so what one needs begins little above what the one before has needed.
    """

    def __init__(self, reader: RegionReader, held: int) -> None:
        self._reader, self._held = reader, held
        self._lock = threading.Lock()
        self._bands: list[tuple[Region, Array]] = []

    def read(self, region: Region) -> Array:
        """An array of the caller's own."""
        with self._lock:
            held = self._cover(region)
        result = np.empty(self._reader.raster.shape(region), self._reader.raster.dtype)
        for band, pixels in held:
            top, bottom = max(band.top, region.top), min(band.bottom, region.bottom)
            part = Region(region.left, top, region.width, bottom - top)
            part.of(result, region)[...] = part.of(pixels, band)
        return result

    def _cover(self, region: Region) -> list[tuple[Region, Array]]:
        """Bands, each overlapping ``region``, that are all of it together; reads what is missing below."""
        width = self._reader.raster.size.width
        if self._bands and self._bands[0][0].top > region.top:
            self._bands.clear()
        bottom = self._bands[-1][0].bottom if self._bands else region.top
        if bottom < region.bottom:
            band = Region(0, bottom, width, region.bottom - bottom)
            self._bands.append((band, self._reader.read(band)))
            del self._bands[: -self._held]
        return [item for item in self._bands if item[0].top < region.bottom and item[0].bottom > region.top]
