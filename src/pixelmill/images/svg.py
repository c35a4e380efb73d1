"""SVG by librsvg in libvips (through pyvips, an extra): drawn at its nominal size, in CSS pixels at 96 to the inch.

librsvg runs no scripts, and of a document that comes as bytes it opens no file and no address. What it leaves open is
bounded here, by a walk of the XML parser over the elements: bytes, depth, number of elements, and the pixels of
pictures that are embedded in the document, which librsvg would unpack at any size. Sources: SVG 2, 8.2 and 8.9 (size of
the viewport); CSS Values 4, 6.2 (units).

Text is drawn with the fonts of the machine.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NoReturn
from urllib.parse import unquote_to_bytes
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage, LimitExceeded, UnsupportedFormat
from pixelmill.images import extras, jpeg_header, png_header
from pixelmill.images.formats import JPEG, SVG, Data
from pixelmill.images.header import Header, SvgFacts, corrupt
from pixelmill.images.image import ImageInfo, Need, Size

MAX_BYTES = 5_000_000
MAX_DEPTH = 200  # libxml2 ends at 256
MAX_ELEMENTS = 200_000
MAX_EMBEDDED_PIXELS = 25_000_000
"""Of all pictures inside together; librsvg keeps 4 to 9 bytes of each pixel."""

_HUNGER = 16
"""Bytes a pixel at the peak of drawing; libvips ends the process when it gets no memory."""

_DPI, _VIPS_DPI = 96, 72
# Of an inch, or of 12 pixels for the size of a font, which nothing has set at the root.
_UNITS = {"": 1.0, "px": 1.0, "in": 96.0, "cm": 96 / 2.54, "mm": 96 / 25.4, "pt": 4 / 3, "pc": 16.0}
_LENGTH = re.compile(r"\s*\+?(\d+\.?\d*(?:e[+-]?\d{1,2})?|\.\d+(?:e[+-]?\d{1,2})?)\s*([a-z]*|%)\s*", re.IGNORECASE)
_DATA = re.compile(r"data:image/(?:png|jpe?g);base64,(.*)", re.DOTALL | re.IGNORECASE)


def read_header(data: Data) -> Header:
    """The header of SVG bytes, from the attributes of its root.

    Raises :class:`CorruptImage`, :class:`LimitExceeded` above 5 MB, :class:`UnsupportedFormat` where the root gives
    no size (neither width and height, nor a viewBox).
    """
    if len(data) > MAX_BYTES:
        _exceeded("bytes", len(data), MAX_BYTES)
    width, height = _nominal(_root(data))
    size = Size(max(1, int(width + 0.5)), max(1, int(height + 0.5)))
    info = ImageInfo(
        format=SVG.name,
        media_type=SVG.media_type,
        size=size,
        stored_size=size,
        mode="rgba",
        has_alpha=True,
        bytes=len(data),
    )
    return Header(info, SvgFacts(width, height))


class _Found(Exception):
    """The root was seen: ends the parser."""


def _root(data: Data) -> Mapping[str, str]:
    """Attributes of the root, without their prefixes' meaning."""
    found: dict[str, str] = {}

    def start(name: str, attributes: dict[str, str]) -> NoReturn:
        if name.rpartition(":")[2] != "svg":
            corrupt("SVG", "its root is another element")
        found.update(attributes)
        raise _Found

    parser = expat.ParserCreate()
    parser.StartElementHandler = start
    with suppress(_Found):
        try:
            parser.Parse(bytes(data), True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            corrupt("SVG", f"its XML can't be read ({error})")
    return found  # a document without an element is an error of the parser


def _nominal(root: Mapping[str, str]) -> tuple[float, float]:
    """Width and height in CSS pixels: as given, or from the viewBox, or by its ratio where only one is given."""
    box = _view_box(root.get("viewBox", ""))
    width, height = _pixels(root.get("width")), _pixels(root.get("height"))
    if box is not None:
        if width is None:
            width = box[0] if height is None else height * box[0] / box[1]
        if height is None:
            height = width * box[1] / box[0]
    if width is None or height is None:
        raise UnsupportedFormat(
            "The SVG gives no size that is known before it is drawn. Give its root a width and a height in px, "
            "or a viewBox.",
            format=SVG.name,
        )
    if not (0 < width < 1e9 and 0 < height < 1e9):
        corrupt("SVG", f"its header gives the size {width:g}×{height:g}")
    return width, height


def _view_box(text: str) -> tuple[float, float] | None:
    try:
        _, _, width, height = (float(part) for part in text.replace(",", " ").split())
    except ValueError:
        return None
    return (width, height) if 0 < width < 1e9 and 0 < height < 1e9 else None


def _pixels(text: str | None) -> float | None:
    """A length in pixels; None where it is left to the viewBox (absent, auto, or a share)."""
    if text is None or text.strip() == "auto":
        return None
    match = _LENGTH.fullmatch(text)
    if match is None:
        corrupt("SVG", f"its header gives the length {text[:40]!r}")
    value, unit = float(match[1]), match[2].lower()
    if unit == "%":
        return None  # of a window that is not there: libvips takes the viewBox instead
    if unit not in _UNITS:
        raise UnsupportedFormat(
            f"The SVG gives its size in {unit[:20]!r}, which depends on a font or a window. Give it in px.",
            format=SVG.name,
        )
    return value * _UNITS[unit]


class _Walk:
    """Looks at every element and attribute, and refuses what would cost too much to draw."""

    def __init__(self) -> None:
        self._depth = self._elements = self._pixels = 0

    def over(self, data: Data) -> None:
        parser = expat.ParserCreate()
        parser.StartElementHandler, parser.EndElementHandler = self._start, self._end
        try:
            parser.Parse(bytes(data), True)
        except (expat.ExpatError, LookupError, ValueError) as error:
            raise CorruptImage(
                f"The SVG file is damaged: its XML can't be read ({error}). Get a fresh copy of it.", format=SVG.name
            ) from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        del name
        self._depth += 1
        self._elements += 1
        if self._depth > MAX_DEPTH:
            _exceeded("elements inside each other", self._depth, MAX_DEPTH)
        if self._elements > MAX_ELEMENTS:
            _exceeded("elements", self._elements, MAX_ELEMENTS)
        for value in attributes.values():
            # As addresses are read (URL standard, 4.4): without blanks around, and without breaks inside.
            if "data" in value[:64].translate(_BREAKS).lower():
                self._look_inside(value.translate(_BREAKS).strip(_BLANKS))

    def _end(self, name: str) -> None:
        del name
        self._depth -= 1

    def _look_inside(self, address: str) -> None:
        if address[:5].lower() != "data:":
            return
        match = _DATA.match(address)
        if match is None:
            raise UnsupportedFormat(
                "The SVG embeds something else than a PNG or JPEG picture. Embed one of these.",
                format=SVG.name,
            )
        try:
            inside = base64.b64decode(b"".join(unquote_to_bytes(match[1]).split()))
        except (binascii.Error, ValueError):
            corrupt("SVG", "a picture embedded in it can't be unpacked")
        header = jpeg_header.read if JPEG.matches(inside) else png_header.read
        self._pixels += header(inside).info.stored_size.pixels
        if self._pixels > MAX_EMBEDDED_PIXELS:
            _exceeded("pixels in embedded pictures", self._pixels, MAX_EMBEDDED_PIXELS)


_BREAKS = dict.fromkeys(map(ord, "\t\n\r"))
_BLANKS = "".join(map(chr, range(33)))


def _exceeded(what: str, value: int, maximum: int) -> NoReturn:
    raise LimitExceeded(
        f"The SVG has {value:,} {what}; {maximum:,} are drawn. Simplify it, or convert it to PNG.",
        limit=what,
        value=value,
        maximum=maximum,
    )


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[np.uint8], bytes | None]:
    """RGBA in sRGB, straight alpha; and no profile."""
    del need  # smaller letters and lines are other pictures than smaller pixels
    size = header.info.size
    library = extras.to_read(SVG)
    _Walk().over(data)
    np.empty(size.pixels * _HUNGER, np.uint8)  # MemoryError here names the reason
    try:
        drawing = library.Image.svgload_buffer(
            bytes(data), dpi=_DPI, scale=_VIPS_DPI / _DPI, unlimited=False, access="sequential"
        )
        if (drawing.width, drawing.height) != size or drawing.bands != 4:
            raise UnsupportedFormat(
                f"The SVG would be drawn at {drawing.width}×{drawing.height}, but its root says "
                f"{size.width}×{size.height}. Give its root a width and a height in px, outside of styles.",
                format=SVG.name,
            )
        pixels: NDArray[Any] = _in_one_thread(library, drawing).numpy()
    except library.Error as error:
        why = " ".join(str(error).split())
        corrupt("SVG", f"it can't be drawn ({why[:200]})")
    return np.array(pixels, dtype=np.uint8), None


def _in_one_thread(library: Any, drawing: Any) -> Any:
    """The pool runs a process a core, and librsvg draws in one thread anyhow."""
    drawing = drawing.copy()
    drawing.set_type(library.GValue.gint_type, "concurrency", 1)
    return drawing
