"""Looks at an image file without decoding it: format, size, mode, orientation, frames; and checks the limits.

No pixel is allocated: a few microseconds for a JPEG. Headers of rarer formats are read by Pillow, lazily. The pixels
behind a good header may still be broken; only ``decode`` finds that.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping

from pixelmill.images import (
    heic,
    icons,
    jpeg_header,
    jxl_header,
    netpbm,
    pillow_header,
    png_header,
    svg,
    tiff_header,
    webp_header,
)
from pixelmill.images.formats import Data, identify
from pixelmill.images.header import Header, corrupt
from pixelmill.images.image import ImageInfo
from pixelmill.images.limits import Limits

_READERS: Mapping[str, Callable[[Data], Header]] = {
    "jpeg": jpeg_header.read,
    "png": png_header.read,
    "webp": webp_header.read,
    "avif": pillow_header.avif,
    "jxl": jxl_header.read,
    "heic": heic.read_header,
    "tiff": tiff_header.read,
    "gif": pillow_header.gif,
    "bmp": pillow_header.bmp,
    "pnm": netpbm.read_header,
    "ico": icons.read_header,
    "qoi": pillow_header.qoi,
    "jpeg2000": pillow_header.jpeg2000,
    "svg": svg.read_header,
}

_DEFAULT_LIMITS = Limits()


def probe(data: Data, limits: Limits = _DEFAULT_LIMITS) -> ImageInfo:
    """What the header says.

    Args:
        data: the file's bytes; the first part of it, up to the pixels, is enough.
        limits: what is accepted; pixels count all frames of an animation, although only the first is decoded.

    Raises:
        UnsupportedFormat: not an image, or of a format that is not read; the message names it where it is known.
        CorruptImage: the header is truncated or contradicts itself.
        LimitExceeded: more bytes, pixels or pixels a side than allowed.
    """
    return read_header(data, limits).info


def read_header(data: Data, limits: Limits) -> Header:
    """Like :func:`probe`, with what a decoder must know beside it."""
    limits.check_bytes(len(data))
    fmt = identify(data)
    try:
        header = _READERS[fmt.name](data)
    except (struct.error, IndexError):
        # The readers check every length; this is the net below them.
        corrupt(fmt.name, "its header can't be read")
    limits.check_info(header.info)
    return header
