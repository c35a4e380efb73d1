"""Writes a TIFF or BigTIFF of tiles: each is packed by the thread that brings it, and lies where it came.

The tables of places follow at the end, and the header names them last of all: a file that was given up is no TIFF. The
layout of a cloud-optimized one, tables in front and the smallest copy first, needs the lengths of all tiles before the
first: they wait in a scratch file.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import NotApplicable, RunError
from pixelmill.images import tile_codecs
from pixelmill.images.image import Size
from pixelmill.images.pyramids import Pyramid, level_sizes
from pixelmill.images.region_grid import Grid, check_count, check_whole
from pixelmill.images.region_options import TileTiffOptions
from pixelmill.images.region_places import ResultPlace
from pixelmill.images.region_results import FileResult, Result
from pixelmill.images.regions import Raster, Region
from pixelmill.images.tiff_directories import COMPRESSIONS, TileTable, directories, header, is_big, predictor_of


def check_tiles(raster: Raster, options: TileTiffOptions) -> None:
    """Raise :class:`NotApplicable` for pixels that such tiles can't hold, :class:`MissingExtra` without a library."""
    check_count(Grid(raster.size, Size(options.tile, options.tile)))
    if options.compression == "jpeg" and (raster.dtype != np.uint8 or raster.channels == 4):
        raise NotApplicable(
            "Tiles of JPEG hold gray and RGB of 8 bits; these pixels have more bits or transparency. Choose deflate.",
            operation="format",
            parameter="compression",
        )
    if options.compression in ("lzw", "zstd") and not tile_codecs.unpacks(COMPRESSIONS[options.compression]):
        tile_codecs.pack(b"", COMPRESSIONS[options.compression], options.level)


def packed_tile(pixels: NDArray[Any], raster: Raster, options: TileTiffOptions) -> bytes:
    """A tile as it stands in the file; one cut at the picture's edges is filled by repeating its last pixels."""
    down, right = options.tile - pixels.shape[0], options.tile - pixels.shape[1]
    if down or right:
        pixels = np.pad(pixels, ((0, down), (0, right)) + ((0, 0),) * (pixels.ndim - 2), mode="edge")
    if options.compression == "jpeg":
        pixels = np.ascontiguousarray(pixels)
        if pixels.ndim == 2:
            return bytes(simplejpeg.encode_jpeg(pixels[..., np.newaxis], options.quality, "GRAY", "Gray"))
        return bytes(simplejpeg.encode_jpeg(pixels, options.quality, "RGB", "420"))
    little = pixels.astype(pixels.dtype.newbyteorder("<"), copy=False)
    data = np.ascontiguousarray(tile_codecs.with_differences(little, predictor_of(raster, options)))
    return tile_codecs.pack(data.reshape(-1).view(np.uint8).data, COMPRESSIONS[options.compression], options.level)


