"""Helpers on arrays of pixels that several families need. Shapes and dtypes are those of ``Image``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def maximum(dtype: np.dtype[Any]) -> float:
    """The sample value of white: 255, 65,535 or 1."""
    return 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)


def luma(pixels: Array) -> Array:
    """BT.601 luma, ``H×W``; OpenCV's ``RGB2GRAY``. Alpha is left out."""
    if pixels.ndim == 2:
        return pixels
    code = cv2.COLOR_RGBA2GRAY if pixels.shape[2] == 4 else cv2.COLOR_RGB2GRAY
    return cv2.cvtColor(pixels, code)


def on_colors(pixels: Array, function: Callable[[Array], Array]) -> Array:
    """Apply ``function`` to gray or RGB; the alpha of RGBA stays as it is."""
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return function(pixels)
    changed = function(np.ascontiguousarray(pixels[..., :3]))
    return np.dstack([changed, pixels[..., 3]])


def premultiplied(pixels: Array, function: Callable[[Array], Array], *, opaque_too: bool = False) -> Array:
    """Apply a linear filter or resampling; colors of RGBA are weighted by alpha, so transparent ones don't bleed.

    ``function`` gets premultiplied ``float32`` from 0 to 1, or ``pixels`` as they are where nothing is transparent,
    unless ``opaque_too`` asks for weights there as well (``function`` brings transparency in).
    """
    if pixels.ndim == 2 or pixels.shape[2] == 3:
        return function(pixels)
    white = maximum(pixels.dtype)
    floats = pixels.astype(np.float32) / np.float32(white)
    alpha = floats[..., 3:]
    if not opaque_too and alpha.min() == 1.0:
        return function(pixels)
    floats[..., :3] *= alpha
    changed = function(floats)
    alpha = np.clip(changed[..., 3:], 0, 1)
    colors = np.divide(changed[..., :3], alpha, out=np.zeros_like(changed[..., :3]), where=alpha > 1e-6)
    return from_float(np.concatenate([colors, alpha], axis=-1), pixels.dtype)


def from_float(pixels: Array, dtype: np.dtype[Any]) -> Array:
    """Samples from 0 to 1 in another dtype, clipped and rounded."""
    clipped = np.clip(pixels, 0, 1)
    return clipped.astype(np.float32) if dtype == np.float32 else np.rint(clipped * maximum(dtype)).astype(dtype)
