"""Where the tiles or strips of a TIFF lie, read from its directories by ranges: the file may be larger than memory.

Every count and place is checked against the length of the file before it is followed. Nothing is decoded here.
Sources: TIFF 6.0; the BigTIFF design; Adobe's TIFF technical note 1 (trees of directories).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import LimitExceeded, UnsupportedFormat
from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.header import MAX_ICC_BYTES, corrupt, no_such_frame
from pixelmill.images.image import Size
from pixelmill.images.region_grid import MAX_UNITS
from pixelmill.images.tiff_header import (
    BITS,
    COMPRESSION,
    HEIGHT,
    ICC,
    NEEDED,
    ORIENTATION,
    PHOTOMETRIC,
    PLANAR,
    SAMPLES,
    STRIP_OFFSETS,
    STRIP_SIZES,
    SUBFILE,
    TILE_OFFSETS,
    TILE_SIZES,
    TYPE_SIZES,
    WHOLE_TYPES,
    WIDTH,
)

ROWS_PER_STRIP, TILE_WIDTH, TILE_HEIGHT, SUB_DIRECTORIES = 278, 322, 323, 330
_PLACES = frozenset({STRIP_OFFSETS, STRIP_SIZES, TILE_OFFSETS, TILE_SIZES})
_KEPT = NEEDED | {SUBFILE, ORIENTATION, ICC, SUB_DIRECTORIES}
_MAX_ENTRIES = 4_096
_MAX_DIRECTORIES = 65_536
_MAX_TAG_BYTES = 1 << 20  # of what is neither a place nor a profile: palettes of 16 bits are 393 kB
_APART = 2
_REDUCED, _MASK = 1, 4
_KINDS = {**WHOLE_TYPES, 18: "Q"}  # and places of directories in a BigTIFF

Blob = tuple[int, int, bytes]
"""Type, count and bytes of a tag, as :func:`tiff_header.with_directory` takes it."""


@dataclass(frozen=True, slots=True)
class Layout:
    """One picture of a TIFF. Of planes that are stored apart, ``starts`` and ``lengths`` have one row each.

    ``unit`` is the size of a tile; of strips it is the picture's width and the rows of one.
    """

    order: str
    size: Size
    unit: Size
    tiled: bool
    starts: NDArray[np.uint64]
    lengths: NDArray[np.uint64]
    tags: Mapping[int, Blob]

    @property
    def grid(self) -> Size:
        """Tiles across and down."""
        return Size(-(-self.size.width // self.unit.width), -(-self.size.height // self.unit.height))

    def numbers(self, tag: int) -> tuple[int, ...]:
        """The whole numbers of a tag; empty where it is missing or holds something else."""
        return _numbers(self.order, self.tags.get(tag))

    def number(self, tag: int, default: int) -> int:
        """The first of them, or the default."""
        return next(iter(self.numbers(tag)), default)

    @property
    def profile(self) -> bytes | None:
        """The ICC profile; None where there is none, or it is too large."""
        return self.tags[ICC][2] if ICC in self.tags else None

    @property
    def orientation(self) -> int:
        """1 to 8."""
        turn = self.number(ORIENTATION, 1)
        return turn if 1 <= turn <= 8 else 1

    def name(self, tile: int) -> str:
        """A tile for people."""
        if not self.tiled:
            return f"strip {tile:,}"
        return f"the tile in column {tile % self.grid.width:,} of row {tile // self.grid.width:,}"


def read_layout(source: ByteSource, page: int = 0, level: int = 0) -> Layout:
    """The layout of a page, or of one of its smaller copies (``level`` 1, 2 …, in the order of the file).

    Raises :class:`CorruptImage`, :class:`UnsupportedFormat`, :class:`LimitExceeded`, and :class:`NotApplicable` for a
    page or a level that is not there.
    """
    reader = _Directories(source)
    pages = -1
    found: dict[int, Blob] | None = None
    smaller: list[dict[int, Blob]] = []
    for tags in reader.chain():
        kind = next(iter(_numbers(reader.order, tags.get(SUBFILE))), 0)
        if kind & _MASK:
            continue
        if kind & _REDUCED and pages >= 0:
            smaller += [tags] if found is not None else []
        elif found is not None:
            break  # what follows belongs to another page
        else:
            pages += 1
            found = tags if pages == page else None
        if found is not None and (len(smaller) >= level or SUB_DIRECTORIES in found):
            break
    if found is None:
        raise no_such_frame("tiff", page, pages + 1)
    if level:
        places = _numbers(reader.order, found.get(SUB_DIRECTORIES))
        smaller = [reader.directory(at)[0] for at in places[:64]] or smaller
        if level > len(smaller):
            raise no_such_frame("tiff, levels", level, len(smaller) + 1)
        found = smaller[level - 1]
    return reader.layout(found)


class _Directories:
    """The directories of one file."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        head = source.read_at(0, min(16, source.size))
        self.order = "<" if head[:2] == b"II" else ">"
        try:
            (version,) = struct.unpack_from(self.order + "H", head, 2)
            self._big = version == 43
            if self._big and head[4:8] != struct.pack(self.order + "HH", 8, 0):
                corrupt("TIFF", "its header is not that of a BigTIFF")
            (self._first,) = struct.unpack_from(self.order + ("Q" if self._big else "I"), head, 8 if self._big else 4)
        except struct.error:
            corrupt("TIFF", "it ends within its header")

    def chain(self) -> Iterator[dict[int, Blob]]:
        """The tags of each directory; a chain that loops ends there."""
        seen, at = set[int](), self._first
        while at and at not in seen and len(seen) < _MAX_DIRECTORIES:
            seen.add(at)
            tags, at = self.directory(at)
            yield tags
        if not seen:
            corrupt("TIFF", "it names no directory")

    def directory(self, at: int) -> tuple[dict[int, Blob], int]:
        """The tags that pixels need of the directory at ``at``, and the place of the next one (0: none)."""
        head, step, inline = (8, 20, 8) if self._big else (2, 12, 4)
        wide = "Q" if self._big else "I"
        if at < 8 or at + head > self._source.size:
            corrupt("TIFF", "it ends before the directory of its picture")
        (count,) = struct.unpack(self.order + ("Q" if self._big else "H"), self._source.read_at(at, head))
        if not 0 < count <= _MAX_ENTRIES or at + head + step * count > self._source.size:
            corrupt("TIFF", "the directory of its picture is not whole")
        entries = self._source.read_at(at + head, step * count)
        tags: dict[int, Blob] = {}
        for place in range(0, len(entries), step):
            tag, kind, number = struct.unpack_from(f"{self.order}HH{wide}", entries, place)
            if tag not in _KEPT or tag in tags:
                continue
            length = number * TYPE_SIZES.get(kind, 0)
            if length <= inline:
                blob: bytes | None = entries[place + step - inline : place + step - inline + length]
            else:
                (start,) = struct.unpack_from(self.order + wide, entries, place + step - inline)
                blob = self._blob(tag, start, length)
            if blob:
                tags[tag] = (kind, number, blob)
            elif tag in NEEDED:
                corrupt("TIFF", f"tag {tag} of its picture lies outside of the file")
        end = at + head + step * count
        last = end + inline > self._source.size
        following = 0 if last else struct.unpack(self.order + wide, self._source.read_at(end, inline))[0]
        return tags, int(following)

    def _blob(self, tag: int, start: int, length: int) -> bytes | None:
        most = MAX_UNITS * 8 if tag in _PLACES else MAX_ICC_BYTES if tag == ICC else _MAX_TAG_BYTES
        if start + length > self._source.size:
            return None
        if length > most:
            if tag not in NEEDED:
                return None
            raise LimitExceeded(
                f"Tag {tag} of the TIFF has {length:,} bytes; up to {most:,} are read. Use larger tiles.",
                limit="bytes of a tag",
                value=length,
                maximum=most,
            )
        return self._source.read_at(start, length)

    def layout(self, tags: dict[int, Blob]) -> Layout:
        """The checked layout of a directory."""

        def one(tag: int, default: int) -> int:
            return next(iter(_numbers(self.order, tags.get(tag))), default)

        size = Size(one(WIDTH, 0), one(HEIGHT, 0))
        if min(size) < 1:
            corrupt("TIFF", f"its header gives the size {size.width}×{size.height}")
        tiled = TILE_OFFSETS in tags
        if not tiled and STRIP_OFFSETS not in tags:
            corrupt("TIFF", "there are no pixels in it")
        rows = min(one(ROWS_PER_STRIP, size.height), size.height)
        unit = Size(one(TILE_WIDTH, 0), one(TILE_HEIGHT, 0)) if tiled else Size(size.width, rows)
        if min(unit) < 1:
            corrupt("TIFF", f"its tiles are of the size {unit.width}×{unit.height}")
        samples = one(SAMPLES, 1)
        if samples < 1:
            corrupt("TIFF", "its pixels have no samples")
        planes = samples if one(PLANAR, 1) == _APART and samples > 1 else 1
        grid = Size(-(-size.width // unit.width), -(-size.height // unit.height))
        starts = self._places(tags.pop(TILE_OFFSETS if tiled else STRIP_OFFSETS))
        lengths = self._lengths(tags, tiled, size, starts)
        if len(starts) != len(lengths) or len(starts) != grid.pixels * planes:
            corrupt(
                "TIFF",
                f"{grid.pixels * planes:,} tiles or strips make its picture, and it has {len(starts):,} places and "
                f"{len(lengths):,} lengths of such",
            )
        kept = {tag: _narrow(self.order, tag, blob) for tag, blob in tags.items() if tag not in _PLACES}
        shape = (planes, grid.pixels)
        found = Layout(self.order, size, unit, tiled, starts.reshape(shape), lengths.reshape(shape), kept)
        self._check_places(found)
        return found

    def _lengths(
        self, tags: dict[int, Blob], tiled: bool, size: Size, starts: NDArray[np.uint64]
    ) -> NDArray[np.uint64]:
        given = tags.pop(TILE_SIZES if tiled else STRIP_SIZES, None)
        if given is not None:
            return self._places(given)
        if tiled or len(starts) != 1 or next(iter(_numbers(self.order, tags.get(COMPRESSION))), 1) != 1:
            corrupt("TIFF", "the lengths of its parts are missing")
        # One plain strip of an old writer: as long as its rows are.
        bits = sum(_numbers(self.order, tags.get(BITS)) or (1,))
        return np.array([size.height * -(-size.width * bits // 8)], np.uint64)

    def _places(self, blob: Blob) -> NDArray[np.uint64]:
        kind, count, data = blob
        if kind not in WHOLE_TYPES:
            corrupt("TIFF", "the places of its parts are no whole numbers")
        if count > MAX_UNITS:
            raise LimitExceeded(
                f"The TIFF has {count:,} tiles or strips; {MAX_UNITS:,} are read. Use larger tiles.",
                limit="tiles",
                value=count,
                maximum=MAX_UNITS,
            )
        return np.frombuffer(data, np.dtype(f"{self.order}u{TYPE_SIZES[kind]}"), count).astype(np.uint64)

    def _check_places(self, found: Layout) -> None:
        end = np.uint64(self._source.size)
        outside = (found.lengths > end) | (found.starts > end - np.minimum(found.lengths, end))
        for wrong, why in ((outside, "lies outside of the file"), (found.lengths == 0, "was never written")):
            if wrong.any():
                corrupt("TIFF", f"{found.name(int(np.argmax(wrong.any(axis=0))))} {why}")


def _numbers(order: str, blob: Blob | None) -> tuple[int, ...]:
    if blob is None or blob[0] not in _KINDS:
        return ()
    return struct.unpack_from(f"{order}{blob[1]}{_KINDS[blob[0]]}", blob[2])


def _narrow(order: str, tag: int, blob: Blob) -> Blob:
    """Numbers of 8 bytes as such of 4, which any TIFF can hold."""
    if WHOLE_TYPES.get(blob[0]) != "Q":
        return blob
    numbers = _numbers(order, blob)
    if max(numbers) >= 2**32:
        if tag in NEEDED:
            raise UnsupportedFormat(f"The TIFF has a number too large in tag {tag}.", format="tiff")
        return blob
    return 4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)


def plain_samples(layout: Layout) -> tuple[int, np.dtype[Any]] | None:
    """Channels and type of samples that are pixels as they stand: gray, RGB, or RGB with straight alpha.

    None where anything else must be done to them (palettes, inks, inversion, other depths): whole images know how.
    """
    samples, photometric = layout.number(SAMPLES, 1), layout.number(PHOTOMETRIC, -1)
    bits, kinds = set(layout.numbers(BITS) or (1,)), set(layout.numbers(339) or (1,))
    extra = layout.numbers(338)
    types = {(8, 1): "u1", (16, 1): "u2", (32, 3): "f4"}
    if len(bits) != 1 or len(kinds) != 1 or layout.number(266, 1) != 1 or layout.starts.shape[0] != 1:
        return None
    name = types.get((bits.pop(), kinds.pop()))
    gray = photometric == 1 and samples == 1
    color = photometric == 2 and (samples == 3 or (samples == 4 and extra == (2,)))
    if name is None or not (gray or color) or (samples != 4 and extra):
        return None
    return samples, np.dtype(f"{layout.order}{name}")
