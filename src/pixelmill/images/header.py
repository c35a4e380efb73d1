"""What the header readers give: an :class:`ImageInfo`, and beside it what only a decoder must know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from pixelmill.errors import CorruptImage, NotApplicable
from pixelmill.images.exif import SWAPS_SIDES
from pixelmill.images.image import ImageInfo, Size

MAX_ICC_BYTES = 8_000_000
"""A larger profile is taken for broken, and ignored; real ones have 0.5 kB to 3 MB."""


@dataclass(frozen=True, slots=True)
class JpegFacts:
    """Of a JPEG: number of components, how they code color, and how they are compressed.

    ``color`` is one of gray, ycbcr, rgb, cmyk, ycck, as libjpeg decides it. ``frame`` is the SOF marker's low byte.
    ``scan_at`` is the offset of the first scan. ``icc`` lists the parts of the profile: number, count, start, end.
    """

    components: int
    color: str
    frame: int
    adobe: bool
    scan_at: int
    icc: tuple[tuple[int, int, int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class PngChunk:
    """Place of one chunk: its type, and where its data lies."""

    kind: bytes
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class PngFacts:
    """Of a PNG: color type (0, 2, 3, 4, 6), interlace, the chunks in order, and whether the file ends with IEND."""

    color_type: int
    interlaced: bool
    chunks: tuple[PngChunk, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class WebpFacts:
    """Of a WebP: animation or not, and the start and end of its profile."""

    animated: bool
    icc: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class PillowFacts:
    """Of a format that Pillow reads whole: the mode it gives."""

    mode: str


@dataclass(frozen=True, slots=True)
class IconFacts:
    """Of an ICO: number of its largest picture, and the start and end of it where it is a PNG."""

    entry: int
    png: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class NetpbmFacts:
    """Of a PNM: where samples start, how many a pixel has, the largest one, and how they are written.

    ``plain`` samples are numbers in letters, ``packed`` ones are bits; in ``inverted`` ones 1 is black.
    """

    start: int
    samples: int
    full: int
    plain: bool
    packed: bool
    inverted: bool


@dataclass(frozen=True, slots=True)
class TiffTag:
    """Of a tag: its type, how many values it has, and where their bytes lie."""

    kind: int
    count: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class TiffFacts:
    """Of a TIFF: byte order as ``struct`` writes it, whether it is a BigTIFF, and the tags of its first page."""

    order: str
    big: bool
    tags: Mapping[int, TiffTag]


@dataclass(frozen=True, slots=True)
class JxlFacts:
    """Of a JPEG XL: the profile of its samples, None for sRGB.

    ``embedded`` says that the profile is in the file, where only the library reads it; ``associated``, that color is
    multiplied by alpha.
    """

    profile: bytes | None
    embedded: bool
    associated: bool


@dataclass(frozen=True, slots=True)
class HeicFacts:
    """Of a HEIC: the profile of its samples, embedded or made of the numbers that name one; None for sRGB."""

    profile: bytes | None


@dataclass(frozen=True, slots=True)
class SvgFacts:
    """Of an SVG: its width and height in CSS pixels, before rounding."""

    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Header:
    """The public facts, and the codec's own."""

    info: ImageInfo
    facts: (
        JpegFacts
        | PngFacts
        | WebpFacts
        | PillowFacts
        | IconFacts
        | TiffFacts
        | NetpbmFacts
        | JxlFacts
        | HeicFacts
        | SvgFacts
    )


def oriented(stored: Size, orientation: int) -> Size:
    """The size after the orientation is applied."""
    return Size(stored.height, stored.width) if orientation in SWAPS_SIDES else stored


def no_such_frame(format_name: str, frame: int, count: int) -> NotApplicable:
    """What is raised where a frame, page or picture is asked for that is not there."""
    held = "one picture that can be taken" if count == 1 else f"{count:,} of them"
    last = "" if count == 1 else f", frame:{count - 1} the last"
    return NotApplicable(
        f"There is no frame {frame:,}: the source ({format_name}) has {held}. They count from 0: frame:0 is the "
        f"first{last}.",
        operation="frame",
        frame=frame,
        frames=count,
    )


def corrupt(format_name: str, why: str) -> NoReturn:
    """Raise :class:`CorruptImage` in one voice."""
    raise CorruptImage(f"The {format_name} file is damaged: {why}. Get a fresh copy of it.", format=format_name)
