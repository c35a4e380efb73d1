"""Looks at an image file without decoding it: format, size, mode, orientation, frames; and checks the limits.

No pixel is allocated: a few microseconds for a JPEG. Headers of rarer formats are read by Pillow, lazily. The pixels
behind a good header may still be broken; only ``decode`` finds that.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from pixelmill.images.formats import Data, identify
from pixelmill.images.header import Header, corrupt, no_such_frame
from pixelmill.images.image import ImageInfo
from pixelmill.images.late import loaded
from pixelmill.images.limits import Limits

_READERS: Mapping[str, str] = {
    "jpeg": "jpeg_header:read",
    "png": "png_header:read",
    "webp": "webp_header:read",
    "avif": "pillow_header:avif",
    "jxl": "jxl_header:read",
    "heic": "heic:read_header",
    "tiff": "tiff_header:read",
    "gif": "pillow_header:gif",
    "bmp": "pillow_header:bmp",
    "pnm": "netpbm:read_header",
    "ico": "icons:read_header",
    "qoi": "pillow_header:qoi",
    "jpeg2000": "pillow_header:jpeg2000",
    "svg": "svg:read_header",
}
"""From bytes to a :class:`Header`, for each format."""

_DEFAULT_LIMITS = Limits()

_PAGES = frozenset({"tiff", "ico"})
"""Formats whose pages or pictures have headers of their own."""


def probe(data: Data, limits: Limits = _DEFAULT_LIMITS, frame: int | None = None) -> ImageInfo:
    """What the header says.

    Args:
        data: the file's bytes; the first part of it, up to the pixels, is enough.
        limits: what is accepted; pixels count all frames of an animation, although only one is asked for.
        frame: number, from 0, of the frame, page or picture that is asked for. Pages of a TIFF and pictures of an ICO
            have a size of their own; they are told of as ``frame`` None tells of the first.

    Raises:
        NotApplicable: there is no such frame.
        UnsupportedFormat: not an image, or of a format that is not read; the message names it where it is known.
        CorruptImage: the header is truncated or contradicts itself.
        LimitExceeded: more bytes, pixels or pixels a side than allowed.
    """
    return read_header(data, limits, frame).info


def read_header(data: Data, limits: Limits, frame: int | None = None) -> Header:
    """Like :func:`probe`, with what a decoder must know beside it."""
    limits.check_bytes(len(data))
    fmt = identify(data)
    try:
        read = loaded(_READERS[fmt.name])
        header: Header = read(data, frame) if frame and fmt.name in _PAGES else read(data)
    except (struct.error, IndexError):
        # The readers check every length; this is the net below them.
        corrupt(fmt.name, "its header can't be read")
    count = header.info.frames if fmt.animated else 1  # of other formats the first picture alone is decoded
    if frame and fmt.name not in _PAGES and frame >= count:
        raise no_such_frame(fmt.name, frame, count)
    limits.check_info(header.info)
    return header
