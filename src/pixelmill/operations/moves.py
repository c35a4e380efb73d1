"""Geometry over tiles: which part of an image a part of the result shows, in integers of the whole image.

Warps are OpenCV's own: its tables of coordinates (in 1/32 of a pixel) are computed for a part of the result, and
``cv2.remap`` does the rest. Knows no operation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.passes import Array, Form, Map, Move, Pass
from pixelmill.operations.pixels import channels_with

_SUBPIXELS = 32
_FINE = 1_024
"""Steps of a pixel in which OpenCV adds up coordinates of an affine warp."""
_BLOCK_HEIGHT, _BLOCK = 16, 1_024
"""OpenCV's blocks of a perspective warp: rows, and pixels at most."""
_REACH = (1, 2)
"""Pixels before and behind that a cubic looks at."""


def clipped(left: int, top: int, right: int, bottom: int, size: Size) -> Region:
    """The part of these bounds that lies within ``size``; a pixel of the border where they lie beside it."""
    x, y = min(max(0, left), size.width - 1), min(max(0, top), size.height - 1)
    right, bottom = min(right, size.width), min(bottom, size.height)
    return Region(x, y, max(1, right - x), max(1, bottom - y))


def placed_move(
    name: str,
    size: Size,
    window: Region,
    at: tuple[int, int],
    fill: Callable[[Array], Array] | None = None,
    turn: Turn | None = None,
    **form: Any,
) -> Move:
    """Pixels that are cut out, turned and laid onto a background, and keep their values.

    The result has ``size``. ``window`` is what is seen of the turned image, and ``at`` where its corner lies in the
    result. ``fill`` gives the pixel of the background for pixels of the image; None where the window fills the result.
    """
    turned = turn or Turn(size=Size(window.right, window.bottom), quarters=0, flip=None)
    x, y = at[0] - window.left, at[1] - window.top

    def seen(region: Region) -> Region:
        """The part of the turned image that shows."""
        left, top = max(region.left - x, window.left), max(region.top - y, window.top)
        right, bottom = min(region.right - x, window.right), min(region.bottom - y, window.bottom)
        return Region(left, top, max(0, right - left), max(0, bottom - top))

    def source(region: Region) -> Region:
        part = seen(region)
        return turned.back(part) if part.pixels else Region(0, 0, 1, 1)

    def apply(pixels: Array, source: Region, region: Region) -> Array:
        del source
        part = seen(region)
        if fill is None:
            return turned.of(pixels)
        if not part.pixels:
            return np.broadcast_to(fill(pixels), (region.height, region.width, *pixels.shape[2:])).copy()
        done = turned.of(pixels)
        if part.width == region.width and part.height == region.height:
            return done
        canvas = np.empty((region.height, region.width, *done.shape[2:]), done.dtype)
        canvas[...] = fill(pixels)
        left, top = part.left + x - region.left, part.top + y - region.top
        canvas[top : top + part.height, left : left + part.width] = done
        return canvas

    return Move(name, size, source, apply, ns_per_pixel=0.2, memory_factor=2.0, **form)


class Turn(NamedTuple):
    """Quarter turns clockwise, or a mirror, of an image of ``size``."""

    size: Size
    quarters: int
    flip: int | None
    """OpenCV's code: 0 top to bottom, 1 left to right, -1 both."""

    def of(self, pixels: Array) -> Array:
        """The pixels, turned."""
        if self.flip is not None:
            return cv2.flip(pixels, self.flip).reshape(pixels.shape)
        if not self.quarters:
            return np.ascontiguousarray(pixels)
        return cv2.rotate(
            pixels, (cv2.ROTATE_90_CLOCKWISE, cv2.ROTATE_180, cv2.ROTATE_90_COUNTERCLOCKWISE)[self.quarters - 1]
        )

    def back(self, region: Region) -> Region:
        """What of the image is seen in a region of the turned one."""
        width, height = self.size
        left, top, w, h = region
        if self.flip is not None:
            return Region(
                width - left - w if self.flip else left, height - top - h if self.flip in (0, -1) else top, w, h
            )
        if self.quarters == 1:
            return Region(top, height - left - w, h, w)
        if self.quarters == 2:
            return Region(width - left - w, height - top - h, w, h)
        if self.quarters == 3:
            return Region(width - top - h, left, h, w)
        return region


