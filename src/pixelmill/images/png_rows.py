"""Inflates the rows of a PNG and checks them, so that what is behind gets nothing to stumble over.

For 16-bit files, which libpng (in OpenCV) unfilters: it prints its errors, and can't be told not to. Rows are inflated
once, here, to the length that the header names and no further, and passed on stored. Sources: PNG specification, third
edition, 8.1 (interlacing), 9.2 (filter types), 10.1 (compression).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from pixelmill.images.header import Header, PngFacts, corrupt
from pixelmill.images.image import Size

HEADER_END = 33
"""Offset behind the signature and the IHDR chunk."""

_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_FILTERS = 5
# Of each pass of Adam7: first column and row, and steps across and down.
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def passes(size: Size, interlaced: bool) -> Iterator[Size]:
    """The sizes of the pictures that the rows make, one after the other; empty ones are not stored."""
    if not interlaced:
        yield size
        return
    for left, top, across, down in _ADAM7:
        part = Size(-(-(size.width - left) // across), -(-(size.height - top) // down))
        if part.width > 0 and part.height > 0:
            yield part


def unpack(header: Header, plain: bytes) -> bytes:
    """The rows, each behind its filter byte, of a PNG that has critical chunks only."""
    facts, info = header.facts, header.info
    assert isinstance(facts, PngFacts)
    bits = _SAMPLES[facts.color_type] * info.depth
    parts = [(part.height, 1 + -(-part.width * bits // 8)) for part in passes(info.stored_size, facts.interlaced)]
    total = sum(count * length for count, length in parts)
    inflate = zlib.decompressobj()
    try:
        rows = inflate.decompress(b"".join(_idat(plain)), total)
        if not inflate.eof:  # the check sum of the stream stands behind its last byte
            inflate.decompress(inflate.unconsumed_tail, 1)
    except zlib.error as error:
        corrupt("PNG", f"its pixels can't be unpacked ({error})")
    if len(rows) < total:
        corrupt("PNG", "it ends before the picture does")
    at = 0
    for count, length in parts:
        filters = np.frombuffer(rows, np.uint8, count * length, at).reshape(count, length)[:, 0]
        if filters.max() >= _FILTERS:
            corrupt("PNG", "a row is filtered in a way that does not exist")
        at += count * length
    return rows


def pack(head: bytes, rows: bytes) -> bytes:
    """A PNG of signature and IHDR, and rows, stored without compression."""
    body = b"IDAT" + zlib.compress(rows, 0)
    checksum = struct.pack(">I", zlib.crc32(body))
    return b"".join((head, struct.pack(">I", len(body) - 4), body, checksum, _END))


_END = b"\0\0\0\0IEND\xaeB`\x82"


def _idat(plain: bytes) -> Iterator[memoryview]:
    view = memoryview(plain)
    at = HEADER_END
    while at + 12 <= len(plain):
        length, kind = struct.unpack_from(">I4s", plain, at)
        if kind == b"IDAT":
            yield view[at + 8 : at + 8 + length]
        at += 12 + length
