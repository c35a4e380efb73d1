"""Writes a PNG or a JPEG by bands: each is packed by the thread that brings it, and appended in its turn.

Of a PNG, every band is a piece of one deflate stream that needs nothing of the pieces before it. Of a JPEG, it is what
stands between two restart markers, and the pixels are those that the picture encoded at once would give. Sources: PNG
specification, third edition, 9 and 10; RFC 1950 (Adler-32), RFC 1951; ITU-T T.81, B.2.4.4 and E.1.4 (restarts).
"""

from __future__ import annotations

import struct
import threading
import zlib
from typing import Any, Protocol

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from pixelmill.errors import NotApplicable, RunError
from pixelmill.images.encode import with_app2, with_iccp
from pixelmill.images.encoders import JpegOptions, PngOptions
from pixelmill.images.formats import JPEG, PNG, Format
from pixelmill.images.image import Size
from pixelmill.images.region_grid import Grid, check_whole
from pixelmill.images.region_results import Result
from pixelmill.images.regions import Raster, Region
from pixelmill.images.samples import color_of_hex, flatten, to_uint8, to_uint16

MAX_EARLY_BYTES = 256 << 20
"""Of packed bands that came before their turn."""
_BAND_BYTES = 1 << 20
_LEAST_ROWS = 64
_ADLER = 65_521
_MCU = {"444": (8, 8), "422": (16, 8), "420": (16, 16)}


