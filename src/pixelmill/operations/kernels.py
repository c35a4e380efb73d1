"""Scales pixels by a named kernel that is stretched over what it shrinks: Pillow's, and OpenCV's for nearest.

Arrays in, arrays out; premultiply transparency before. Kernels that no library of the base install has (Mitchell's,
Lanczos-2) are not here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.operations.pixels import fit_depth

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage
    from PIL.Image import Resampling

Kernel: TypeAlias = Literal["nearest", "box", "bilinear", "bicubic", "lanczos3"]

_PILLOW = {"box": "BOX", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "lanczos3": "LANCZOS"}
"""Names in ``PIL.Image.Resampling``; the bicubic one has a = -0.5, as Keys (1981) recommends."""
_MODES = {1: "L", 3: "RGB", 4: "RGBX"}
"""Four channels are no alpha to Pillow here: what shines through was premultiplied before."""


def scaled_by(pixels: NDArray[Any], size: Size, kernel: Kernel) -> NDArray[Any]:
    """``pixels`` scaled to ``size``; any depth, 1 to 4 channels.

    8 bits as ``PIL.Image.resize`` gives them; deeper samples channel by channel in its mode ``F``, then rounded. Float
    samples may leave the range of the input by a few percent (ringing).
    """
    if kernel == "nearest":
        return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT)
    from PIL import Image as Pil

    method = Pil.Resampling[_PILLOW[kernel]]
    if pixels.dtype == np.uint8:
        mode = _MODES[1 if pixels.ndim == 2 else pixels.shape[2]]
        body = np.ascontiguousarray(pixels)
        return _resized(Pil.frombuffer(mode, body.shape[1::-1], body, "raw", mode, 0, 1), size, method)
    if pixels.ndim == 2:
        done = _resized(Pil.fromarray(pixels.astype(np.float32, copy=False)), size, method)
        return done if pixels.dtype == np.float32 else fit_depth(done, pixels.dtype)
    result = np.empty((size.height, size.width, pixels.shape[2]), pixels.dtype)
    for channel in range(pixels.shape[2]):
        result[..., channel] = scaled_by(np.ascontiguousarray(pixels[..., channel]), size, kernel)
    return result


def _resized(picture: PilImage, size: Size, method: Resampling) -> NDArray[Any]:
    return np.asarray(picture.resize((size.width, size.height), method))
