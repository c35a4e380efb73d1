"""ICO files: the largest picture of an icon, which is a small PNG or a bitmap with a mask.

A PNG inside goes the way of every PNG. A bitmap goes through Pillow's icon reader, after its own size was read: what
the directory of the icon says is no more than a hint. Source: Microsoft, "Icons", the ICONDIR structures.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images import decode_png, png_header
from pixelmill.images.formats import ICO, PNG, Data
from pixelmill.images.header import Header, IconFacts, corrupt, no_such_frame
from pixelmill.images.image import ImageInfo, Need, Size
from pixelmill.images.pillow_files import translated

_MAX_SIDE = 1_024
"""Of a bitmap inside; the directory can't even say more than 256."""


def read_header(data: Data, number: int = 0) -> Header:
    """The header of a picture; they are sorted, the largest is the first."""
    from PIL.BmpImagePlugin import DibImageFile
    from PIL.IcoImagePlugin import IcoFile

    with translated(ICO.name):
        entries = IcoFile(io.BytesIO(data)).entry
        if not entries:
            corrupt("ICO", "there is no picture in it")
        if number >= len(entries):
            raise no_such_frame(ICO.name, number, len(entries))
        start, end = entries[number].offset, entries[number].offset + entries[number].size
        if PNG.matches(data[start : start + 8]):
            return _of_png(data, number, start, min(end, len(data)))
        if end > len(data):
            corrupt("ICO", "it ends before the picture does")
        with DibImageFile(io.BytesIO(data[start:end])) as bitmap:
            size = Size(bitmap.size[0], bitmap.size[1] // 2)  # the mask stands below the picture
            raw = bitmap.tile[0].codec_name == "raw"
    if min(size) < 1 or max(size) > _MAX_SIDE or not raw:
        corrupt("ICO", f"the bitmap in it gives the size {size.width}×{size.height}, or is coded as no icon is")
    return Header(_info(data, size, "rgba", has_alpha=True), IconFacts(number))


def _info(data: Data, size: Size, mode: str, *, has_alpha: bool, depth: int = 8, has_icc: bool = False) -> ImageInfo:
    return ImageInfo(ICO.name, ICO.media_type, size, size, mode, depth, has_alpha, has_icc=has_icc, bytes=len(data))


def _of_png(data: Data, number: int, start: int, end: int) -> Header:
    inside = png_header.read(data[start:end]).info
    info = _info(
        data,
        inside.stored_size,
        inside.mode,
        has_alpha=inside.has_alpha,
        depth=inside.depth,
        has_icc=inside.has_icc,
    )
    return Header(info, IconFacts(number, (start, end)))


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Pixels in sRGB, RGBA from a bitmap; and the profile that a PNG of 16 bits keeps."""
    from PIL.IcoImagePlugin import IcoFile

    facts = header.facts
    assert isinstance(facts, IconFacts)
    if facts.png is not None:
        inside = data[slice(*facts.png)]
        return decode_png.read(inside, png_header.read(inside), need)
    with translated(ICO.name):
        picture = IcoFile(io.BytesIO(data)).frame(facts.entry)
        picture.load()
        pixels = np.array(picture.convert("RGBA"))
    if pixels.shape[:2] != (header.info.size.height, header.info.size.width):
        corrupt("ICO", "its picture is not as large as its header says")
    return pixels, None