class _Coder(Protocol):
    """Makes pieces of a file of bands; ``pack`` by several threads at once, the others in order."""

    rows: int

    def pack(self, pixels: NDArray[Any], last: bool) -> bytes: ...
    def piece(self, number: int, packed: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class BandsWriter:
    """A :class:`RegionWriter` of a file that is made from the top down."""

    in_order = True

    def __init__(self, result: Result, raster: Raster, coder: _Coder) -> None:
        self._result, self._coder = result, coder
        self._grid = Grid(raster.size, Size(raster.size.width, coder.rows))
        self._lock = threading.Lock()
        self._early: dict[int, bytes] = {}
        self._next = 0

    @property
    def unit(self) -> Size:
        """A band: some whole rows."""
        return self._grid.unit

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Pack the bands of a region; those that came before their turn wait in memory."""
        for number, place in self._grid.units(region):
            packed = self._coder.pack(place.of(pixels, region), number + 1 == len(self._grid))
            with self._lock:
                self._early[number] = packed
                while self._next in self._early:
                    self._result.append(self._coder.piece(self._next, self._early.pop(self._next)))
                    self._next += 1
                if sum(map(len, self._early.values())) > MAX_EARLY_BYTES:
                    raise RunError(
                        f"More than {MAX_EARLY_BYTES:,} bytes of the result came before their turn. Write it from the "
                        "top down, or to a TIFF."
                    )

    def finish(self) -> None:
        """End the file, and give it its name."""
        check_whole(self._next, len(self._grid))
        self._result.append(self._coder.end())
        self._result.finish()

    def abort(self) -> None:
        """Take it back."""
        self._early.clear()
        self._result.abort()


class PngBands:
    """The pieces of a PNG."""

    def __init__(self, raster: Raster, options: PngOptions) -> None:
        _check(raster, PNG)
        _refuse("png", options.colors is not None, "a palette of chosen colors")
        self._raster, self._options = raster, options
        self._deep = raster.dtype != np.uint8
        self._pixel = raster.channels * (2 if self._deep else 1)
        row = raster.size.width * self._pixel
        self.rows = max(_LEAST_ROWS, -(-_BAND_BYTES // row))
        self._sum = 1

    def pack(self, pixels: NDArray[Any], last: bool) -> bytes:
        """A piece of the stream, behind the length and the sum of what it was made of."""
        samples = to_uint16(pixels).astype(">u2") if self._deep else pixels
        raw = np.ascontiguousarray(samples).view(np.uint8).reshape(len(pixels), -1)
        rows = filtered(raw, self._pixel, plain=self._options.filter == "none" or self._options.compression == 0)
        packer = zlib.compressobj(self._options.compression, zlib.DEFLATED, -15)
        packed = packer.compress(rows) + packer.flush(zlib.Z_FINISH if last else zlib.Z_FULL_FLUSH)
        return struct.pack(">QI", len(rows), zlib.adler32(rows)) + packed

    def piece(self, number: int, packed: bytes) -> bytes:
        """An IDAT chunk, behind the header in the first one."""
        length, found = struct.unpack_from(">QI", packed)
        self._sum = adler_of_both(self._sum, found, length)
        if number:
            return _chunk(b"IDAT", packed[12:])
        size, kind = self._raster.size, {1: 0, 3: 2, 4: 6}[self._raster.channels]
        header = struct.pack(">IIBBBBB", size.width, size.height, 16 if self._deep else 8, kind, 0, 0, 0)
        start = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
        if self._raster.icc is not None:
            start = with_iccp(start, self._raster.icc)
        return start + _chunk(b"IDAT", b"\x78\x9c" + packed[12:])

    def end(self) -> bytes:
        """The sum of the stream, and the end of the file."""
        return _chunk(b"IDAT", struct.pack(">I", self._sum)) + _chunk(b"IEND", b"")


class JpegBands:
    """The pieces of a JPEG: 8 bits a sample, transparent pixels laid over the background."""

    def __init__(self, raster: Raster, options: JpegOptions) -> None:
        _check(raster, JPEG)
        _refuse("jpeg", options.progressive, "progressive")
        _refuse("jpeg", options.optimize, "optimize")
        _refuse("jpeg", options.max_bytes is not None, "max_bytes")
        self._raster, self._options = raster, options
        across, down = (8, 8) if raster.channels == 1 else _MCU[options.subsampling]
        self._blocks = -(-raster.size.width // across)
        wanted = max(_LEAST_ROWS, _BAND_BYTES // (raster.size.width * raster.channels))
        self._rows_of_blocks = max(1, min(wanted // down, 65_535 // self._blocks))
        self.rows = self._rows_of_blocks * down

    def pack(self, pixels: NDArray[Any], last: bool) -> bytes:  # noqa: ARG002 -- all bands are alike
        """A JPEG of this band."""
        pixels = to_uint8(pixels)
        if pixels.ndim == 3 and pixels.shape[2] == 4:
            pixels = flatten(pixels, color_of_hex(self._options.background))
        pixels = np.ascontiguousarray(pixels)
        if pixels.ndim == 2:
            return bytes(simplejpeg.encode_jpeg(pixels[..., np.newaxis], self._options.quality, "GRAY", "Gray"))
        return bytes(simplejpeg.encode_jpeg(pixels, self._options.quality, "RGB", self._options.subsampling))

    def piece(self, number: int, packed: bytes) -> bytes:
        """What the band has between its header and its end, behind the marker (or the header) before it."""
        frame, scan = _frame_and_scan(packed)
        coded = packed[scan + 2 + struct.unpack_from(">H", packed, scan + 2)[0] : -2]
        if number:
            return bytes((0xFF, 0xD0 + (number - 1) % 8)) + coded
        head = bytearray(packed[: len(packed) - 2 - len(coded)])
        struct.pack_into(">H", head, frame + 5, self._raster.size.height)
        head[scan:scan] = struct.pack(">HHH", 0xFFDD, 4, self._blocks * self._rows_of_blocks)
        return (bytes(head) if self._raster.icc is None else with_app2(bytes(head), self._raster.icc)) + coded

    def end(self) -> bytes:
        """The end marker."""
        return b"\xff\xd9"


def filtered(raw: NDArray[np.uint8], pixel: int, *, plain: bool) -> bytes:
    """Rows of bytes behind their filter bytes: of none, left, above and their mean, the one with the smallest sum.

    The first row is not compared with one above it. ``pixel`` is the number of bytes of one.
    """
    height, width = raw.shape
    out = np.zeros((height, width + 1), np.uint8)
    if plain:
        out[:, 1:] = raw
        return out.tobytes()
    left, above = np.zeros_like(raw), np.zeros_like(raw)
    left[:, pixel:] = raw[:, :-pixel]
    above[1:] = raw[:-1]
    mean = (left & above) + ((left ^ above) >> 1)  # rounded down, without more bits
    best = np.full(height, np.iinfo(np.int64).max)
    for kind, guess in ((0, None), (1, left), (2, above), (3, mean)):
        rest = raw if guess is None else raw - guess
        cost = np.abs(rest.view(np.int8).astype(np.int16)).sum(axis=1, dtype=np.int64)
        if kind > 1:
            cost[0] = np.iinfo(np.int64).max
        better = cost < best
        best[better] = cost[better]
        out[better, 0] = kind
        out[better, 1:] = rest[better]
    return out.tobytes()


def adler_of_both(first: int, second: int, length: int) -> int:
    """The Adler-32 of two strings one behind the other, of theirs and the length of the second.

    >>> adler_of_both(zlib.adler32(b"pixel"), zlib.adler32(b"mill"), 4) == zlib.adler32(b"pixelmill")
    True
    """
    low, high = first & 0xFFFF, first >> 16
    more_low, more_high = second & 0xFFFF, second >> 16
    # Every byte of the second string adds the sum before it once more; both sums began at 1.
    return ((high + more_high + length * (low - 1)) % _ADLER) << 16 | (low + more_low - 1) % _ADLER


def _frame_and_scan(packed: bytes) -> tuple[int, int]:
    """Places of the markers of the frame and of the (only) scan of a JPEG of our own encoder."""
    at, frame = 2, 0
    while packed[at + 1] != 0xDA:
        if 0xC0 <= packed[at + 1] <= 0xC2:
            frame = at
        at += 2 + struct.unpack_from(">H", packed, at + 2)[0]
    return frame, at


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _check(raster: Raster, fmt: Format) -> None:
    if max(raster.size) > fmt.max_side:
        raise NotApplicable(
            f"{fmt.name} holds at most {fmt.max_side:,} pixels a side; the image has "
            f"{raster.size.width:,}×{raster.size.height:,}. Write a TIFF, or resize it.",
            operation="format",
            maximum=fmt.max_side,
        )


def _refuse(name: str, given: bool, what: str) -> None:
    if given:
        raise NotApplicable(
            f"A {name} that is written in parts can't have {what}: it takes the whole image. Leave it out.",
            operation="format",
        )
