"""Pictures for tests of regions, and ways to write and read them whole by their regions."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.region_grid import Grid
from pixelmill.images.regions import Raster, Region, RegionReader, RegionWriter


def picture(width: int, height: int, channels: int = 3, dtype: str = "u1", seed: int = 0) -> NDArray[Any]:
    """Smooth with noise, so that every predictor and filter has something to do; of floats, 0 to 1."""
    rng = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    found = np.cumsum(rng.random(shape), axis=1)
    found /= found.max()
    kind = np.dtype(dtype)
    return found.astype(kind) if kind.kind == "f" else (found * np.iinfo(kind).max).astype(kind)


def raster_of(pixels: NDArray[Any], icc: bytes | None = None) -> Raster:
    """What the pixels are."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    return Raster(Size(pixels.shape[1], pixels.shape[0]), channels, pixels.dtype, icc)


def write_all(
    writer: RegionWriter, pixels: NDArray[Any], *, order: Callable[[int], list[int]] | None = None, threads: int = 2
) -> None:
    """Every unit of the picture, by threads, and the end."""
    raster = raster_of(pixels)
    grid, whole = Grid(raster.size, writer.unit), Region(0, 0, *raster.size)

    def one(number: int) -> None:
        place = grid.place(number)
        writer.write(place, place.of(pixels, whole))

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, order(len(grid)) if order else range(len(grid))))
    writer.finish()


def shuffled(count: int) -> list[int]:
    """Numbers from 0, in no order."""
    return [int(number) for number in np.random.default_rng(7).permutation(count)]


def read_all(reader: RegionReader) -> NDArray[Any]:
    """The whole picture in one region; the reader is closed."""
    try:
        return reader.read(Region(0, 0, *reader.raster.size))
    finally:
        reader.close()
