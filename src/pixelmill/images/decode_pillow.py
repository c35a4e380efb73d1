"""Pixels of the formats that Pillow decodes whole: AVIF, GIF, BMP, QOI, JPEG 2000. The first frame of an animation.

AVIF with more than 8 bits a sample, and color of more than 8 bits in JPEG 2000, come with 8: Pillow gives no more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.formats import AVIF, GIF, JPEG2000, Data
from pixelmill.images.header import Header, corrupt
from pixelmill.images.image import Need
from pixelmill.images.pillow_files import open_lazily, profile_of, title, to_pixels, translated

_HUNGER = {AVIF.name: 10, JPEG2000.name: 20}
"""Bytes a pixel at the peak of decoders that call it damage when they get no memory."""

_CODESTREAM, _END = b"\xff\x4f\xff\x51", b"\xff\xd9"


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[Any], bytes | None]:
    """Pixels as stored (not turned) in sRGB, and the profile where it is kept."""
    name = header.info.format
    if name == JPEG2000.name:
        _check_end(data)
    np.empty(header.info.stored_size.pixels * _HUNGER.get(name, 0), np.uint8)  # MemoryError here names the reason
    with translated(name), open_lazily(data, name) as picture:
        if picture.size != header.info.stored_size:
            corrupt(title(name), "its picture is not as large as its header says")
        if name == GIF.name and not picture.tile:
            corrupt("GIF", "there is no picture in it")
        pixels, icc = to_pixels(picture, profile_of(picture), keep=need.icc)
    if pixels.shape[:2] != (header.info.stored_size.height, header.info.stored_size.width):
        corrupt(title(name), "its picture is not as large as its header says")
    return pixels, icc


def _check_end(data: Data) -> None:
    """OpenJPEG fills up a file that ends early; its end marker can't occur in the packets before (annex A.1.2)."""
    whole = bytes(data)
    start = whole.find(_CODESTREAM)
    if start < 0 or whole.find(_END, start) < 0:
        corrupt("JPEG 2000", "it ends before the picture does")
