"""Reads the header of a WebP: size, alpha, orientation, profile, frames.

One walk over the RIFF chunks, without a pixel. Source: WebP container specification; RFC 6386 9.1 (VP8 key frame);
WebP lossless specification, section 2.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from pixelmill.errors import LimitExceeded
from pixelmill.images import exif
from pixelmill.images.formats import WEBP, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, WebpFacts, corrupt, oriented
from pixelmill.images.image import ImageInfo, Size

_ICC, _ALPHA, _ANIMATION = 0x20, 0x10, 0x02
_MAX_CHUNKS = 65_536
"""Bounds the walk; each frame of an animation is a chunk."""


class _Chunks(NamedTuple):
    places: dict[bytes, tuple[int, int]]
    """Start and end of the first chunk of each kind."""
    frames: int


def read(data: Data) -> Header:
    """The header of WebP bytes; raises :class:`CorruptImage`, and :class:`LimitExceeded` above 65,536 chunks."""
    if len(data) < 20:
        corrupt("WebP", "it ends inside its header")
    first = bytes(data[12:16])
    if first == b"VP8X":
        return _extended(data)
    if first == b"VP8 ":
        stored, alpha = _lossy_size(data, 20), False
    elif first == b"VP8L":
        stored, alpha = _lossless_size(data, 20)
    else:
        corrupt("WebP", "its first chunk holds no picture")
    return _header(data, stored, alpha, 1, 1, WebpFacts(animated=False))


def _header(data: Data, stored: Size, alpha: bool, orientation: int, frames: int, facts: WebpFacts) -> Header:
    info = ImageInfo(
        format=WEBP.name,
        media_type=WEBP.media_type,
        size=oriented(stored, orientation),
        stored_size=stored,
        mode="rgba" if alpha else "rgb",
        has_alpha=alpha,
        orientation=orientation,
        frames=max(1, frames),
        has_icc=facts.icc is not None,
        bytes=len(data),
    )
    return Header(info, facts)


def _extended(data: Data) -> Header:
    if len(data) < 30:
        corrupt("WebP", "it ends inside its header")
    flags = data[20]
    stored = Size(1 + _u24(data, 24), 1 + _u24(data, 27))
    chunks = _walk(data)
    animated = bool(flags & _ANIMATION)
    if not animated:
        _check_canvas(data, chunks, stored)
    turn = 1
    if b"EXIF" in chunks.places:
        start, end = chunks.places[b"EXIF"]
        turn = exif.orientation(data[start:end])
    facts = WebpFacts(animated, chunks.places.get(b"ICCP") if flags & _ICC else None)
    return _header(data, stored, bool(flags & _ALPHA), turn, chunks.frames if animated else 1, facts)


def _check_canvas(data: Data, chunks: _Chunks, canvas: Size) -> None:
    """The picture inside must be as large as the header says: limits were checked on the header."""
    inside = None
    if b"VP8 " in chunks.places:
        inside = _lossy_size(data, chunks.places[b"VP8 "][0])
    elif b"VP8L" in chunks.places:
        inside, _ = _lossless_size(data, chunks.places[b"VP8L"][0])
    if inside is not None and inside != canvas:
        corrupt(
            "WebP",
            f"its header gives the size {canvas.width}×{canvas.height}, "
            f"the picture inside {inside.width}×{inside.height}",
        )


def _walk(data: Data) -> _Chunks:
    places: dict[bytes, tuple[int, int]] = {}
    frames = 0
    at, size = 12, len(data)
    unpack = struct.Struct("<4sI").unpack_from
    for _ in range(_MAX_CHUNKS):
        if at + 8 > size:
            return _Chunks(places, frames)
        kind, length = unpack(data, at)
        start = at + 8
        frames += kind == b"ANMF"
        places.setdefault(kind, (start, min(size, start + length)))
        at = start + length + (length & 1)
    raise LimitExceeded(
        f"The WebP file has more than {_MAX_CHUNKS:,} chunks or frames. Use a shorter animation.",
        limit="frames",
        value=_MAX_CHUNKS + 1,
        maximum=_MAX_CHUNKS,
    )


def _u24(data: Data, at: int) -> int:
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16


def _lossy_size(data: Data, at: int) -> Size:
    if len(data) < at + 10 or bytes(data[at + 3 : at + 6]) != b"\x9d\x01\x2a" or data[at] & 1:
        corrupt("WebP", "its picture does not start with a key frame")
    width, height = struct.unpack_from("<HH", data, at + 6)
    size = Size(width & 0x3FFF, height & 0x3FFF)  # the two bits above are a scale for display
    if 0 in size:
        corrupt("WebP", f"its header gives the size {size.width}×{size.height}")
    return size


def _lossless_size(data: Data, at: int) -> tuple[Size, bool]:
    if len(data) < at + 5 or data[at] != 0x2F:
        corrupt("WebP", "its picture does not start as a lossless one must")
    (bits,) = struct.unpack_from("<I", data, at + 1)
    return Size(1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)), bool(bits >> 28 & 1)


def profile(data: Data, facts: WebpFacts) -> bytes | None:
    """The ICC profile; None where there is none, or it is too large."""
    if facts.icc is None:
        return None
    start, end = facts.icc
    return bytes(data[start:end]) if 0 < end - start <= MAX_ICC_BYTES else None
