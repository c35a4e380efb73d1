"""Samples from one depth to another, and transparency onto a color: what formats need that hold less than an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Pixels


def to_uint8(pixels: Pixels) -> NDArray[np.uint8]:
    """Samples of any depth as ``uint8``, rounded to the nearest; the same array if they are so already."""
    if pixels.dtype == np.uint8:
        return np.asarray(pixels, dtype=np.uint8)
    if pixels.dtype == np.uint16:
        # x * 255 / 65535 is x / 257; adding half of the divisor rounds.
        return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _from_float(pixels, 255).astype(np.uint8)


def to_uint16(pixels: Pixels) -> NDArray[np.uint16]:
    """Samples of any depth as ``uint16``, rounded to the nearest; the same array if they are so already."""
    if pixels.dtype == np.uint16:
        return np.asarray(pixels, dtype=np.uint16)
    if pixels.dtype == np.uint8:
        return pixels.astype(np.uint16) * np.uint16(257)
    return _from_float(pixels, 65_535).astype(np.uint16)


def _from_float(pixels: NDArray[Any], full: int) -> NDArray[Any]:
    """0 to 1 as 0 to ``full``, rounded; what is outside is clipped, what is no number is black."""
    known = np.nan_to_num(pixels, nan=0.0, posinf=1.0, neginf=0.0)
    scaled: NDArray[np.float64] = np.rint(np.clip(known, 0.0, 1.0).astype(np.float64) * full)
    return scaled


def flatten(rgba: NDArray[np.uint8], background: tuple[int, int, int]) -> NDArray[np.uint8]:
    """RGB of straight-alpha RGBA over an opaque color: ``a * color + (1 - a) * background``, rounded."""
    alpha = rgba[..., 3:].astype(np.uint16)
    under = np.array(background, dtype=np.uint16)
    return ((rgba[..., :3] * alpha + under * (255 - alpha) + 127) // 255).astype(np.uint8)


def color_of_hex(text: str) -> tuple[int, int, int]:
    """Red, green and blue of ``RRGGBB``."""
    red, green, blue = bytes.fromhex(text)
    return red, green, blue


def straight(pixels: NDArray[Any]) -> NDArray[Any]:
    """RGBA with color that was multiplied by alpha as straight alpha; clear pixels are black.

    >>> straight(np.array([[[64, 0, 128, 128]]], np.uint8)).tolist()
    [[[128, 0, 255, 128]]]
    """
    integer = pixels.dtype.kind == "u"
    full = float(np.iinfo(pixels.dtype).max) if integer else 1.0
    alpha = pixels[..., 3:].astype(np.float64)
    color = np.divide(pixels[..., :3] * full, alpha, out=np.zeros(pixels[..., :3].shape), where=alpha > 0)
    color = np.minimum(np.rint(color) if integer else color, full)
    return np.dstack((color.astype(pixels.dtype), pixels[..., 3]))


def spread_gray(pixels: NDArray[Any]) -> NDArray[Any]:
    """Gray with alpha, ``H×W×2``, as RGBA; and ``H×W×1`` as ``H×W``."""
    return pixels[..., 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., (0, 0, 0, 1)])


def stretch(pixels: NDArray[Any], depth: int) -> NDArray[Any]:
    """Integers of ``depth`` bits (1 to 15) as ones that fill ``uint8`` (up to 8 bits) or ``uint16``, rounded."""
    target = np.uint8 if depth <= 8 else np.uint16
    full, most = int(np.iinfo(target).max), (1 << depth) - 1
    scaled = (np.minimum(pixels, most).astype(np.uint32) * full + most // 2) // most
    return scaled.astype(target)
