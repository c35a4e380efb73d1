"""HEIC by libheif (through pillow-heif, an extra): header and pixels of the primary picture.

libheif applies turns, mirrors and crops that the container tells (irot, imir, clap); the orientation in an EXIF block
repeats them and is not applied again (ISO/IEC 23008-12, 6.5.10; MIAF 7.3.6.7). A grid of tiles that are missing from a
truncated file would be decoded as far as it goes, so the extents of all items are checked before (ISO/IEC 14496-12,
8.11.3).
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images import color, extras, profiles
from pixelmill.images.formats import HEIC, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, HeicFacts, corrupt
from pixelmill.images.image import ImageInfo, Need, Size
from pixelmill.images.pillow_files import translated
from pixelmill.images.profiles import ColorSpace
from pixelmill.images.samples import spread_gray, straight, stretch

_HUNGER = 12
"""Bytes a pixel at the peak of a decode."""

_MAX_CROP, _CROP_SLACK = 4, 65_536
"""How many times more pixels than are shown may be coded: limits are checked on those that are shown."""

_MAX_BOXES = 4_096
_MAX_EXTENTS = 65_536
_PRIMARIES = {
    1: profiles.BT709,
    5: profiles.BT601_625,
    6: profiles.BT601_525,
    7: profiles.BT601_525,
    9: profiles.BT2020,
    12: profiles.P3,
}
# Pictures that name the curve of television, or none, are meant and shown as sRGB.
_AS_SRGB = frozenset({1, 2, 6, 14, 15})


@functools.cache
def _library() -> Any:
    """pillow-heif, told to decode in one thread (the pool runs a process a core) and to look for no side pictures."""
    library = extras.to_read(HEIC)
    options = library.options
    options.DECODE_THREADS, options.THUMBNAILS, options.DEPTH_IMAGES, options.AUX_IMAGES = 1, False, False, False
    return library


def _open(data: Data) -> tuple[Any, int]:
    """The primary picture, not decoded, and the number of pictures; inside :func:`translated`."""
    pictures = _library().HeifFile(bytes(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    return pictures[pictures.primary_index], len(pictures)


def blocks(data: Data) -> dict[str, bytes]:
    """EXIF and XMP of the primary picture, as ``exif`` and ``xmp``, where they are there."""
    with translated(HEIC.name):
        found, _ = _open(data)
    return {kind: found.info[kind] for kind in ("exif", "xmp") if isinstance(found.info.get(kind), bytes)}


def read_header(data: Data) -> Header:
    """The header of HEIC bytes; sizes are those after the container's turns."""
    _library()
    with translated(HEIC.name):
        picture, frames = _open(data)
    size, bands, depth = Size(*picture.size), picture.mode.split(";")[0], int(picture.info["bit_depth"])
    if min(size) < 1:
        corrupt("HEIC", f"its header gives the size {size.width}×{size.height}")
    coded = max(_coded_areas(data), default=0)
    if coded > _MAX_CROP * size.pixels + _CROP_SLACK:
        corrupt("HEIC", f"{size.width}×{size.height} pixels are cut out of {coded:,}, which all had to be decoded")
    profile = _profile(picture.info, gray=bands.startswith(("L", "I")))
    alpha = bands[-1] in "Aa"
    info = ImageInfo(
        format=HEIC.name,
        media_type=HEIC.media_type,
        size=size,
        stored_size=size,
        mode="rgba" if alpha else "gray" if bands in ("L", "I") else "rgb",
        depth=depth,
        has_alpha=alpha,
        frames=frames,
        has_icc=profile is not None,
        bytes=len(data),
    )
    return Header(info, HeicFacts(profile))


