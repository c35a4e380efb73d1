"""Reads the header of a JPEG: size, components, how color is coded, orientation, profile.

One walk over the segments up to the first scan, without a pixel. Sources: ITU-T T.81 annex B (segments), T.871 (JFIF),
Adobe TN 5116 (APP14), ICC.1 annex B.4 (APP2); how color is told is what libjpeg does (jdapimin.c, as documented there).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from pixelmill.images import exif
from pixelmill.images.formats import JPEG, Data
from pixelmill.images.header import MAX_ICC_BYTES, Header, JpegFacts, corrupt, oriented
from pixelmill.images.image import ImageInfo, Size

_SOI, _EOI, _SOS, _APP0, _APP1, _APP2, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xE2, 0xEE
_APP15, _COMMENT = 0xEF, 0xFE
_COLOR_TELLING = frozenset({_APP0, _APP14})
_APPLICATION = frozenset({_APP0, _APP1, _APP2, _APP14})
_FRAMES = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7})
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
_MAX_SEGMENTS = 5_000  # a photograph has 10 to 30; bounds the walk over a hostile file
_MAX_FILL = 1_024  # fill bytes before a marker


_MODES = {"gray": "gray", "ycbcr": "rgb", "rgb": "rgb", "cmyk": "cmyk", "ycck": "cmyk"}


@dataclass(slots=True)
class _Found:
    """What the segments have told so far. ``frame`` is the SOF marker, and the start and end of its body."""

    frame: tuple[int, int, int] | None = None
    jfif: bool = False
    transform: int | None = None
    orientation: int = 0
    icc: list[tuple[int, int, int, int]] = field(default_factory=list)


def read(data: Data) -> Header:
    """The header of JPEG bytes; raises :class:`CorruptImage`."""
    found = _Found()
    scan_at = 0
    for marker, start, end in segments(data):
        if marker in _FRAMES:
            if found.frame is not None:
                corrupt("JPEG", "it has two frame headers")
            found.frame = (marker, start, end)
        elif marker == _SOS:
            scan_at = start - 4
        elif marker in _APPLICATION:
            _note(data, marker, start, end, found)
    return _header(data, found, scan_at)


def segments(data: Data) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the body of each segment, up to and with the first scan's header."""
    size = len(data)
    at = 2
    for _ in range(_MAX_SEGMENTS):
        marker, at = _marker(data, at, size)
        if marker in _BARE:
            continue
        if marker == _EOI:
            corrupt("JPEG", "it ends before its first scan")
        end = at + (data[at] << 8 | data[at + 1]) if at + 2 <= size else at
        if not at + 2 <= end <= size:
            corrupt("JPEG", "it ends inside its header")
        yield marker, at + 2, end
        if marker == _SOS:
            return
        at = end
    corrupt("JPEG", f"it has more than {_MAX_SEGMENTS:,} segments before its first scan")


def _note(data: Data, marker: int, start: int, end: int, found: _Found) -> None:
    """What an application segment tells."""
    if marker == _APP0:
        found.jfif = found.jfif or bytes(data[start : start + 5]) == b"JFIF\0"
    elif marker == _APP1:
        if not found.orientation and bytes(data[start : start + 4]) == b"Exif":
            found.orientation = exif.orientation(data[start:end])
    elif marker == _APP2:
        if bytes(data[start : start + 12]) == b"ICC_PROFILE\0" and end - start >= 14:
            found.icc.append((data[start + 12], data[start + 13], start + 14, end))
    elif end - start >= 12 and bytes(data[start : start + 5]) == b"Adobe":
        found.transform = data[start + 11]


def _marker(data: Data, at: int, size: int) -> tuple[int, int]:
    """The marker at ``at`` (fill bytes skipped) and the offset behind it."""
    if at + 2 > size:
        corrupt("JPEG", "it ends inside its header")
    if data[at] != 0xFF:
        corrupt("JPEG", f"there is no marker at byte {at:,}, where its header says one is")
    at += 1
    stop = min(size, at + _MAX_FILL)
    while at < stop and data[at] == 0xFF:
        at += 1
    if at >= stop or data[at] == 0:
        corrupt("JPEG", f"there is no marker at byte {at:,}, where its header says one is")
    return data[at], at + 1


def _header(data: Data, found: _Found, scan_at: int) -> Header:
    if found.frame is None:
        corrupt("JPEG", "a scan starts before the frame's size is told")
    marker, start, end = found.frame
    orientation = found.orientation or 1
    if end - start < 6:
        corrupt("JPEG", "its frame header is too short")
    depth = data[start]
    height = data[start + 1] << 8 | data[start + 2]
    width = data[start + 3] << 8 | data[start + 4]
    components = data[start + 5]
    if end - start < 6 + 3 * components or not components:
        corrupt("JPEG", "its frame header is too short")
    if not width or not height:
        corrupt("JPEG", f"its header gives the size {width}×{height}")
    ids = tuple(data[start + 6 + 3 * index] for index in range(components))
    color = _color(ids, found.jfif, found.transform)
    stored = Size(width, height)
    info = ImageInfo(
        format=JPEG.name,
        media_type=JPEG.media_type,
        size=oriented(stored, orientation),
        stored_size=stored,
        mode=_MODES.get(color, color),
        depth=depth,
        orientation=orientation,
        has_icc=bool(found.icc),
        bytes=len(data),
    )
    facts = JpegFacts(
        components=components,
        color=color,
        frame=marker,
        adobe=found.transform is not None,
        scan_at=scan_at,
        icc=tuple(found.icc),
    )
    return Header(info, facts)


def _color(ids: tuple[int, ...], jfif: bool, transform: int | None) -> str:
    """How the components code color; ``unknown`` where there are neither 1, 3 nor 4."""
    if len(ids) == 1:
        return "gray"
    if len(ids) == 3:
        if jfif:
            return "ycbcr"
        if transform is not None:
            return "rgb" if transform == 0 else "ycbcr"
        return "rgb" if bytes(ids) == b"RGB" else "ycbcr"
    if len(ids) == 4:
        return "cmyk" if transform in (None, 0) else "ycck"
    return "unknown"


def without_metadata(data: Data) -> bytes:
    """The same picture without its comments and application segments, but those that tell how color is coded."""
    parts, end = [b"\xff\xd8"], 2
    for marker, start, end in segments(data):
        if marker in _COLOR_TELLING or not (marker == _COMMENT or _APP0 <= marker <= _APP15):
            parts.append(bytes((0xFF, marker)) + bytes(data[start - 2 : end]))
    return b"".join([*parts, bytes(data[end:])])


def profile(data: Data, facts: JpegFacts) -> bytes | None:
    """The ICC profile, put together from its parts; None where there is none or parts are missing."""
    if not facts.icc:
        return None
    parts = {number: bytes(data[start:end]) for number, _, start, end in facts.icc}
    total = facts.icc[0][1]
    if set(parts) != set(range(1, total + 1)):
        return None
    whole = b"".join(parts[number] for number in range(1, total + 1))
    return whole if len(whole) <= MAX_ICC_BYTES else None
