"""Regions of a TIFF, BigTIFF or COG: tiles and strips are found in the directory, read alone, and unpacked in parallel.

What a tile is in pixels is decided by the code that decodes whole images: a tile of any unusual kind is handed to it as
a small TIFF of its own, so both ways give the same pixels. Common kinds (gray, RGB and straight RGBA of 8 and 16 bits
and floats; not packed, deflate, LZW, Zstandard) are unpacked here, faster.
"""

from __future__ import annotations

import functools
import struct
from typing import Any

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage
from pixelmill.images import color, decode_tiff, tiff_header, tile_codecs
from pixelmill.images.block_cache import BlockCache
from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.header import Header, corrupt, oriented
from pixelmill.images.image import Need, Size
from pixelmill.images.limits import RegionLimits
from pixelmill.images.orientation import stored_region, upright
from pixelmill.images.regions import Raster, Region
from pixelmill.images.tiff_layout import ROWS_PER_STRIP, TILE_HEIGHT, TILE_WIDTH, plain_samples, read_layout

_PREDICTOR, _JPEG_TABLES = 317, 347
_JPEG_SPACES = {(1, 1): "GRAY", (3, 6): "RGB"}
"""What JPEG is decoded to, by the number of samples and the photometric interpretation."""
_SLACK = 64 << 10
"""A packed tile may be twice as long as its pixels, and this much more; none that was written honestly is."""
_ROWS_BYTES = 1 << 20
"""Rows that are not packed are read in pieces of about this size."""


