"""Turns stored pixels the way EXIF says they are to be seen, and back."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.exif import SWAPS_SIDES
from pixelmill.images.image import Size
from pixelmill.images.regions import Region

# What cv2 does for each orientation: a flip (1 left-right, 0 top-bottom), a rotation, or a transpose before a flip.
_FLIPS = {2: 1, 4: 0}
_TURNS = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Pixels (``H×W`` or ``H×W×C``) with orientation 1 to 8 (EXIF 2.32, 4.6.4) applied; contiguous, a copy unless 1.

    >>> upright(np.array([[1, 2]], np.uint8), 6).tolist()
    [[1], [2]]
    """
    if orientation in _FLIPS:
        pixels = cv2.flip(pixels, _FLIPS[orientation])
    elif orientation in _TURNS:
        pixels = cv2.rotate(pixels, _TURNS[orientation])
    elif orientation == 5:
        pixels = cv2.transpose(pixels)
    elif orientation == 7:
        pixels = cv2.flip(cv2.transpose(pixels), -1)
    return np.ascontiguousarray(pixels)


def as_stored(size: Size | None, orientation: int) -> Size | None:
    """A size of the upright picture as a size of the stored one."""
    if size is None or orientation not in SWAPS_SIDES:
        return size
    return Size(size.height, size.width)


def stored_region(region: Region, stored: Size, turn: int) -> Region:
    """Where the pixels of a region of the upright picture lie in the picture as it is stored."""
    left, top, width, height = region
    if turn in SWAPS_SIDES:
        left, top, width, height = top, left, height, width
    if turn in (2, 3, 7, 8):
        left = stored.width - left - width
    if turn in (3, 4, 6, 7):
        top = stored.height - top - height
    return Region(left, top, width, height)
