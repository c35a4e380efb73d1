"""Marks on images of every depth: what operations that find something draw with. Arrays in, new arrays out."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image, Size
from pixelmill.images.regions import Region
from pixelmill.images.samples import to_uint8
from pixelmill.operations.pixels import channels_of_color


def rgb8_of(image: Image) -> NDArray[np.uint8]:
    """Eight-bit RGB, ``H×W×3``; alpha is dropped."""
    pixels = to_uint8(image.pixels)
    return cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB) if pixels.ndim == 2 else np.ascontiguousarray(pixels[..., :3])


def channels_with_color(channels: int) -> int:
    """How many channels an image has once something is drawn into it in color."""
    return 3 if channels == 1 else channels


def in_color(image: Image) -> Image:
    """The image, as RGB if it is gray (its profile described gray, and goes)."""
    return image if image.channels > 1 else Image(cv2.cvtColor(image.pixels, cv2.COLOR_GRAY2RGB))


def painted(image: Image, mask: NDArray[Any], color: str) -> Image:
    """A copy in color where ``mask`` (``H×W``) isn't zero."""
    base = in_color(image)
    pixels = base.pixels.copy()
    pixels[mask != 0] = channels_of_color(color, pixels.dtype)[: base.channels]
    return base.with_pixels(pixels)


def line_width(size: Size) -> int:
    """Pixels of a line that is seen when the whole image is."""
    return max(1, round(max(size) / 500))


def outlined(image: Image, boxes: list[tuple[int, int, int, int]], color: str) -> Image:
    """A copy with the outlines of boxes (left, top, width, height), drawn within them as far as lines are thin."""
    return outlined_part(image, boxes, color, image.size, Region(0, 0, *image.size))


def outlined_part(part: Image, boxes: list[tuple[int, int, int, int]], color: str, size: Size, region: Region) -> Image:
    """:func:`outlined` of a region of an image of ``size``."""
    mask = np.zeros(part.pixels.shape[:2], np.uint8)
    width = line_width(size)
    for x, y, w, h in boxes:
        left, top = x - region.left, y - region.top
        if left - width < region.width and top - width < region.height and min(left + w, top + h) + width > 0:
            _outline(mask, left, top, w, h, width)
    return painted(part, mask, color)


def _outline(mask: NDArray[np.uint8], left: int, top: int, width: int, height: int, line: int) -> None:
    """What ``cv2.rectangle`` draws; only what lies near the mask, for it can't count far."""
    rows, columns = mask.shape
    reach = line + 2
    x, right = max(left, -reach), min(left + width - 1, columns + reach)
    y, bottom = max(top, -reach), min(top + height - 1, rows + reach)
    cv2.rectangle(mask, (x, y), (right, bottom), 255, line)