class TiffWriter:
    """A :class:`RegionWriter` of a TIFF into ``result``; ``folder`` is where scratch files may be."""

    in_order = False

    def __init__(self, result: Result, raster: Raster, options: TileTiffOptions, folder: Path | None = None) -> None:
        check_tiles(raster, options)
        self._result, self._raster, self._options = result, raster, options
        self._big = is_big(raster, options)
        sizes = level_sizes(raster.size, options.tile if options.pyramid else max(raster.size))
        self._unit = Size(options.tile, options.tile)
        self._grids = [Grid(size, self._unit) for size in sizes]
        self._levels = [TileTable.empty(grid.size, len(grid)) for grid in self._grids]
        self._pyramid = Pyramid(raster, options.tile, sizes, self._put, folder) if len(sizes) > 1 else None
        result.append(header(self._big, 0))

    @property
    def unit(self) -> Size:
        """A tile."""
        return self._unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Pack and append the tiles of a region."""
        for number, place in self._grids[0].units(region):
            tile = place.of(pixels, region)
            self._put(0, number, tile)
            self.feed(number, tile)

    def finish(self) -> None:
        """Write the directories, and name them."""
        self._check()
        first = self._result.append(b"")
        self._result.append(directories(self._raster, self._options, self._levels, first, big=self._big))
        self._close()
        self._result.change(0, header(self._big, first))
        self._result.finish()

    def abort(self) -> None:
        """Take everything back."""
        self._close()
        self._result.abort()

    def _put(self, level: int, number: int, pixels: NDArray[Any]) -> None:
        self.put_packed(level, number, packed_tile(pixels, self._raster, self._options))

    def put_packed(self, level: int, number: int, data: bytes) -> None:
        """Append a tile that is packed already."""
        table = self._levels[level]
        if table.lengths[number]:
            raise RunError(f"Tile {number:,} of the result was written twice.")
        table.starts[number] = self._result.append(_even(data))
        table.lengths[number] = len(data)

    def feed(self, number: int, pixels: NDArray[Any]) -> None:
        """Let the copies know the pixels of a tile of the picture, where there are any."""
        if self._pyramid is not None:
            self._pyramid.feed(0, number, pixels)

    def _check(self) -> None:
        check_whole(sum(int(np.count_nonzero(t.lengths)) for t in self._levels), sum(map(len, self._grids)))

    def _close(self) -> None:
        if self._pyramid is not None:
            self._pyramid.close()


class CogWriter(TiffWriter):
    """The same with tables in front, then the copies from the smallest on, then the picture, row by row."""

    def __init__(self, result: Result, raster: Raster, options: TileTiffOptions, scratch: FileResult) -> None:
        super().__init__(scratch, raster, options, None)
        self._scratch, self._final = scratch, result

    def finish(self) -> None:
        """Copy the tiles from the scratch file in their order."""
        self._check()
        self._close()
        write_in_order(self._final, self._raster, self._options, self._levels, self._fetch)
        self._scratch.abort()
        self._final.finish()

    def abort(self) -> None:
        """Take everything back."""
        super().abort()
        self._final.abort()

    def _fetch(self, level: int, number: int) -> bytes:
        table = self._levels[level]
        return self._scratch.read_at(int(table.starts[number]), int(table.lengths[number]))


def tiff_writer(place: ResultPlace, raster: Raster, options: TileTiffOptions) -> TiffWriter:
    """A writer of a TIFF as the options have it; where its header comes first, tiles wait in a scratch file."""
    check_tiles(raster, options)
    # Packing adds little to what can't be packed, copies a third.
    result = place.file(raster.bytes * 3 // 2 + (64 << 20))
    try:
        if options.cog or not place.changes:
            return CogWriter(result, raster, options, FileResult(place.scratch / place.name))
        return TiffWriter(result, raster, options, place.scratch)
    except BaseException:
        result.abort()
        raise


def write_in_order(
    result: Result,
    raster: Raster,
    options: TileTiffOptions,
    levels: list[TileTable],
    fetch: Callable[[int, int], bytes],
) -> None:
    """Tables, then the packed tiles that ``fetch(level, number)`` gives, the smallest level first, row by row.

    ``levels`` hold the lengths of the tiles. The result is not finished here.
    """
    big = is_big(raster, options)
    first = len(header(big, 0))
    placed = [TileTable(level.size, level.starts.copy(), level.lengths) for level in levels]
    at = first + len(directories(raster, options, placed, first, big=big))
    for level in reversed(placed):
        padded = level.lengths + (level.lengths & np.uint64(1))
        level.starts[:] = np.uint64(at + (at & 1)) + np.concatenate((np.zeros(1, np.uint64), np.cumsum(padded)[:-1]))
        at = int(level.starts[-1] + padded[-1])
    result.append(header(big, first))
    result.append(directories(raster, options, placed, first, big=big))
    for number in reversed(range(len(placed))):
        table = placed[number]
        for tile in range(len(table.starts)):
            data = fetch(number, tile)
            if result.append(_even(data)) != int(table.starts[tile]) or len(data) != int(table.lengths[tile]):
                raise RunError("The result's tiles changed while they were put in order. Run it again.")


def _even(data: bytes) -> bytes:
    """With a byte behind it where that is needed: in a TIFF, everything begins at an even place."""
    return data + b"\0" if len(data) & 1 else data