class TiffReader:
    """A :class:`RegionReader` of one page (or level) of a TIFF. It owns ``source``.

    ``cache_bytes`` bounds the decoded tiles that are kept for the next regions, whose halos need them. Plain tiles of a
    file are not kept: the system does that.
    """

    in_order = False

    def __init__(
        self,
        source: ByteSource,
        limits: RegionLimits,
        *,
        page: int = 0,
        level: int = 0,
        keep_icc: bool = False,
        cache_bytes: int = 64 << 20,
    ) -> None:
        self._source, self._need = source, Need(icc=keep_icc)
        self._layout = layout = read_layout(source, page, level)
        limits.check_size(layout.size)
        self._turn = layout.orientation
        self._compression = layout.number(tiff_header.COMPRESSION, 1)
        self._predictor = layout.number(_PREDICTOR, 1)
        self._plain = self._plain_kind()
        bits = layout.numbers(tiff_header.BITS) or (1,)
        self._unit = self._stored_unit(sum(bits), len(bits))
        limits.check_unit(self._unit.pixels * max(1, sum(bits) // 8), "A tile" if layout.tiled else "A strip")
        self._cache_bytes = cache_bytes
        self._cache: BlockCache[NDArray[Any]] = BlockCache(cache_bytes, lambda tile: tile.nbytes)
        self._raster = self._look()

    @property
    def raster(self) -> Raster:
        """Size, channels and depth."""
        return self._raster

    @property
    def unit(self) -> Size:
        """A tile; of strips, the picture's width and some rows (turned, where the picture is)."""
        return oriented(self._unit, self._turn)

    @property
    def holds(self) -> int:
        """Bytes that the cache comes to at most."""
        if self._is_raw and (self._source.near or not self._layout.tiled):
            return 0
        return min(self._cache_bytes, self._raster.bytes)

    def read(self, region: Region) -> NDArray[Any]:
        """The pixels of a region."""
        stored = stored_region(region, self._layout.size, self._turn)
        out = np.empty(self._raster.shape(stored), self._raster.dtype)
        across, down = self._unit
        for row in range(stored.top // down, -(-stored.bottom // down)):
            for column in range(stored.left // across, -(-stored.right // across)):
                place = self._place(column, row)
                left, top = max(place.left, stored.left), max(place.top, stored.top)
                part = Region(left, top, min(place.right, stored.right) - left, min(place.bottom, stored.bottom) - top)
                part.of(out, stored)[...] = self._part(column, row, place, part)
        return out if self._turn == 1 else upright(out, self._turn)

    def close(self) -> None:
        """Close the file, and let go of the tiles."""
        self._cache.clear()
        self._source.close()

    # -- below ---------------------------------------------------------------------------------------------------------

    def _plain_kind(self) -> tuple[int, np.dtype[Any]] | None:
        """Channels and type of samples that are unpacked here."""
        kind = plain_samples(self._layout)
        if kind is None or not tile_codecs.unpacks(self._compression):
            return None
        good = self._predictor == tile_codecs.PLAIN or (
            self._compression != tile_codecs.NONE
            and self._predictor == (tile_codecs.FLOATING if kind[1].kind == "f" else tile_codecs.HORIZONTAL)
        )
        return kind if good else None

    @property
    def _is_raw(self) -> bool:
        return self._plain is not None and self._compression == tile_codecs.NONE

    def _stored_unit(self, bits: int, named: int) -> Size:
        unit = self._layout.unit
        if self._layout.tiled or not self._is_raw:
            return unit
        row_bytes = max(1, unit.width * bits * (self._layout.number(tiff_header.SAMPLES, 1) // named) // 8)
        return Size(unit.width, min(unit.height, max(1, _ROWS_BYTES // row_bytes)))

    def _place(self, column: int, row: int) -> Region:
        """A tile's part of the picture; of what is stored apart, columns and rows behind the picture are not seen."""
        size = self._layout.size
        left, top = column * self._unit.width, row * self._unit.height
        return Region(left, top, min(self._unit.width, size.width - left), min(self._unit.height, size.height - top))

    def _look(self) -> Raster:
        """The kind of pixels, told by the first tile, or by the tags alone where pixels are plain."""
        size = oriented(self._layout.size, self._turn)
        if self._plain is not None:
            channels, dtype = self._plain
            native = dtype.newbyteorder("=")
            _, icc = self._managed(np.zeros((1, 1) if channels == 1 else (1, 1, channels), native))
            return Raster(size, channels, native, icc)
        first, icc = self._by_whole(0)
        return Raster(size, 1 if first.ndim == 2 else first.shape[2], first.dtype, icc)

    def _part(self, column: int, row: int, place: Region, part: Region) -> NDArray[Any]:
        if self._is_raw and (self._source.near or not self._layout.tiled):
            found = self._raw_tile(column, row, place, part) if self._layout.tiled else self._raw_rows(part)
            return self._managed(found)[0]
        number = row * self._layout.grid.width + column
        tile = self._cache.get(number, lambda: self._tile(number, place))
        return part.of(tile, place)

    def _tile(self, number: int, place: Region) -> NDArray[Any]:
        """Decoded pixels of a tile, without those behind the picture."""
        try:
            found = self._unpacked(number) if self._plain else self._jpeg(number)
            tile = self._by_whole(number)[0] if found is None else self._managed(found)[0]
        except tile_codecs.Unpackable as error:
            corrupt("TIFF", f"{self._layout.name(number)} can't be unpacked ({error})")
        if tile.shape[0] < place.height or tile.shape[1] < place.width or tile.shape[2:] != self._shape_behind:
            corrupt("TIFF", f"{self._layout.name(number)} has other pixels than the rest")
        cut = np.ascontiguousarray(tile[: place.height, : place.width])
        cut.flags.writeable = False
        return cut

    @functools.cached_property
    def _shape_behind(self) -> tuple[int, ...]:
        return () if self._raster.channels == 1 else (self._raster.channels,)

    def _rows_of(self, number: int) -> int:
        """Rows that are stored: a tile is whole always, the last strip may be shorter."""
        layout = self._layout
        return (
            layout.unit.height
            if layout.tiled
            else min(layout.unit.height, layout.size.height - number * layout.unit.height)
        )

    def _packed(self, number: int, plane: int = 0) -> bytes:
        start, length = int(self._layout.starts[plane, number]), int(self._layout.lengths[plane, number])
        bits = sum(self._layout.numbers(tiff_header.BITS) or (1,)) * self._layout.unit.pixels
        if length > 2 * (bits // 8) + _SLACK:
            corrupt("TIFF", f"{self._layout.name(number)} claims {length:,} bytes, more than its pixels can take")
        return self._source.read_at(start, length)

    def _unpacked(self, number: int) -> NDArray[Any]:
        assert self._plain is not None
        channels, dtype = self._plain
        shape: tuple[int, ...] = (self._rows_of(number), self._layout.unit.width)
        shape = shape if channels == 1 else (*shape, channels)
        length = int(np.prod(shape)) * dtype.itemsize
        data = tile_codecs.unpack(self._packed(number), self._compression, length)
        return tile_codecs.without_differences(data, shape, dtype, self._predictor)

    def _jpeg(self, number: int) -> NDArray[Any] | None:
        """Of a tile that is a common JPEG of its own; None for any other, which the decoder of whole images knows."""
        layout = self._layout
        space = _JPEG_SPACES.get((layout.number(tiff_header.SAMPLES, 1), layout.number(tiff_header.PHOTOMETRIC, -1)))
        if self._compression != tile_codecs.JPEG or space is None or layout.starts.shape[0] > 1:
            return None
        data = self._packed(number)
        # With this marker there is no doubt about its color space; without tables of its own it would not decode.
        if _JPEG_TABLES in layout.tags or data[:4] != b"\xff\xd8\xff\xe0":
            return None
        try:
            height, width, stored, _ = simplejpeg.decode_jpeg_header(data)
            if (height, width) != (self._rows_of(number), layout.unit.width) or (stored == "Gray") != (space == "GRAY"):
                return None
            pixels = simplejpeg.decode_jpeg(data, space)
        except ValueError as error:
            raise tile_codecs.Unpackable(str(error)) from error
        return pixels[..., 0] if space == "GRAY" else pixels

    def _raw_tile(self, column: int, row: int, place: Region, part: Region) -> NDArray[Any]:
        """Of a tile that is not packed, the rows that are needed."""
        assert self._plain is not None
        channels, dtype = self._plain
        number = row * self._layout.grid.width + column
        row_bytes = self._layout.unit.width * channels * dtype.itemsize
        skipped = (part.top - place.top) * row_bytes
        if int(self._layout.lengths[0, number]) < self._layout.unit.height * row_bytes:
            corrupt("TIFF", f"{self._layout.name(number)} is shorter than its pixels")
        data = self._source.read_at(int(self._layout.starts[0, number]) + skipped, part.height * row_bytes)
        rows = np.frombuffer(data, dtype).reshape(part.height, self._layout.unit.width, channels)
        left = part.left - place.left
        found = rows[:, left : left + part.width].astype(dtype.newbyteorder("="), copy=False)
        return found[..., 0] if channels == 1 else found

    def _raw_rows(self, part: Region) -> NDArray[Any]:
        """Of strips that are not packed, the columns that are needed of each row; whole rows in one read a strip."""
        assert self._plain is not None
        channels, dtype = self._plain
        layout = self._layout
        pixel = channels * dtype.itemsize
        row_bytes = layout.unit.width * pixel
        narrow = self._source.near and part.width * 4 < layout.unit.width
        found = np.empty((part.height, part.width * pixel), np.uint8)
        row = part.top
        while row < part.bottom:
            strip, inside = divmod(row, layout.unit.height)
            rows = 1 if narrow else min(part.bottom - row, layout.unit.height - inside)
            if int(layout.lengths[0, strip]) < (inside + rows) * row_bytes:
                corrupt("TIFF", f"{layout.name(strip)} is shorter than its pixels")
            at = int(layout.starts[0, strip]) + inside * row_bytes
            if narrow:
                data = self._source.read_at(at + part.left * pixel, part.width * pixel)
                found[row - part.top] = np.frombuffer(data, np.uint8)
            else:
                whole = np.frombuffer(self._source.read_at(at, rows * row_bytes), np.uint8).reshape(rows, -1)
                found[row - part.top : row - part.top + rows] = whole[:, part.left * pixel : part.right * pixel]
            row += rows
        pixels = found.view(dtype).astype(dtype.newbyteorder("="), copy=False)
        return pixels if channels == 1 else pixels.reshape(part.height, part.width, channels)

    def _managed(self, pixels: NDArray[Any]) -> tuple[NDArray[Any], bytes | None]:
        """In sRGB, or with the profile that is kept: as whole images are."""
        space: color.Space = "gray" if pixels.ndim == 2 else "rgb"
        if pixels.dtype == np.uint8:
            return color.managed(pixels, self._layout.profile, space, keep=self._need.icc)
        return pixels, color.profile_kept(self._layout.profile, space, keep=self._need.icc)

    def _by_whole(self, number: int) -> tuple[NDArray[Any], bytes | None]:
        """Of any tile, by the decoder of whole images, to which it is a TIFF of its own."""
        layout = self._layout
        parts = [self._packed(number, plane) for plane in range(layout.starts.shape[0])]
        rows, places = self._rows_of(number), [8 + sum(map(len, parts[:plane])) for plane in range(len(parts))]
        at, length = (
            (tiff_header.TILE_OFFSETS, tiff_header.TILE_SIZES)
            if layout.tiled
            else (tiff_header.STRIP_OFFSETS, tiff_header.STRIP_SIZES)
        )
        tags = {tag: blob for tag, blob in layout.tags.items() if tag in tiff_header.NEEDED or tag == tiff_header.ICC}
        sides = {tiff_header.WIDTH: layout.unit.width, tiff_header.HEIGHT: rows}
        sides |= {TILE_WIDTH: layout.unit.width, TILE_HEIGHT: rows} if layout.tiled else {ROWS_PER_STRIP: rows}
        tags |= {tag: _longs(layout.order, value) for tag, value in sides.items()}
        tags |= {at: _longs(layout.order, *places), length: _longs(layout.order, *map(len, parts))}
        start = (b"II" if layout.order == "<" else b"MM") + struct.pack(layout.order + "HI", 42, 0)
        alone = tiff_header.with_directory(b"".join((start, *parts)), layout.order, False, tags)
        try:
            header: Header = tiff_header.read(alone)
            return decode_tiff.read(alone, header, self._need)
        except CorruptImage as error:
            raise CorruptImage(
                f"{error.detail} It is {layout.name(number)} that can't be read.", format="tiff"
            ) from error


def _longs(order: str, *numbers: int) -> tuple[int, int, bytes]:
    return 4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)
