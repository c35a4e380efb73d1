"""The rows of a large PNG, some at a time: inflated as they come, and made pixels by the decoder of whole images.

Each band is handed to that decoder as a small PNG of its own. Its first row may be coded as a difference to the row
above, so the band is unfiltered with that row before it, as plain bytes. Check sums are compared as in whole images. An
interlaced PNG has no rows until it is whole. Sources: PNG specification, third edition, sections 5, 9 and 10.
"""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images import decode_png, exif, png_header
from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.header import Header, PngFacts, corrupt, oriented
from pixelmill.images.image import Need, Size
from pixelmill.images.region_rows import band_rows

_HEAD_BYTES = 16 << 20
"""What may stand before the pixels: a profile, text, a palette."""
_PIECE = 1 << 20
_MAX_CHUNKS = 500_000
_SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CRITICAL = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND"})
_END = b"\0\0\0\0IEND\xaeB`\x82"


class PngRows:
    """The header of a PNG, and its rows as often as they are asked for. It does not own ``source``."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source
        head, self._first = self._until_pixels()
        self.header = _header(head, self._late_turn() if source.near else 1)
        facts = self.header.facts
        assert isinstance(facts, PngFacts)
        self.readable = not facts.interlaced
        for chunk in facts.chunks:
            if not chunk.kind[0] & 0x20 and chunk.kind not in _CRITICAL:
                corrupt("PNG", f"it needs a part ({chunk.kind!r}) that no reader of the standard knows")
        # A band is a file with the same parts before its pixels, but for the height in its header.
        self._parts = b"".join(
            head[chunk.start - 8 : chunk.start + chunk.length + 4]
            for chunk in facts.chunks
            if chunk.kind in (b"PLTE", b"tRNS", b"iCCP")
        )
        size, depth = self.header.info.stored_size, self.header.info.depth
        bits = _SAMPLES[facts.color_type] * depth
        self._row, self._pixel = -(-size.width * bits // 8), max(1, bits // 8)
        # Palettes and bits become bytes.
        self._rows, self._color_type = band_rows(max(self._row, size.width * 4)), facts.color_type

    def bands(self, need: Need) -> Iterator[NDArray[Any]]:
        """Stored pixels in sRGB, or with the profile kept, from the top."""
        above = bytes(self._row)
        left = self.header.info.stored_size.height
        filtered = self._inflated()
        for data in filtered:
            raw = self._unfiltered(above, data)
            above = raw[-1].tobytes()
            yield self._pixels(raw, need)[0]
            left -= len(raw)
        if left:
            corrupt("PNG", "it ends before the picture does")

    def look(self, need: Need) -> tuple[NDArray[Any], bytes | None]:
        """One black row as it would be decoded, and the profile that is kept."""
        return self._pixels(np.zeros((1, self._row), np.uint8), need)

    def _until_pixels(self) -> tuple[bytes, int]:
        """What stands before the first IDAT chunk, closed as a file of no pixels; and the place of that chunk."""
        at, parts = 8, [self._source.read_at(0, 8)]
        length, kind = self._chunk(at)
        while kind != b"IDAT":
            if kind == b"IEND" or at + length > _HEAD_BYTES:
                corrupt("PNG", "there are no pixels in it")
            parts.append(self._source.read_at(at, length + 12))
            at += length + 12
            length, kind = self._chunk(at)
        return b"".join(parts) + struct.pack(">I4sI", 0, b"IDAT", zlib.crc32(b"IDAT")) + _END, at

    def _chunk(self, at: int) -> tuple[int, bytes]:
        if at + 12 > self._source.size:
            corrupt("PNG", "it ends before the picture does")
        length, kind = struct.unpack(">I4s", self._source.read_at(at, 8))
        if at + 12 + length > self._source.size:
            corrupt("PNG", "it ends before the picture does")
        return length, kind

    def _late_turn(self) -> int:
        """The orientation in a chunk behind the pixels; the file is known to have its end then."""
        turn, at, seen = 1, self._first, 0
        length, kind = self._chunk(at)
        while kind != b"IEND":
            if kind == b"eXIf" and length <= _PIECE and turn == 1:
                turn = exif.orientation(self._source.read_at(at + 8, length))
            at, seen = at + length + 12, seen + 1
            if seen > _MAX_CHUNKS:
                corrupt("PNG", f"it has more than {_MAX_CHUNKS:,} chunks")
            length, kind = self._chunk(at)
        return turn

    def _packed(self) -> Iterator[bytes]:
        """The bytes in the IDAT chunks, their check sums compared behind each."""
        at = self._first
        for _ in range(_MAX_CHUNKS):
            length, kind = self._chunk(at)
            if kind != b"IDAT":
                return
            found = zlib.crc32(kind)
            for start in range(0, length, _PIECE):
                data = self._source.read_at(at + 8 + start, min(_PIECE, length - start))
                found = zlib.crc32(data, found)
                yield data
            if struct.unpack(">I", self._source.read_at(at + 8 + length, 4))[0] != found:
                corrupt("PNG", "the check sum of its IDAT chunk is wrong")
            at += length + 12

    def _inflated(self) -> Iterator[bytes]:
        """Rows behind their filter bytes, some at a time."""
        inflate = zlib.decompressobj()
        step, wanted = (self._row + 1) * self._rows, (self._row + 1) * self.header.info.stored_size.height
        held, last = bytearray(), b""
        try:
            for data in itertools.chain(self._packed(), [b""]):  # at last, what the library still holds back
                rest = data
                while wanted and (rest or not data):
                    more = inflate.decompress(rest, step)
                    rest = inflate.unconsumed_tail
                    held += more
                    while len(held) >= min(step, wanted) > 0:
                        part = bytes(held[: min(step, wanted)])
                        del held[: len(part)]
                        wanted -= len(part)
                        if wanted:
                            yield part
                        else:
                            last = part
                    if inflate.eof or not (more or rest):
                        break
                # What follows the last row is the check sum of all; chunks are read on for theirs, and only then it
                # is given out.
                if not wanted and not inflate.eof:
                    inflate.decompress(rest, 1)
        except zlib.error as error:
            corrupt("PNG", f"its pixels can't be unpacked ({error})")
        if last:
            yield last

    def _unfiltered(self, above: bytes, rows: bytes) -> NDArray[np.uint8]:
        """``rows×bytes`` of rows that are coded by filters, ``above`` being the bytes of the row before them."""
        height = len(rows) // (self._row + 1)
        filters = np.frombuffer(rows, np.uint8).reshape(height, -1)[:, 0]
        if filters.max(initial=0) > 4:
            corrupt("PNG", "a row has a filter that does not exist")
        if not filters.any():
            return np.frombuffer(rows, np.uint8).reshape(height, -1)[:, 1:]
        # The kind whose pixels are as long as ours: filters know bytes and the distance of neighbors alone.
        depth = 16 if self._pixel in (6, 8) else 8
        kind = {1: 0, 2: 4, 3: 2, 4: 6, 6: 2, 8: 6}[self._pixel]
        plain = _file(Size(self._row // self._pixel, height + 1), depth, kind, b"", b"\0" + above + rows)
        if depth == 16:
            pixels = cv2.imdecode(np.frombuffer(plain, np.uint8), cv2.IMREAD_UNCHANGED)
            pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB if kind == 2 else cv2.COLOR_BGRA2RGBA)
            raw = pixels.astype(">u2").view(np.uint8)
        else:
            raw = _by_pillow(plain)
        return raw.reshape(height + 1, self._row)[1:]

    def _pixels(self, raw: NDArray[np.uint8], need: Need) -> tuple[NDArray[Any], bytes | None]:
        info = self.header.info
        rows = np.zeros((len(raw), self._row + 1), np.uint8)
        rows[:, 1:] = raw
        size = Size(info.stored_size.width, len(raw))
        band = _file(size, info.depth, self._color_type, self._parts, rows.tobytes())
        return decode_png.read(band, png_header.read(band), need)


def _header(head: bytes, late_turn: int) -> Header:
    header = png_header.read(head)
    info = header.info
    if info.orientation == 1 and late_turn != 1:
        info = replace(info, orientation=late_turn, size=oriented(info.stored_size, late_turn))
    return Header(info, header.facts)


def _file(size: Size, depth: int, color_type: int, parts: bytes, rows: bytes) -> bytes:
    """A PNG of rows that stand behind their filter bytes; they are stored, not packed."""
    start = struct.pack(">IIBBBBB", size.width, size.height, depth, color_type, 0, 0, 0)
    chunks = [_chunk(b"IHDR", start), parts, _chunk(b"IDAT", zlib.compress(rows, 0)), _END]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _by_pillow(plain: bytes) -> NDArray[np.uint8]:
    from PIL.PngImagePlugin import PngImageFile

    with PngImageFile(io.BytesIO(plain)) as picture:
        return np.array(picture)
