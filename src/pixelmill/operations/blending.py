"""One picture over another: blend modes, and Porter and Duff's "over" with straight alpha.

Arrays in, arrays out, of any depth; nothing here writes into its input or knows where a mark comes from.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.pixels import fit_depth, full_scale

Blend: TypeAlias = Literal["normal", "multiply", "screen", "overlay"]

_BAND = 1 << 16
"""Pixels that are worked on at a time."""


def over(color: NDArray[Any], alpha: NDArray[Any], base: NDArray[Any], blend: Blend = "normal") -> NDArray[Any]:
    """The mark over the base (Porter and Duff 1984), straight alpha in and out.

    ``color`` is ``H×W×1`` or ``H×W×3`` with the color channels of ``base`` and on its scale, ``alpha`` is ``H×W×1``
    from 0 to 1, either may be one pixel; ``base`` is gray, RGB or RGBA. Modes as in the W3C's Compositing and Blending
    Level 1. Works on some rows at a time, for its float samples take many times the memory of the base.
    """
    height, width = base.shape[:2]
    rows = max(1, _BAND // width)
    if rows >= height:
        return _over(color, alpha, base, blend)
    result = np.empty_like(base)
    for start in range(0, height, rows):
        band = np.s_[start : start + rows]
        colors = color[band] if len(color) == height else color
        weights = alpha[band] if len(alpha) == height else alpha
        result[band] = _over(colors, weights, base[band], blend)
    return result


def _over(color: NDArray[Any], alpha: NDArray[Any], base: NDArray[Any], blend: Blend) -> NDArray[Any]:
    below = base.astype(np.float32) if base.ndim == 3 else base.astype(np.float32)[..., np.newaxis]
    full = full_scale(base.dtype)
    has_alpha = below.shape[2] == 4
    if blend != "normal":
        mixed = _blended(color / full, below[..., :3] / full, blend) * full
        shown = below[..., 3:] / full if has_alpha else 1.0
        color = color * (1 - shown) + mixed * shown
    if has_alpha:
        shows = below[..., 3:] / full * (1 - alpha)
        total = alpha + shows
        mixed = np.divide(
            color * alpha + below[..., :3] * shows, total, out=np.zeros_like(below[..., :3]), where=total > 0
        )
        result = np.concatenate((mixed, total * full), axis=2)
    else:
        result = color * alpha + below * (1 - alpha)
    return fit_depth(result, base.dtype).reshape(base.shape)


def _blended(above: NDArray[Any], below: NDArray[Any], blend: Blend) -> NDArray[Any]:
    """Samples from 0 to 1."""
    multiplied = above * below
    if blend == "multiply":
        return multiplied
    screened = above + below - multiplied
    if blend == "screen":
        return screened
    return np.where(below <= 0.5, 2 * multiplied, 2 * screened - 1)  # overlay, as hard light of the layers swapped