def _profile(info: dict[str, Any], *, gray: bool) -> bytes | None:
    embedded = info.get("icc_profile")
    if isinstance(embedded, bytes) and 0 < len(embedded) <= MAX_ICC_BYTES:
        return embedded
    named = info.get("nclx_profile")
    if not isinstance(named, dict):
        return None
    transfer = int(named["transfer_characteristics"])
    transfer = profiles.SRGB if transfer in _AS_SRGB else transfer
    primaries = None if gray else _PRIMARIES.get(int(named["color_primaries"]), profiles.BT709)
    if transfer not in profiles.TRANSFERS:
        return None
    return profiles.profile_of(ColorSpace(primaries=primaries, transfer=transfer))


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Pixels, upright, in sRGB; samples of more than 8 bits come as ``uint16`` and keep a profile that is not sRGB."""
    facts, size = header.facts, header.info.size
    assert isinstance(facts, HeicFacts)
    _check_extents(data)
    np.empty(size.pixels * _HUNGER, np.uint8)  # MemoryError here names the reason
    with translated(HEIC.name):
        picture, _ = _open(data)
        pixels: NDArray[Any] = np.array(picture)
    if pixels.shape[:2] != (size.height, size.width):
        corrupt("HEIC", "its picture is not as large as its header says")
    return _plain(pixels, facts.profile, header.info.depth, associated=picture.premultiplied_alpha, keep=need.icc)


def _plain(
    pixels: NDArray[Any], profile: bytes | None, depth: int, *, associated: bool, keep: bool
) -> tuple[NDArray[Any], bytes | None]:
    space: color.Space = "gray" if pixels.ndim == 2 or pixels.shape[2] < 3 else "rgb"
    if pixels.dtype != np.uint8:
        pixels = stretch(pixels, depth) if depth < 16 else pixels
    if pixels.ndim == 3 and pixels.shape[2] < 3:
        pixels = spread_gray(pixels)
    if associated:
        pixels = straight(pixels)
    if pixels.dtype == np.uint8:
        return color.managed(pixels, profile, space, keep=keep)
    fits = space == "rgb" or pixels.ndim == 2
    return pixels, color.profile_kept(profile, space, keep=keep) if fits else None


def _check_extents(data: Data) -> None:
    """Raise :class:`CorruptImage` where a box or the bytes of an item lie beyond the end of the file."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if end > len(data):
            corrupt("HEIC", "it ends before the picture does")
        if kind == b"meta":
            for inner, first, last in _boxes(data, start + 4, end):
                if inner == b"iloc" and last <= end and _farthest(bytes(data[first:last])) > len(data):
                    corrupt("HEIC", "it ends before the picture does")


def _coded_areas(data: Data) -> Iterator[int]:
    """Pixels of each picture and tile as it is coded, before it is cut (ISO/IEC 23008-12, 6.5.3: ispe)."""
    for kind, start, end in _boxes(data, 0, len(data)):
        if kind == b"meta":
            for inner, first, last in _boxes(data, start + 4, min(end, len(data))):
                if inner == b"iprp":
                    yield from _extents_in(data, first, last)


def _extents_in(data: Data, start: int, end: int) -> Iterator[int]:
    for kind, first, last in _boxes(data, start, min(end, len(data))):
        if kind == b"ipco":
            for inner, at, stop in _boxes(data, first, min(last, len(data))):
                if inner == b"ispe" and stop - at >= 12 and at + 12 <= len(data):
                    width, height = struct.unpack_from(">II", data, at + 4)
                    yield width * height


def _boxes(data: Data, at: int, stop: int) -> Iterator[tuple[bytes, int, int]]:
    """Type, start and end of the content of each box; what is no box ends the walk."""
    for _ in range(_MAX_BOXES):
        if at + 8 > stop:
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if length == 1 and at + 16 <= stop:
            (length,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = stop if length == 0 else at + length
        if end < start:
            return
        yield kind, start, end
        at = end


def _farthest(iloc: bytes) -> int:
    """The end of the last extent of any item that lies in the file; 0 where the box makes no sense.

    Items that lie in other places (a data box, other items) are libheif's to check: construction methods 1 and 2.
    """
    version = iloc[0] if iloc else 255
    if version > 2 or len(iloc) < 8:
        return 0
    offsets, lengths, bases, indices = iloc[4] >> 4, iloc[4] & 15, iloc[5] >> 4, iloc[5] & 15 if version else 0
    number = 4 if version == 2 else 2
    at, farthest, seen = 6, 0, 0

    def take(count: int) -> int:
        nonlocal at
        at += count
        return int.from_bytes(iloc[at - count : at], "big")

    for _ in range(take(number)):
        take(number)
        method = take(2) & 15 if version else 0
        take(2)
        base = take(bases)
        for _ in range(take(2)):
            take(indices)
            start, length = take(offsets), take(lengths)
            seen += 1
            if at > len(iloc) or seen > _MAX_EXTENTS:
                return farthest
            if method == 0:
                farthest = max(farthest, base + start + length)
    return farthest
