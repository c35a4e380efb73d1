"""WebP bytes to pixels by OpenCV's libwebp (a third less CPU than Pillow, which decodes every file as an animation).

Of an animation the first frame is decoded, by Pillow, on the whole canvas.
"""

from __future__ import annotations

import io
import struct

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import CorruptImage
from pixelmill.images import color, webp_header
from pixelmill.images.formats import Data
from pixelmill.images.header import Header, WebpFacts, corrupt
from pixelmill.images.image import Need


def read(data: Data, header: Header, need: Need) -> tuple[NDArray[np.uint8], bytes | None]:
    """Pixels as stored (not turned), RGB or RGBA, in sRGB; and a profile that is kept.

    libwebp could scale, but no wrapper at hand lets it.
    """
    facts, info = header.facts, header.info
    assert isinstance(facts, WebpFacts)
    check_end(data)
    pixels = _first_frame(data) if facts.animated else _still(data)
    if pixels.shape[:2] != (info.stored_size.height, info.stored_size.width):
        corrupt("WebP", "its picture is not as large as its header says")
    return color.managed(pixels, webp_header.profile(data, facts), "rgb", keep=need.icc)


def check_end(data: Data) -> None:
    """Raise :class:`CorruptImage` where the file is shorter than it says."""
    (length,) = struct.unpack_from("<I", data, 4)
    if 8 + length > len(data) + (length & 1):
        corrupt("WebP", "it ends before the picture does")


def _still(data: Data) -> NDArray[np.uint8]:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if pixels is None or pixels.ndim != 3:
        corrupt("WebP", "its pixels can't be unpacked")
    code = cv2.COLOR_BGR2RGB if pixels.shape[2] == 3 else cv2.COLOR_BGRA2RGBA
    return np.asarray(cv2.cvtColor(pixels, code, dst=pixels), dtype=np.uint8)


def _first_frame(data: Data) -> NDArray[np.uint8]:
    from PIL.WebPImagePlugin import WebPImageFile

    try:
        with WebPImageFile(io.BytesIO(data)) as picture:
            picture.load()
            return np.array(picture if picture.mode in ("RGB", "RGBA") else picture.convert("RGBA"))
    except (OSError, SyntaxError, ValueError, TypeError, EOFError) as error:
        raise CorruptImage(f"The WebP file is damaged: {error}. Get a fresh copy of it.", format="webp") from error
