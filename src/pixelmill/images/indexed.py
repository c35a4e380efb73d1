"""Pixels as numbers into a palette: exactly where they have few colors, else with the colors reduced."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.palettes import quantized


def packed(pixels: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """Each color of gray, RGB or RGBA pixels as one number: R, G, B, A from the highest byte on. (H, W)."""
    shape = pixels.shape[:2]
    rgba = np.full((*shape, 4), 255, np.uint8)
    rgba[..., :3] = pixels[..., :3] if pixels.ndim == 3 else pixels[..., np.newaxis]
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        rgba[..., 3] = pixels[..., 3]
    numbers: NDArray[np.uint32] = rgba.view(">u4")[..., 0].astype(np.uint32)
    return numbers


def distinct(numbers: NDArray[np.uint32], most: int) -> NDArray[np.uint32] | None:
    """The different colors among packed ones, in order; None where there are more than ``most``."""
    flat = numbers.ravel()
    # A few thousand of them mostly tell that there are too many.
    if np.unique(flat[:: max(1, flat.size // 4096)]).size > most:
        return None
    found = np.unique(flat)
    return found if found.size <= most else None


def to_palette(pixels: NDArray[np.uint8], colors: int, *, dither: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Numbers (H, W) into a palette, and the palette (N, 4) as RGBA; N is at most ``colors``.

    Exact where the pixels have no more colors than that. Otherwise a palette by ``palettes.py``, and error diffusion by
    Floyd and Steinberg for ``dither``; with transparency an octree, without dither (Pillow's).
    """
    numbers = packed(pixels)
    found = distinct(numbers, colors)
    if found is not None:
        return np.searchsorted(found, numbers).astype(np.uint8), found.astype(">u4").view(np.uint8).reshape(-1, 4)
    return _reduced(pixels, colors, dither=dither)


def _reduced(pixels: NDArray[np.uint8], colors: int, *, dither: bool) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    from PIL import Image as Pil

    picture = Pil.fromarray(np.ascontiguousarray(pixels))
    if picture.mode == "RGBA":
        made = picture.quantize(colors, Pil.Quantize.FASTOCTREE)
    else:
        made = quantized(np.asarray(picture.convert("RGB")), colors, dither=dither)
    entries: Any = made.palette
    mode = entries.mode
    flat = np.frombuffer(bytes(entries.palette), np.uint8).reshape(-1, len(mode))
    rgba = np.full((len(flat), 4), 255, np.uint8)
    rgba[:, : len(mode)] = flat
    indices = np.array(made)
    return indices, rgba[: int(indices.max()) + 1]
