"""Work on luma that leaves colors alone: luma out of an image, and back into it. Knows no operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image
from pixelmill.images.samples import to_uint16
from pixelmill.operations.pixels import pointwise


def luma_of(image: Image) -> NDArray[Any]:
    """What :func:`on_luma` would work on: ``uint8`` or ``uint16``, ``H×W``."""
    pixels: NDArray[Any] = image.pixels
    if pixels.dtype == np.float32:
        pixels = np.clip(np.nan_to_num(pixels), 0.0, 1.0)
    if pixels.ndim == 3:
        pixels = _split(np.ascontiguousarray(pixels[..., :3]))[..., 0]
    return to_uint16(pixels) if pixels.dtype == np.float32 else np.ascontiguousarray(pixels)


def on_luma(colors: NDArray[Any], run: Callable[[NDArray[Any]], NDArray[Any]]) -> NDArray[Any]:
    """``run`` on gray, or on the luma of YCrCb; of ``uint8`` or ``uint16``, floats go through the latter."""

    def at_depth(luma: NDArray[Any]) -> NDArray[Any]:
        luma = np.ascontiguousarray(luma)
        return (run(to_uint16(luma)) / np.float32(65_535)).astype(np.float32) if luma.dtype == np.float32 else run(luma)

    if colors.ndim == 2:
        return at_depth(colors)
    split = _split(colors)
    split[..., 0] = at_depth(split[..., 0])
    return pointwise(lambda part: cv2.cvtColor(part, cv2.COLOR_YCrCb2RGB), split)


def _split(colors: NDArray[Any]) -> NDArray[Any]:
    return pointwise(lambda part: cv2.cvtColor(part, cv2.COLOR_RGB2YCrCb), colors)
