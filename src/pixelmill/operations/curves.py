"""Maps samples by curves: a rounded table for integer images, the curve itself for float ones.

Knows nothing of operations but that they have a curve. Several curves in a row give the same samples, to the bit, as
one after the other: tables are composed, and floats are clipped and rounded to ``float32`` between two curves.
"""

from __future__ import annotations

import functools
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Pixels

_BLOCK_SAMPLES = 1 << 18
"""Float images are mapped in blocks of about this many samples, so that double precision costs 2 MB and not 8 bytes
a sample."""


class HasCurve(Protocol):
    """Hashable, and equal if the curve is."""

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Samples from 0 to 1 in, any values out."""
        ...

    def __hash__(self) -> int: ...


@functools.lru_cache(maxsize=64)
def _table(curves: tuple[HasCurve, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    """The table of all curves, one after the other, each rounded: 256 or 65,536 entries, read-only."""
    full = np.iinfo(dtype).max
    levels = np.arange(full + 1) / full
    table = np.arange(full + 1, dtype=dtype)
    for item in curves:
        step = np.rint(np.clip(item.curve(levels), 0.0, 1.0) * full).astype(dtype)
        table = step[table]
    table.flags.writeable = False
    return table


def map_samples(pixels: Pixels, curves: tuple[HasCurve, ...]) -> NDArray[Any]:
    """``pixels`` (gray, RGB or RGBA; any depth) with every color sample mapped by each curve in turn; alpha is kept."""
    if pixels.dtype == np.float32:
        return _map_floats(pixels, curves)
    mapped: NDArray[Any] = cv2.LUT(pixels, _table(curves, pixels.dtype)).reshape(pixels.shape)
    return _with_alpha_of(mapped, pixels)


def _map_floats(pixels: NDArray[Any], curves: tuple[HasCurve, ...]) -> NDArray[Any]:
    result = np.empty_like(pixels)
    rows = max(1, _BLOCK_SAMPLES // max(1, pixels[0].size))
    for top in range(0, len(pixels), rows):
        block = np.clip(np.nan_to_num(pixels[top : top + rows]), 0.0, 1.0)
        for item in curves:
            block = np.clip(item.curve(block.astype(np.float64)), 0.0, 1.0).astype(np.float32)
        result[top : top + rows] = block
    return _with_alpha_of(result, pixels)


def _with_alpha_of(mapped: NDArray[Any], pixels: Pixels) -> NDArray[Any]:
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        mapped[..., 3] = pixels[..., 3]
    return mapped
