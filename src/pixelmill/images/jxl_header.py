"""Reads the header of a JPEG XL file: size, orientation, depth, channels and color space. No pixel is decoded.

A bounded reader of the boxes around the codestream, and of the bits at its start. The codestream carries orientation
itself and the library applies it, so an EXIF block in the file is not looked at, and sizes here are those after it.
Frames of an animation stand behind entropy-coded data and are not counted: only the first is decoded, and the limits
hold for that one. Sources: ISO/IEC 18181-1:2022, annex D (D.2 size, D.3 metadata) and E.2 (color); 18181-2 (boxes).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from pixelmill.errors import UnsupportedFormat
from pixelmill.images import profiles
from pixelmill.images.exif import SWAPS_SIDES
from pixelmill.images.formats import JXL, Data
from pixelmill.images.header import Header, JxlFacts, corrupt
from pixelmill.images.image import ImageInfo, Size
from pixelmill.images.profiles import ColorSpace

_HEAD = 16_384
"""Bytes of the codestream that are looked at; a usual header has 5 to 60, names of channels may make it longer."""

_MAX_BOXES = 1_024
_MAX_CHANNELS = 64  # beside color; the format allows 4,096

_Choice = tuple[int, int]  # an offset, and how many bits are added to it
_SIZE = ((1, 9), (1, 13), (1, 18), (1, 30))
_ENUM = ((0, 0), (1, 0), (2, 4), (18, 6))
_RATIOS = {1: (1, 1), 2: (12, 10), 3: (4, 3), 4: (3, 2), 5: (16, 9), 6: (5, 4), 7: (2, 1)}
_ALPHA, _SPOT, _BLACK, _FILTER_ARRAY = 0, 2, 4, 5  # types of extra channels
_GRAY = 1


class _Bits:
    """Bits of the codestream from the lowest of each byte on."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "little")
        self._left = 8 * len(data)

    def take(self, count: int) -> int:
        if count > self._left:
            corrupt("JPEG XL", "it ends inside its header")
        value = self._value & (1 << count) - 1
        self._value >>= count
        self._left -= count
        return value

    def flag(self) -> bool:
        return bool(self.take(1))

    def number(self, choices: tuple[_Choice, _Choice, _Choice, _Choice]) -> int:
        """A U32: two bits choose the offset and the width."""
        offset, bits = choices[self.take(2)]
        return offset + self.take(bits)


class _Depth(NamedTuple):
    bits: int
    floating: bool


@dataclass(slots=True)
class _Channels:
    """What the extra channels are: transparency (multiplied into color or not), black ink."""

    alpha: bool = False
    associated: bool = False
    black: bool = False


@dataclass(slots=True)
class _Metadata:
    """The part of ImageMetadata that matters here; the values are those where all is default."""

    orientation: int = 1
    depth: _Depth = field(default_factory=lambda: _Depth(8, floating=False))
    xyb: bool = True
    gray: bool = False
    embedded: bool = False
    space: ColorSpace | None = field(default_factory=ColorSpace)


def read(data: Data) -> Header:
    """The header of JPEG XL bytes.

    Raises :class:`CorruptImage`, and :class:`UnsupportedFormat` for color that is neither gray nor RGB.
    """
    bits = _Bits(_codestream(data))
    if bits.take(16) != 0x0AFF:
        corrupt("JPEG XL", "its codestream does not start as one must")
    coded = _size(bits)
    channels = _Channels()
    meta = _Metadata() if bits.flag() else _metadata(bits, channels)
    if channels.black:
        raise UnsupportedFormat("JPEG XL in CMYK is not read. Convert the file to JPEG or PNG.", format=JXL.name)
    size = Size(coded.height, coded.width) if meta.orientation in SWAPS_SIDES else coded
    info = ImageInfo(
        format=JXL.name,
        media_type=JXL.media_type,
        size=size,
        stored_size=size,
        mode="rgba" if channels.alpha else "gray" if meta.gray else "rgb",
        depth=meta.depth.bits,
        has_alpha=channels.alpha,
        has_icc=meta.embedded or (meta.space is not None and not meta.space.is_srgb),
        bytes=len(data),
    )
    return Header(info, JxlFacts(_profile(meta), meta.embedded and not meta.xyb, channels.associated))


def _profile(meta: _Metadata) -> bytes | None:
    """Of the samples that the library gives, where no embedded profile tells.

    Files whose color is coded as the eye sees it (XYB) and that name their original color space by a profile are
    decoded to linear light: the library has no means to apply the profile.
    """
    if meta.embedded:
        linear = ColorSpace(primaries=None if meta.gray else profiles.BT709, transfer=profiles.LINEAR)
        return profiles.profile_of(linear) if meta.xyb else None
    return None if meta.space is None else profiles.profile_of(meta.space)


def _codestream(data: Data) -> bytes:
    """The first bytes of the codestream, out of its boxes if it has any."""
    if bytes(data[:2]) == b"\xff\x0a":
        return bytes(data[:_HEAD])
    found, at = b"", 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(data) or len(found) >= _HEAD:
            break
        length, kind = struct.unpack_from(">I4s", data, at)
        start, end = at + 8, at + length
        if length == 1 and at + 16 <= len(data):
            start, end = at + 16, at + struct.unpack_from(">Q", data, at + 8)[0]
        elif length == 0:
            end = len(data)
        if end < start:
            corrupt("JPEG XL", "a box in it is shorter than its own header")
        if kind == b"jxlc":
            return bytes(data[start : min(end, start + _HEAD)])
        if kind == b"jxlp":
            found += bytes(data[start + 4 : min(end, start + 4 + _HEAD)])
        at = end
    return found


