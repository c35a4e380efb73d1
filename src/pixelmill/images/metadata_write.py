"""Metadata into the bytes of a file that has none: JPEG, PNG, WebP, AVIF, TIFF; XMP into GIF.

Works on files as ``encode`` writes them, still or animated, and never touches a pixel. What a format can't hold
(``metadata.HOLDS``), or not at that length, is left out. Sources: see ``metadata_read.py``; of AVIF
``metadata_avif.py``.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pixelmill.images import exif_block, iptc, metadata_avif
from pixelmill.images.exif_block import Exif, Value
from pixelmill.images.metadata_read import EXIF_MARK, GIF_XMP, PHOTOSHOP_MARK, PNG_XMP, XMP_MARK, riff_chunks

_MAX_SEGMENT = 65_533
_GIF_TRAILER = bytes((1, *range(255, -1, -1), 0))


@dataclass(frozen=True, slots=True)
class Kept:
    """What is to be written."""

    exif: Exif | None = None
    xmp: bytes | None = None
    iptc: tuple[iptc.Dataset, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.exif or self.xmp or self.iptc)


def write(body: bytes, fmt: str, kept: Kept) -> bytes:
    """The file with the metadata; the same bytes where there is nothing to write, or no place for it."""
    return _WRITERS[fmt](body, kept) if kept and fmt in _WRITERS else body


def _jpeg(body: bytes, kept: Kept) -> bytes:
    at = 2
    if body[2:4] == b"\xff\xe0":
        at = 4 + struct.unpack_from(">H", body, 4)[0]
    segments: list[tuple[int, bytes]] = []
    if kept.exif:
        short = exif_block.fitting(kept.exif, _MAX_SEGMENT - 6)
        if short:
            segments.append((0xE1, EXIF_MARK + b"\0" + exif_block.write(short)))
    if kept.xmp:
        segments.append((0xE1, XMP_MARK + kept.xmp))
    if kept.iptc:
        segments.append((0xED, PHOTOSHOP_MARK + iptc.resource(iptc.write(kept.iptc))))
    parts = [
        b"\xff" + struct.pack(">BH", marker, len(block) + 2) + block
        for marker, block in segments
        if len(block) <= _MAX_SEGMENT
    ]
    return b"".join((body[:at], *parts, body[at:]))


def _png(body: bytes, kept: Kept) -> bytes:
    parts = []
    if kept.exif:
        parts.append(_chunk(b"eXIf", exif_block.write(kept.exif)))
    if kept.xmp:
        parts.append(_chunk(b"iTXt", PNG_XMP + bytes(5) + kept.xmp))
    return b"".join((body[:33], *parts, body[33:]))  # behind IHDR, where every chunk may stand


def _chunk(kind: bytes, block: bytes) -> bytes:
    whole = kind + block
    return struct.pack(">I", len(block)) + whole + struct.pack(">I", zlib.crc32(whole))


def _webp(body: bytes, kept: Kept) -> bytes:
    chunks = [(kind, body[start:end]) for kind, start, end in riff_chunks(body)]
    if chunks[0][0] != b"VP8X":
        chunks.insert(0, (b"VP8X", _canvas(*chunks[0])))
    flags = chunks[0][1][0]
    if kept.exif:
        chunks.append((b"EXIF", exif_block.write(kept.exif)))
        flags |= 0x08
    if kept.xmp:
        chunks.append((b"XMP ", kept.xmp))
        flags |= 0x04
    chunks[0] = (b"VP8X", bytes((flags,)) + chunks[0][1][1:])
    parts = [struct.pack("<4sI", kind, len(block)) + block + bytes(len(block) & 1) for kind, block in chunks]
    inside = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(inside)) + inside


def _canvas(kind: bytes, picture: bytes) -> bytes:
    """The extended header of a file that has none: transparency and size."""
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", picture, 1)
        alpha, width, height = bits >> 28 & 1, bits & 0x3FFF, bits >> 14 & 0x3FFF
    else:
        wide, high = struct.unpack_from("<HH", picture, 6)
        alpha, width, height = 0, (wide & 0x3FFF) - 1, (high & 0x3FFF) - 1
    return bytes((0x10 if alpha else 0, 0, 0, 0)) + struct.pack("<I", width)[:3] + struct.pack("<I", height)[:3]


def _avif(body: bytes, kept: Kept) -> bytes:
    exif = exif_block.write(kept.exif) if kept.exif else None
    return metadata_avif.write(body, exif, kept.xmp)


def _tiff(body: bytes, kept: Kept) -> bytes:
    """A new first directory at the end: the old one's tags and ours, in front of what followed."""
    if body[:4] != b"II*\0":
        return body  # none that encode writes
    (at,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, at)
    (following,) = struct.unpack_from("<I", body, at + 2 + 12 * count)
    old = _tags(body, at, count)
    body += bytes(len(body) & 1)
    new, behind = exif_block.with_pointers(exif_block.reordered(kept.exif or Exif("<"), "<"), len(body))
    if kept.xmp:
        new[exif_block.XMP] = Value(1, len(kept.xmp), kept.xmp)
    if kept.iptc:
        block = iptc.write(kept.iptc)
        new[exif_block.IPTC] = Value(exif_block.UNDEFINED, len(block), block)
    directory = exif_block.directory_bytes("<", {**new, **old}, len(body) + len(behind), following)
    return b"".join((body[:4], struct.pack("<I", len(body) + len(behind)), body[8:], behind, directory))


def _tags(body: bytes, at: int, count: int) -> dict[int, Value]:
    """All tags of a directory that the encoder wrote."""
    tags: dict[int, Value] = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, number, place = struct.unpack_from("<HHII", body, entry)
        length = number * exif_block.SIZES[kind]
        start = place if length > 4 else entry + 8
        tags[tag] = Value(kind, number, body[start : start + length])
    return tags


def _gif(body: bytes, kept: Kept) -> bytes:
    if not kept.xmp or body[-1:] != b";":
        return body
    block = b"\x21\xff\x0b" + GIF_XMP + kept.xmp + _GIF_TRAILER
    return b"".join((b"GIF89a", body[6:-1], block, b";"))


_WRITERS: Mapping[str, Callable[[bytes, Kept], bytes]] = {
    "jpeg": _jpeg,
    "png": _png,
    "webp": _webp,
    "avif": _avif,
    "tiff": _tiff,
    "gif": _gif,
}
