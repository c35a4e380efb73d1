"""The rows of a large JPEG, some at a time, by libvips (an extra): libjpeg-turbo behind it gives the same pixels.

libvips is asked for rows in order and keeps few of them; every warning of the library is an error. A progressive file
has no rows until all of it was read: its coefficients are in memory then, which ``limits`` bound. No CMYK is read.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import PixelmillError
from pixelmill.images import color, extras, jpeg_header
from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.header import Header, JpegFacts, corrupt
from pixelmill.images.image import Need, Size
from pixelmill.images.limits import RegionLimits
from pixelmill.images.region_rows import BAND_ROWS

_HEAD_BYTES = 16 << 20
_PROGRESSIVE = frozenset({0xC2, 0xCA})
_SEQUENTIAL = frozenset({0xC0, 0xC1})
_COEFFICIENT = 2  # bytes


class JpegRows:
    """The header of a JPEG, and its rows as often as they are asked for. It does not own ``source``."""

    def __init__(self, source: ByteSource, limits: RegionLimits) -> None:
        self._source = source
        self._head = source.read_at(0, min(source.size, _HEAD_BYTES))
        self.header: Header = jpeg_header.read(self._head)
        facts = self.header.facts
        assert isinstance(facts, JpegFacts)
        self._facts = facts
        info = self.header.info
        self.readable = (
            facts.color in ("gray", "ycbcr", "rgb") and info.depth == 8 and facts.frame in _PROGRESSIVE | _SEQUENTIAL
        )
        if facts.frame in _PROGRESSIVE:
            limits.check_unit(info.stored_size.pixels * facts.components * _COEFFICIENT, "A progressive JPEG")

    def bands(self, need: Need) -> Iterator[NDArray[Any]]:
        """Stored pixels in sRGB, or with the profile kept, from the top."""
        vips = extras.for_tiles("pyvips")
        vips.cache_set_max(0)  # it would hold on to pictures that were read, and their sources
        reading = _Reading(self._source)
        size = self.header.info.stored_size
        try:
            picture = vips.Image.new_from_source(reading.source(vips), "", access="sequential", fail_on="warning")
            if Size(picture.width, picture.height) != size or picture.format != "uchar":
                corrupt("JPEG", "its picture is not as large as its header says")
            region = vips.Region.new(picture)
            for top in range(0, size.height, BAND_ROWS):
                rows = min(BAND_ROWS, size.height - top)
                data = region.fetch(0, top, size.width, rows)
                shape = (rows, size.width) if picture.bands == 1 else (rows, size.width, picture.bands)
                yield self._managed(np.frombuffer(data, np.uint8).reshape(shape), need)[0]
        except vips.Error as error:
            if reading.failure is not None:
                raise reading.failure from None
            corrupt("JPEG", str(error).replace("\n", " ").strip())

    def look(self, need: Need) -> tuple[NDArray[Any], bytes | None]:
        """One black pixel as it would be decoded, and the profile that is kept."""
        shape = (1, 1) if self._facts.color == "gray" else (1, 1, 3)
        return self._managed(np.zeros(shape, np.uint8), need)

    def _managed(self, pixels: NDArray[Any], need: Need) -> tuple[NDArray[Any], bytes | None]:
        profile = jpeg_header.profile(self._head, self._facts)
        return color.managed(pixels, profile, "gray" if pixels.ndim == 2 else "rgb", keep=need.icc)


class _Reading:
    """A position in a source, as libvips wants one; what reading raises is kept, for libvips does not pass it on."""

    _PIECE = 1 << 20

    def __init__(self, source: ByteSource) -> None:
        self._source, self._at, self._lock = source, 0, threading.Lock()
        self._piece, self._piece_at = b"", 0
        self.failure: PixelmillError | None = None

    def source(self, vips: Any) -> Any:
        """The source of libvips."""
        made = vips.SourceCustom()
        made.on_read(self._read)
        made.on_seek(self._seek)
        return made

    def _read(self, size: int) -> bytes:
        with self._lock:
            offset = self._at - self._piece_at
            if not 0 <= offset < len(self._piece):
                try:
                    left = max(0, self._source.size - self._at)
                    self._piece = self._source.read_at(self._at, min(max(size, self._PIECE), left)) if left else b""
                except PixelmillError as error:
                    self.failure = error
                    self._piece = b""  # libvips takes it for the end of the file
                self._piece_at, offset = self._at, 0
            data = self._piece[offset : offset + size]
            self._at += len(data)
            return data

    def _seek(self, offset: int, whence: int) -> int:
        with self._lock:
            base = {0: 0, 1: self._at, 2: self._source.size}[whence]
            self._at = min(max(0, base + offset), self._source.size)
            return self._at
