"""Pictures of few colors: the palette that serves a picture best, and the picture by its numbers in it.

8-bit RGB in; what a file does with a palette, or an operation with the colors, is their business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

_SAMPLES = 16_384
"""Pixels of the grid that stands for the whole picture."""
_ROUNDS = 10
"""Of k-means; it hardly moves afterwards."""


def quantized(rgb: NDArray[np.uint8], count: int, *, dither: bool) -> PilImage:
    """The picture (``H×W×3``) in Pillow's mode ``P`` with at most ``count`` colors, exactly where it has no more.

    ``dither`` spreads the error to the neighbors (Floyd and Steinberg 1976), else each pixel is the nearest color, as
    near as Pillow looks (four levels).
    """
    from PIL import Image as Pil

    picture = Pil.fromarray(np.ascontiguousarray(rgb))
    if picture.getcolors(count) is not None:
        return picture.quantize(count, Pil.Quantize.MEDIANCUT, dither=Pil.Dither.NONE)
    holder = Pil.new("P", (1, 1))
    holder.putpalette(palette_of(rgb, count).tobytes())
    return picture.quantize(palette=holder, dither=Pil.Dither.FLOYDSTEINBERG if dither else Pil.Dither.NONE)


def palette_of(rgb: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """At most ``count`` colors, ``N×3``, for a picture; always the same ones.

    OpenCV's k-means, started from Pillow's maximum coverage, over a grid of pixels and, of every cell of 8 levels a
    side that any pixel of the picture lies in, the mean: so a small spot of its own color has a color, which median
    cut gives away. The comparison is in ``docs/decisions/2026-11-21-palettes.md``.
    """
    from PIL import Image as Pil

    samples = np.concatenate((_grid(rgb), _cells(rgb))).astype(np.float32)
    start = Pil.fromarray(np.rint(samples).astype(np.uint8)[np.newaxis]).quantize(count, Pil.Quantize.MAXCOVERAGE)
    colors = np.array(start.getpalette(), np.uint8).reshape(-1, 3)
    seeds = np.unique(colors[np.unique(np.asarray(start))], axis=0)
    centers = seeds.astype(np.float32)
    nearest = np.argmin((centers**2).sum(axis=1) - 2 * samples @ centers.T, axis=1).astype(np.int32)
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, _ROUNDS, 0.5)
    _, _, found = cv2.kmeans(samples, len(seeds), nearest[:, np.newaxis], stop, 1, cv2.KMEANS_USE_INITIAL_LABELS)
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


def _grid(rgb: NDArray[np.uint8]) -> NDArray[Any]:
    """Every so many pixels of every so many rows, ``N×3``."""
    step = max(1, int(np.ceil(np.sqrt(rgb.shape[0] * rgb.shape[1] / _SAMPLES))))
    grid: NDArray[Any] = rgb[min(step // 2, rgb.shape[0] - 1) :: step, min(step // 2, rgb.shape[1] - 1) :: step]
    return grid.reshape(-1, 3)


def _cells(rgb: NDArray[np.uint8]) -> NDArray[Any]:
    """The mean of what lies in each cell of 8×8×8 levels that anything lies in, ``N×3``."""
    counts = np.zeros(1 << 15)
    sums = np.zeros((3, 1 << 15))
    rows = max(1, (1 << 18) // rgb.shape[1])
    for start in range(0, len(rgb), rows):  # some rows at a time, for the sake of memory
        part = rgb[start : start + rows].reshape(-1, 3)
        coarse = (part >> 3).astype(np.int32)
        cell = coarse[:, 0] << 10 | coarse[:, 1] << 5 | coarse[:, 2]
        counts += np.bincount(cell, minlength=1 << 15)
        for channel in range(3):
            sums[channel] += np.bincount(cell, part[:, channel], minlength=1 << 15)
    used = counts > 0
    means: NDArray[Any] = (sums[:, used] / counts[used]).T
    return means