def _size(bits: _Bits) -> Size:
    small = bits.flag()
    height = 8 * (1 + bits.take(5)) if small else bits.number(_SIZE)
    return Size(_width(bits, height, small=small), height)


def _width(bits: _Bits, height: int, *, small: bool) -> int:
    ratio = bits.take(3)
    if ratio:
        over, under = _RATIOS[ratio]
        return height * over // under
    return 8 * (1 + bits.take(5)) if small else bits.number(_SIZE)


def _metadata(bits: _Bits, channels: _Channels) -> _Metadata:
    meta = _Metadata()
    if bits.flag():
        meta.orientation = 1 + bits.take(3)
        if bits.flag():
            _size(bits)  # intrinsic size: for display only
        if bits.flag():
            _skip_preview(bits)
        if bits.flag():
            _skip_animation(bits)
    meta.depth = _depth(bits)
    bits.flag()  # whether 16-bit buffers serve
    count = bits.number(((0, 0), (1, 0), (2, 4), (1, 12)))
    if count > _MAX_CHANNELS:
        corrupt("JPEG XL", f"it has {count:,} channels beside color")
    for _ in range(count):
        _channel(bits, channels)
    meta.xyb = bits.flag()
    _color(bits, meta)
    return meta


def _skip_preview(bits: _Bits) -> None:
    by_eight = bits.flag()
    sizes = ((16, 0), (32, 0), (1, 5), (33, 9)) if by_eight else ((1, 6), (65, 8), (321, 10), (1345, 12))
    bits.number(sizes)
    if bits.take(3) == 0:
        bits.number(sizes)


def _skip_animation(bits: _Bits) -> None:
    bits.number(((100, 0), (1000, 0), (1, 10), (1, 30)))
    bits.number(((1, 0), (1001, 0), (1, 8), (1, 10)))
    bits.number(((0, 0), (0, 3), (0, 16), (0, 32)))
    bits.flag()


def _depth(bits: _Bits) -> _Depth:
    if bits.flag():
        depth = _Depth(bits.number(((32, 0), (16, 0), (24, 0), (1, 6))), floating=True)
        bits.take(4)
        return depth
    return _Depth(bits.number(((8, 0), (10, 0), (12, 0), (1, 6))), floating=False)


def _channel(bits: _Bits, channels: _Channels) -> None:
    if bits.flag():
        channels.alpha = True
        return
    kind = bits.number(_ENUM)
    _depth(bits)
    bits.number(((0, 0), (3, 0), (4, 0), (1, 3)))
    bits.take(8 * bits.number(((0, 0), (0, 4), (16, 5), (48, 10))))
    if kind == _ALPHA:
        channels.associated |= bits.flag() and not channels.alpha
        channels.alpha = True
    elif kind == _SPOT:
        bits.take(64)
    elif kind == _FILTER_ARRAY:
        bits.number(((1, 0), (0, 2), (3, 4), (19, 8)))
    channels.black |= kind == _BLACK


def _color(bits: _Bits, meta: _Metadata) -> None:
    if bits.flag():
        return
    meta.embedded = bits.flag()
    kind = bits.number(_ENUM)
    meta.gray = kind == _GRAY
    if kind not in (0, _GRAY):
        raise UnsupportedFormat(
            "JPEG XL of an unnamed color space is not read. Convert the file to PNG.", format=JXL.name
        )
    if meta.embedded:
        meta.space = None
        return
    meta.space = _space(bits, gray=meta.gray)


def _space(bits: _Bits, *, gray: bool) -> ColorSpace | None:
    """None where the numbers name nothing that is known: samples are then taken as sRGB."""
    kind = bits.number(_ENUM)
    white = _point(bits) if kind == 2 else {1: profiles.D65, 10: profiles.EQUAL, 11: profiles.DCI}.get(kind)
    primaries: tuple[tuple[float, float], ...] | None = None
    if not gray:
        kind = bits.number(_ENUM)
        known = {1: profiles.BT709, 9: profiles.BT2020, 11: profiles.P3}
        primaries = tuple(_point(bits) for _ in range(3)) if kind == 2 else known.get(kind)
    gamma, transfer = 0.0, profiles.SRGB
    if bits.flag():
        power = bits.take(24)
        gamma = 1e7 / power if power else 0.0
    else:
        transfer = bits.number(_ENUM)
    if white is None or transfer not in profiles.TRANSFERS or (primaries is None and not gray) or gamma > 10:
        return None
    three = None if primaries is None else (primaries[0], primaries[1], primaries[2])
    return ColorSpace(white, three, transfer, gamma)


def _point(bits: _Bits) -> tuple[float, float]:
    return _coordinate(bits), _coordinate(bits)


def _coordinate(bits: _Bits) -> float:
    packed = bits.number(((0, 19), (524_288, 19), (1_048_576, 20), (2_097_152, 21)))
    return (packed >> 1 ^ -(packed & 1)) / 1e6
