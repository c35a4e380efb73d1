"""Encoded bytes to an :class:`Image`, no more of it than the pipeline needs.

Owns the order of things: look at the header, check the limits, decode, bring to sRGB, turn upright. The format is told
by the bytes alone. The exceptions of the codecs end here, as errors of our tree. Reentrant; the codecs release the GIL.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import cv2
from numpy.typing import NDArray

from pixelmill.errors import OutOfMemory
from pixelmill.images.formats import Data
from pixelmill.images.header import Header, corrupt
from pixelmill.images.image import EVERYTHING, Image, Need
from pixelmill.images.late import loaded
from pixelmill.images.limits import Limits
from pixelmill.images.orientation import upright
from pixelmill.images.probe import read_header

_Reader: TypeAlias = Callable[[Data, Header, Need], tuple[NDArray[Any], bytes | None]]

_READERS: Mapping[str, str] = {
    "jpeg": "decode_jpeg:read",
    "png": "decode_png:read",
    "webp": "decode_webp:read",
    "avif": "decode_pillow:read",
    "jxl": "decode_jxl:read",
    "heic": "heic:read",
    "tiff": "decode_tiff:read",
    "gif": "decode_pillow:read",
    "bmp": "decode_pillow:read",
    "pnm": "netpbm:read",
    "ico": "icons:read",
    "qoi": "decode_pillow:read",
    "jpeg2000": "decode_pillow:read",
    "svg": "svg:read",
}
"""A :data:`_Reader` for each format."""
_DEFAULT_LIMITS = Limits()


def decode(data: Data, need: Need = EVERYTHING, limits: Limits = _DEFAULT_LIMITS) -> Image:
    """The first frame of an image file, upright, in sRGB.

    Args:
        data: the file's bytes.
        need: what is enough. A JPEG is then decoded at 1/2, 1/4 or 1/8 where that covers ``need.least`` (see
            ``scales.extent`` for what such an image covers), and without color where ``need.color`` is False and the
            file codes luma apart, in sRGB. With ``need.icc`` samples of gray and RGB keep their profile. More than
            needed may come: another format comes whole, and color where it needs converting to sRGB.
        limits: checked on the header, before pixels are allocated.

    Returns:
        gray, RGB or RGBA (gray with alpha too) of ``uint8``; of ``uint16`` from a file with 9 to 16 bits (AVIF gives
        8), of ``float32`` from a TIFF or JPEG XL of such, which keep a profile other than sRGB in ``icc``.
        Pixels are contiguous.

    Raises:
        UnsupportedFormat: not an image, of a kind that is not read, or one that needs an extra (named).
        CorruptImage: truncated or damaged; a part of a picture is never returned.
        LimitExceeded: the header names more than allowed.
        OutOfMemory: the pixels could not be allocated.
    """
    return pixels_of(data, read_header(data, limits), need)


def pixels_of(data: Data, header: Header, need: Need) -> Image:
    """The picture that a header of these bytes tells of: :func:`decode` behind the limits."""
    info = header.info
    try:
        read: _Reader = loaded(_READERS[info.format])
        pixels, icc = read(data, header, need)
        return Image(upright(pixels, info.orientation), icc)
    except MemoryError as error:
        raise _out_of_memory(header) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise _out_of_memory(header) from error
        corrupt(info.format, str(error.err or error))


def _out_of_memory(header: Header) -> OutOfMemory:
    size = header.info.stored_size
    return OutOfMemory(
        f"There is not enough memory to decode {size.width:,}×{size.height:,} pixels. "
        "Use a smaller image, or raise the memory limit of the workers."
    )
