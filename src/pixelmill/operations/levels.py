"""Counts of samples by level, and what follows from them: order statistics, means, equalization, Otsu's threshold.

All are of integers, so that counts of parts add up to those of the whole to the last bit; floats count at 16 bits.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.samples import to_uint16

Counts = NDArray[np.int64]
"""By level; or by channel and level."""
_AT_ONCE = 1 << 23
"""Samples that OpenCV counts at once: its counts are ``float32``, exact below 1 << 24."""


def counted(samples: NDArray[Any]) -> Counts:
    """How often each level occurs: 256 of ``uint8``, 65,536 of ``uint16``; floats as 16 bits."""
    levels = to_uint16(samples) if samples.dtype == np.float32 else samples
    number = int(np.iinfo(levels.dtype).max) + 1
    flat = np.ascontiguousarray(levels).ravel()
    total = np.zeros(number, np.int64)
    for start in range(0, len(flat), _AT_ONCE):
        part = flat[start : start + _AT_ONCE]
        total += cv2.calcHist([part.reshape(1, -1)], [0], None, [number], [0, number]).ravel().astype(np.int64)
    return total


def counted_channels(samples: NDArray[Any]) -> Counts:
    """The same of each channel of ``N×C`` samples."""
    return np.stack([counted(samples[:, channel]) for channel in range(samples.shape[1])])


def at_percentile(counts: Counts, percent: float) -> NDArray[np.int64]:
    """Of each row of ``counts``: the least level with at least so many percent of all samples up to it."""
    rank = max(0, math.ceil(int(counts[0].sum()) * (percent / 100)) - 1)
    return np.array([np.searchsorted(np.cumsum(row), rank, side="right") for row in counts], np.int64)


def means(counts: Counts) -> NDArray[np.float64]:
    """Of each row of ``counts``, from exact sums."""
    levels = np.arange(counts.shape[1])
    return np.array([int(row @ levels) / int(row.sum()) for row in counts])


def equalizing(counts: Counts) -> NDArray[Any] | None:
    """The table of histogram equalization, as ``cv2.equalizeHist`` has it at 8 bits; None: all samples are alike."""
    full = len(counts) - 1
    first = int(np.argmax(counts > 0))
    others = int(counts.sum()) - int(counts[first])
    if not others:
        return None
    above = np.maximum(np.cumsum(counts) - counts[first], 0)
    above[: first + 1] = 0
    if full == 255:  # OpenCV computes in 32 bits
        return np.rint(above.astype(np.float32) * (np.float32(full) / np.float32(others))).astype(np.uint8)
    return np.rint(above * (full / others)).astype(np.uint16)


def otsu(counts: Counts) -> int:
    """Otsu's threshold (1979): the last level of the darker side; in the order of OpenCV's own arithmetic."""
    scale = 1.0 / int(counts.sum())
    mean = 0.0
    for level, count in enumerate(counts.tolist()):
        mean += level * float(count)
    mean *= scale
    least, most = float(np.finfo(np.float32).eps), 1.0 - float(np.finfo(np.float32).eps)
    below, mean_below, best, found = 0.0, 0.0, 0.0, 0
    for level, count in enumerate(counts.tolist()):
        share = float(count) * scale
        mean_below *= below
        below += share
        above = 1.0 - below
        if min(below, above) < least or max(below, above) > most:
            continue
        mean_below = (mean_below + level * share) / below
        mean_above = (mean - below * mean_below) / above
        spread = below * above * (mean_below - mean_above) * (mean_below - mean_above)
        if spread > best:
            best, found = spread, level
    return found