Table = Callable[[Region], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""For a region of the result: x and y in the image, in 1/32 of a pixel; each broadcasts to the region."""


def affine_table(matrix: NDArray[np.float64]) -> Table:
    """That of ``cv2.warpAffine`` with ``matrix``, which goes from the image to the result."""
    a, b, c, d, e, f = (float(value) for value in matrix.ravel())
    determinant = a * e - b * d
    scale = 1.0 / determinant if determinant else 0.0
    a, b, d, e = e * scale, -b * scale, -d * scale, a * scale
    c, f = -a * c - b * f, -d * c - e * f
    half = _FINE // _SUBPIXELS // 2

    def table(region: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        x, y = np.arange(region.left, region.right), np.arange(region.top, region.bottom)[:, np.newaxis]
        across, down = (
            np.rint((along * y + start) * _FINE).astype(np.int64) + half + np.rint(step * x * _FINE).astype(np.int64)
            for step, along, start in ((a, b, c), (d, e, f))
        )
        return across >> 5, down >> 5

    return table


def perspective_table(matrix: NDArray[np.float64], size: Size) -> Table:
    """That of ``cv2.warpPerspective`` to ``size``, which adds up coordinates within blocks."""
    m = np.linalg.inv(matrix) if matrix.dtype != np.float64 else cv2.invert(matrix)[1]
    high = min(_BLOCK_HEIGHT, size.height)
    wide = min(_BLOCK // high, size.width)

    def table(region: Region) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        x, y = np.arange(region.left, region.right), np.arange(region.top, region.bottom)[:, np.newaxis]
        start, step = (x // wide * wide).astype(np.float64), (x % wide).astype(np.float64)
        rows = [m[row, 0] * start + m[row, 1] * y + m[row, 2] for row in range(3)]
        depth = rows[2] + m[2, 0] * step
        depth = np.divide(float(_SUBPIXELS), depth, out=np.zeros_like(depth), where=depth != 0)
        least, most = float(np.iinfo(np.int32).min), float(np.iinfo(np.int32).max)
        across, down = (
            np.rint(np.clip((rows[row] + m[row, 0] * step) * depth, least, most)).astype(np.int64) for row in (0, 1)
        )
        return across, down

    return table


def warped_source(table: Table, size: Size) -> Callable[[Region], Region]:
    """What a cubic looks at for a region of the result, of an image of ``size``; corners are the farthest."""

    def source(region: Region) -> Region:
        corners = [
            table(Region(x, y, 1, 1)) for x in (region.left, region.right - 1) for y in (region.top, region.bottom - 1)
        ]
        xs, ys = ([int(corner[axis].ravel()[0]) >> 5 for corner in corners] for axis in (0, 1))
        before, behind = _REACH[0] + 1, _REACH[1] + 2
        left, right = np.clip((min(xs), max(xs)), 0, size.width - 1).tolist()
        top, bottom = np.clip((min(ys), max(ys)), 0, size.height - 1).tolist()
        return clipped(left - before, top - before, right + behind, bottom + behind, size)

    return source


def warped(
    pixels: Array, table: Table, source: Region, region: Region, border: int, value: tuple[float, ...] = (0, 0, 0, 0)
) -> Array:
    """The region of a cubic warp, from the pixels of ``source``; ``border`` is OpenCV's number of a kind of border."""
    across, down = table(region)
    low, high = np.iinfo(np.int16).min, np.iinfo(np.int16).max
    places = np.empty((region.height, region.width, 2), np.int16)
    places[..., 0] = np.clip((across >> 5) - source.left, low, high)
    places[..., 1] = np.clip((down >> 5) - source.top, low, high)
    shares = ((down & 31) * _SUBPIXELS + (across & 31)).astype(np.uint16)
    return cv2.remap(pixels, places, shares, cv2.INTER_CUBIC, borderMode=border, borderValue=value)


def roomy(form: Form, *colors: str | None) -> tuple[Pass, ...]:
    """Gray as RGB where one of these colors isn't gray; nothing otherwise."""
    channels = form.channels
    for color in colors:
        channels = channels_with(color, channels)
    if channels == form.channels:
        return ()
    return (Map("rgb", lambda pixels, _: cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB), channels=3, memory_factor=4.0),)
