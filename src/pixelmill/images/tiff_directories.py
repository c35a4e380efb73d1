"""The directories of a TIFF of tiles that is written: what they say, and how many bytes they take. Pure, no I/O.

Sources: TIFF 6.0; the BigTIFF design; Adobe's TIFF technical note 3 (predictor of floats); the layout of
cloud-optimized GeoTIFF (OGC 21-026), sections 7 and 8.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pixelmill.images import tiff_header, tile_codecs
from pixelmill.images.image import Size
from pixelmill.images.region_options import TileTiffOptions
from pixelmill.images.regions import Raster
from pixelmill.images.tiff_layout import TILE_HEIGHT, TILE_WIDTH

COMPRESSIONS = {
    "none": tile_codecs.NONE,
    "lzw": tile_codecs.LZW,
    "deflate": tile_codecs.DEFLATE,
    "zstd": tile_codecs.ZSTD,
    "jpeg": tile_codecs.JPEG,
}
_PREDICTOR, _SUBSAMPLING, _BLACK_WHITE = 317, 530, 532
_SHORT, _LONG, _RATIONAL, _UNDEFINED, _LONG8 = 3, 4, 5, 7, 16
_CLASSIC_MOST = 4_000_000_000
"""Bytes of pixels and tables from which on offsets of 4 bytes might not do."""


@dataclass(slots=True)
class TileTable:
    """Where the tiles of one level lie."""

    size: Size
    starts: NDArray[np.uint64]
    lengths: NDArray[np.uint64]

    @classmethod
    def empty(cls, size: Size, tiles: int) -> TileTable:
        """Of tiles that are still to come."""
        return cls(size, np.zeros(tiles, np.uint64), np.zeros(tiles, np.uint64))


def is_big(raster: Raster, options: TileTiffOptions) -> bool:
    """Whether the file has to be a BigTIFF, or shall be."""
    # Tiles at the edges are whole; packing adds a little to what can't be packed; copies add a third.
    across, down = (-(-side // options.tile) * options.tile for side in raster.size)
    most = across * down * raster.channels * raster.dtype.itemsize * (1.45 if options.pyramid else 1.05)
    return options.big == "always" or most > _CLASSIC_MOST


def predictor_of(raster: Raster, options: TileTiffOptions) -> int:
    """The predictor that tiles get."""
    if options.predictor == "none" or options.compression in ("none", "jpeg"):
        return tile_codecs.PLAIN
    return tile_codecs.FLOATING if raster.dtype.kind == "f" else tile_codecs.HORIZONTAL


def header(big: bool, first: int) -> bytes:
    """The first bytes of the file: where its first directory is (0: nowhere, yet)."""
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, first) if big else struct.pack("<2sHI", b"II", 42, first)


def directories(raster: Raster, options: TileTiffOptions, levels: list[TileTable], at: int, *, big: bool) -> bytes:
    """All directories with their tables, as they stand from ``at`` on (an even place); the first one begins there."""
    parts = []
    for number, level in enumerate(levels):
        last = number + 1 == len(levels)
        parts.append(_directory(_tags(raster, options, level, number > 0, big=big), at, big=big, last=last))
        at += len(parts[-1])
    return b"".join(parts)


def _tags(
    raster: Raster, options: TileTiffOptions, level: TileTable, reduced: bool, *, big: bool
) -> dict[int, tuple[int, int, bytes]]:
    """Type, count and bytes of each tag."""
    jpeg_color = options.compression == "jpeg" and raster.channels == 3
    photometric = 6 if jpeg_color else 1 if raster.channels == 1 else 2
    samples = raster.channels
    kind = 3 if raster.dtype.kind == "f" else 1
    tags = {
        tiff_header.SUBFILE: _number(_LONG, int(reduced)),
        tiff_header.WIDTH: _number(_LONG, level.size.width),
        tiff_header.HEIGHT: _number(_LONG, level.size.height),
        tiff_header.BITS: _number(_SHORT, *[raster.dtype.itemsize * 8] * samples),
        tiff_header.COMPRESSION: _number(_SHORT, COMPRESSIONS[options.compression]),
        tiff_header.PHOTOMETRIC: _number(_SHORT, photometric),
        tiff_header.SAMPLES: _number(_SHORT, samples),
        tiff_header.PLANAR: _number(_SHORT, 1),
        TILE_WIDTH: _number(_LONG, options.tile),
        TILE_HEIGHT: _number(_LONG, options.tile),
        tiff_header.SAMPLE_FORMAT: _number(_SHORT, *[kind] * samples),
    }
    places = "<u8" if big else "<u4"
    for tag, table in ((tiff_header.TILE_OFFSETS, level.starts), (tiff_header.TILE_SIZES, level.lengths)):
        tags[tag] = (_LONG8 if big else _LONG, len(table), table.astype(places).tobytes())
    predictor = predictor_of(raster, options)
    if predictor != tile_codecs.PLAIN:
        tags[_PREDICTOR] = _number(_SHORT, predictor)
    if samples == 4:
        tags[tiff_header.EXTRA] = _number(_SHORT, 2)  # straight alpha
    if jpeg_color:
        tags[_SUBSAMPLING] = _number(_SHORT, 2, 2)
        tags[_BLACK_WHITE] = (_RATIONAL, 6, struct.pack("<12I", 0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1))
    if raster.icc is not None:
        tags[tiff_header.ICC] = (_UNDEFINED, len(raster.icc), raster.icc)
    return tags


def _number(kind: int, *values: int) -> tuple[int, int, bytes]:
    return kind, len(values), struct.pack(f"<{len(values)}{'H' if kind == _SHORT else 'I'}", *values)


def _directory(tags: dict[int, tuple[int, int, bytes]], at: int, *, big: bool, last: bool) -> bytes:
    """One directory, and behind it what does not fit into its entries; the next one follows at once."""
    inline, wide = (8, "Q") if big else (4, "I")
    head = struct.pack("<Q" if big else "<H", len(tags))
    outside = at + len(head) + len(tags) * (4 + 2 * inline) + inline
    outside += outside & 1
    entries, behind, end = b"", [], outside
    for tag in sorted(tags):
        kind, count, blob = tags[tag]
        entries += struct.pack(f"<HH{wide}", tag, kind, count)
        if len(blob) <= inline:
            entries += blob.ljust(inline, b"\0")
            continue
        entries += struct.pack(f"<{wide}", end)
        behind.append(blob + bytes(len(blob) & 1))
        end += len(behind[-1])
    front = head + entries + struct.pack(f"<{wide}", 0 if last else end)
    return front.ljust(outside - at, b"\0") + b"".join(behind)
