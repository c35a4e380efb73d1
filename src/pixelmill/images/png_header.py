"""Reads the header of a PNG: size, color type, depth, orientation, profile, frames.

One walk over the chunks, without a pixel; check sums are compared only when pixels are read (``decode_png.py``).
Source: PNG specification, third edition, sections 5 and 11.
"""

from __future__ import annotations

import struct
import zlib

from pixelmill.images import exif
from pixelmill.images.formats import PNG, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, PngChunk, PngFacts, corrupt, oriented
from pixelmill.images.image import ImageInfo, Size

_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_MODES = {0: "gray", 2: "rgb", 3: "palette", 4: "rgba", 6: "rgba"}
_MAX_CHUNKS = 500_000  # a file of 100 MB in the chunks of 8 kB that libpng writes has 12,000
_MAX_SIDE = 2**31 - 1


def read(data: Data) -> Header:
    """The header of PNG bytes; raises :class:`CorruptImage`."""
    if len(data) < 33 or bytes(data[8:16]) != b"\0\0\0\rIHDR":
        corrupt("PNG", "it does not start with a whole IHDR chunk")
    width, height, depth, color_type, compression, filtering, interlace = struct.unpack_from(">IIBBBBB", data, 16)
    if zlib.crc32(data[12:29]) != struct.unpack_from(">I", data, 29)[0]:
        corrupt("PNG", "the check sum of its header is wrong")
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        corrupt("PNG", f"its header gives the size {width}×{height}")
    if depth not in _DEPTHS.get(color_type, ()):
        corrupt("PNG", f"color type {color_type} with {depth} bits a sample does not exist")
    if compression or filtering or interlace > 1:
        corrupt("PNG", "its header names a compression, filter or interlace method that does not exist")
    chunks, complete = _walk(data)
    before_pixels: dict[bytes, PngChunk] = {}
    for chunk in chunks:
        if chunk.kind == b"IDAT":
            break
        before_pixels.setdefault(chunk.kind, chunk)
    stored = Size(width, height)
    turn = _orientation(data, chunks)
    info = ImageInfo(
        format=PNG.name,
        media_type=PNG.media_type,
        size=oriented(stored, turn),
        stored_size=stored,
        mode=_MODES[color_type],
        depth=depth,
        has_alpha=color_type in (4, 6) or b"tRNS" in before_pixels,
        orientation=turn,
        frames=_frames(data, before_pixels.get(b"acTL")),
        has_icc=b"iCCP" in before_pixels,
        bytes=len(data),
    )
    return Header(info, PngFacts(color_type, bool(interlace), chunks, complete))


def _walk(data: Data) -> tuple[tuple[PngChunk, ...], bool]:
    """The chunks that are wholly there, and whether the last is IEND."""
    chunks: list[PngChunk] = []
    at, size = 8, len(data)
    unpack = struct.Struct(">I4s").unpack_from
    while at + 12 <= size:
        length, kind = unpack(data, at)
        if at + 12 + length > size:
            break
        chunks.append(PngChunk(kind, at + 8, length))
        if kind == b"IEND":
            return tuple(chunks), True
        if len(chunks) > _MAX_CHUNKS:
            corrupt("PNG", f"it has more than {_MAX_CHUNKS:,} chunks")
        at += 12 + length
    return tuple(chunks), False


def _orientation(data: Data, chunks: tuple[PngChunk, ...]) -> int:
    for chunk in chunks:
        if chunk.kind == b"eXIf":
            return exif.orientation(data[chunk.start : chunk.start + chunk.length])
    return 1


def _frames(data: Data, control: PngChunk | None) -> int:
    """The number of frames that acTL names; 1 where there is none."""
    if control is None or control.length != 8:
        return 1
    (frames,) = struct.unpack_from(">I", data, control.start)
    return max(1, int(frames))


def profile(data: Data, facts: PngFacts) -> bytes | None:
    """The ICC profile, inflated; None where there is none, or it is broken or too large."""
    for chunk in facts.chunks:
        if chunk.kind == b"IDAT":
            return None
        if chunk.kind == b"iCCP":
            body = bytes(data[chunk.start : chunk.start + chunk.length])
            name, _, packed = body.partition(b"\0")
            if len(name) > 79 or packed[:1] != b"\0":
                return None
            inflate = zlib.decompressobj()
            try:
                whole = inflate.decompress(packed[1:], MAX_ICC_BYTES)
            except zlib.error:
                return None
            return whole if inflate.eof else None
    return None
