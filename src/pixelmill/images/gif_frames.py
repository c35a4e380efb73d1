"""The frames of an animated GIF, composed as browsers do.

A walk over the blocks finds the pictures; each is unpacked by Pillow as a GIF of its own (its own composition grows the
canvas, and fills with colors what browsers leave transparent), and laid onto the canvas here. What lies outside of the
canvas is cut off. Sources: GIF89a specification; the NETSCAPE2.0 extension as browsers read it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import LimitExceeded
from pixelmill.images.formats import GIF, Data
from pixelmill.images.header import corrupt
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.images.pillow_files import open_lazily, translated
from pixelmill.images.pillow_header import GIF_LOOPS

_EXTENSION, _IMAGE, _TRAILER = 0x21, 0x2C, 0x3B
_CONTROL, _APPLICATION = 0xF9, 0xFF
_TO_CLEAR = 2
_TO_BEFORE = frozenset({3, 4})  # 4 is what some old writers say for 3


class Picture(NamedTuple):
    """One picture: where it lies, how it is shown, and the places of its color table and its packed pixels."""

    x: int
    y: int
    size: Size
    table: slice
    interlaced: bool
    hidden: int | None
    disposal: int
    duration: float
    packed: slice


@dataclass(frozen=True, slots=True)
class Script:
    """The whole file: its pictures, and how often they are shown (0: for ever)."""

    canvas: Size
    pictures: tuple[Picture, ...]
    plays: int

    @property
    def opaque(self) -> bool:
        """Whether no frame can be transparent anywhere."""
        first = self.pictures[0]
        covered = first.x == first.y == 0 and first.size.width >= self.canvas.width
        covered = covered and first.size.height >= self.canvas.height and first.hidden is None
        cleared = any(item.disposal == _TO_CLEAR for item in self.pictures[:-1])
        return covered and not cleared and first.disposal not in _TO_BEFORE


def script(data: Data, canvas: Size, limits: Limits) -> Script:
    """What the blocks say; raises :class:`CorruptImage` where the file ends before its trailer.

    The pictures count as pixels too, where they are larger than the canvas.
    """
    try:
        pictures, plays = _walk(data)
    except (IndexError, struct.error):
        corrupt("GIF", "it ends before the animation does")
    if not pictures:
        corrupt("GIF", "there is no picture in it")
    pixels = sum(item.size.pixels for item in pictures)
    if pixels > limits.max_pixels:
        raise LimitExceeded(
            f"The pictures of the GIF have {pixels:,} pixels; the limit is {limits.max_pixels:,}. Use a smaller image, "
            "or raise the limit with PIXELMILL_MAX_PIXELS.",
            limit="pixels in all frames",
            value=pixels,
            maximum=limits.max_pixels,
        )
    return Script(canvas, pictures, plays)


def _walk(data: Data) -> tuple[tuple[Picture, ...], int]:
    shared = slice(13, 13 + _table(data[10]))
    at, plays = shared.stop, 1
    pictures: list[Picture] = []
    hidden, disposal, duration = None, 0, 0.0
    while data[at] != _TRAILER:
        if data[at] == _EXTENSION:
            kind, start = data[at + 1], at + 2
            if kind == _CONTROL and data[start] >= 4:
                flags, delay, color = struct.unpack_from("<BHB", data, start + 1)
                hidden, disposal, duration = color if flags & 1 else None, flags >> 2 & 7, delay * 10.0
            elif kind == _APPLICATION and bytes(data[start + 1 : start + 12]) in GIF_LOOPS:
                plays = _plays(data, start + 12, plays)
            at = _after_blocks(data, start)
        elif data[at] == _IMAGE:
            x, y, width, height, flags = struct.unpack_from("<HHHHB", data, at + 1)
            if not width or not height:
                corrupt("GIF", f"frame {len(pictures)} has the size {width}×{height}")
            own = slice(at + 10, at + 10 + _table(flags))
            at = _after_blocks(data, own.stop + 1)
            table, packed = own if flags & 0x80 else shared, slice(own.stop, at)
            size, interlaced = Size(width, height), bool(flags & 0x40)
            pictures.append(Picture(x, y, size, table, interlaced, hidden, disposal, duration, packed))
            hidden, disposal, duration = None, 0, 0.0
        else:
            at += 1  # stray bytes between blocks are skipped, as the header's reader does
    return tuple(pictures), plays


def _plays(data: Data, at: int, otherwise: int) -> int:
    """The extension says how often it is shown again: once more than that it is shown, or for ever."""
    if data[at] < 3 or data[at + 1] & 7 != 1:
        return otherwise
    (again,) = struct.unpack_from("<H", data, at + 2)
    return again + 1 if again else 0


def _after_blocks(data: Data, at: int) -> int:
    while length := data[at]:
        at += 1 + length
    return at + 1


def _table(flags: int) -> int:
    """Bytes of the color table that the flags announce."""
    return 3 << (flags & 7) + 1 if flags & 0x80 else 0


def frames(data: Data, whole: Script) -> Iterator[tuple[NDArray[np.uint8], float]]:
    """The canvas after each picture (RGB where no frame can be transparent, else RGBA), and its milliseconds."""
    width, height = whole.canvas
    canvas = np.zeros((height, width, 4), np.uint8)
    opaque = whole.opaque  # looks at all pictures
    for picture in whole.pictures:
        place = slice(picture.y, picture.y + picture.size.height), slice(picture.x, picture.x + picture.size.width)
        before = canvas[place].copy() if picture.disposal in _TO_BEFORE else None
        _draw(canvas[place], data, picture)
        yield (np.ascontiguousarray(canvas[..., :3]) if opaque else canvas.copy()), picture.duration
        if picture.disposal == _TO_CLEAR:
            canvas[place] = 0
        elif before is not None:
            canvas[place] = before


def _draw(target: NDArray[np.uint8], data: Data, picture: Picture) -> None:
    """The picture over ``target``, the part of the canvas that it covers."""
    if not target.size:
        return
    indices = _indices(data, picture)[: target.shape[0], : target.shape[1]]
    colors = _colors(bytes(data[picture.table]))[indices]
    if picture.hidden is None:
        target[...] = colors
    else:
        np.copyto(target, colors, where=(indices != picture.hidden)[..., np.newaxis])


def _colors(table: bytes) -> NDArray[np.uint8]:
    """256 opaque colors; gray ones where there is no table, black where it is short."""
    rgba = np.zeros((256, 4), np.uint8)
    rgba[:, 3] = 255
    if table:
        rgba[: len(table) // 3, :3] = np.frombuffer(table, np.uint8).reshape(-1, 3)
    else:
        rgba[:, :3] = np.arange(256, dtype=np.uint8)[:, np.newaxis]
    return rgba


def _indices(data: Data, picture: Picture) -> NDArray[np.uint8]:
    """The color numbers of one picture, ``H×W``, unpacked by Pillow as a GIF without anything else."""
    head = b"GIF89a" + struct.pack("<HHBBB", *picture.size, 0, 0, 0)
    place = b"," + struct.pack("<HHHHB", 0, 0, *picture.size, picture.interlaced << 6)
    single = b"".join((head, place, data[picture.packed], b";"))
    with translated(GIF.name), open_lazily(single, GIF.name) as opened:
        opened.load()
        indices = np.asarray(opened)
    if indices.shape != (picture.size.height, picture.size.width):
        corrupt("GIF", "a picture in it is not as large as it says")
    return indices
