"""Resampling for ``resize``: Lanczos quality at a fraction of its cost, from OpenCV's separable filters.

A Lanczos-3 low pass (``cv2.sepFilter2D``) removes what the new grid can't hold, then ``cv2.resize`` samples by cubic
interpolation. Where that is slow (the picture covers a fraction of the last pixels), and good enough, it samples by
linear interpolation. From a ratio of 2.75 up, the image is first halved by a 3x3 and a 2x2 mean. What linear
interpolation and means take from high frequencies is divided out of the taps. The decision file
``docs/decisions/2026-11-21-resampling.md`` has the figures against OpenCV's own modes, Pillow and libvips.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.scales import extent

Interpolation = Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"]

LOBES = 3
LEAST_TAP = 2e-3
"""Outer taps below this share of the sum are left out: under half a gray level of 8 bits. Above a ratio of 3, where
there are many small ones, below a share that falls with the ratio."""
HALVE_FROM = 2.75
"""The ratio from which halving is good enough: what it aliases must lie above what the new grid keeps. At 2 it costs up
to 9 dB on fine textures; from 2.75 up the result is never worse than Pillow's bicubic (see the decision file)."""
LINEAR_FROM = 1.75
"""The ratio from which linear interpolation may sample: after the low pass there is little left that it could alias. It
costs 0.7 to 1.8 dB; cubic interpolation of a fractional extent costs 0.13 ms more, for 256x256 pixels of gray."""
SPECTRUM = 512
"""Points of the frequency response in which the droop is corrected."""
MAX_LIFT = 5.0
"""The most that a frequency is lifted to correct the droop; the taps are near zero where more would be needed."""

_CV2 = {
    "nearest": cv2.INTER_NEAREST,
    "linear": cv2.INTER_LINEAR,
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
    "lanczos": cv2.INTER_LANCZOS4,
}


def resample(
    pixels: NDArray[Any],
    target: Size,
    nominal: Size,
    interpolation: Interpolation = "auto",
    mirrored: tuple[bool, bool] = (False, False),
) -> NDArray[Any]:
    """``pixels`` at ``target`` size. ``nominal`` is the size of the picture that they stand for.

    A decoder may have reduced the picture; what its rounded-up size really covers is then mapped, not the pixel count.
    The last column and row are those that are covered in part; ``mirrored`` says that it is the first column, the first
    row, because the picture was turned since.
    """
    got = Size(pixels.shape[1], pixels.shape[0])
    if got == target == nominal:
        return pixels
    if interpolation != "auto":
        return cv2.resize(pixels, target, interpolation=_CV2[interpolation])
    width, height = extent(nominal, got)
    flip = _flip(mirrored[0] and width != got.width, mirrored[1] and height != got.height)
    if flip is not None:
        pixels = cv2.flip(pixels, flip)
    halvings = 0
    while min(width / target.width, height / target.height) >= HALVE_FROM:
        pixels = _halve(pixels)
        width, height, halvings = width / 2, height / 2, halvings + 1
    ratio_x, ratio_y = width / target.width, height / target.height
    whole = (height, width) == pixels.shape[:2]
    linear = not whole and min(ratio_x, ratio_y) >= LINEAR_FROM
    taps_x = _taps(round(ratio_x, 4), halvings, linear=linear)
    taps_y = _taps(round(ratio_y, 4), halvings, linear=linear)
    if len(taps_x) > 1 or len(taps_y) > 1:
        pixels = cv2.sepFilter2D(pixels, -1, taps_x, taps_y, borderType=cv2.BORDER_REFLECT_101)
    if whole:
        result = cv2.resize(pixels, target, interpolation=cv2.INTER_CUBIC)
    else:
        # By factors and not by size: they map the true extent, of which a pixel's fraction is missing.
        code = cv2.INTER_LINEAR if linear else cv2.INTER_CUBIC
        sampled = cv2.resize(pixels, None, fx=1 / ratio_x, fy=1 / ratio_y, interpolation=code)
        result = np.ascontiguousarray(sampled[: target.height, : target.width])
    if flip is not None:
        result = cv2.flip(result, flip)
    return np.clip(result, 0, 1) if result.dtype == np.float32 else result


def _flip(left: bool, top: bool) -> int | None:
    """The code that ``cv2.flip`` has for it; None where there is nothing to flip."""
    return -1 if left and top else 1 if left else 0 if top else None


def _halve(pixels: NDArray[Any]) -> NDArray[Any]:
    """3x3 mean (its null lies where the next step would alias worst), then the 2x2 mean; odd sides are rounded up."""
    height, width = pixels.shape[:2]
    if height % 2 or width % 2:
        even = np.empty((height + height % 2, width + width % 2, *pixels.shape[2:]), pixels.dtype)
        even[:height, :width] = cv2.blur(pixels, (3, 3), borderType=cv2.BORDER_REFLECT_101)
        if height % 2:
            even[height] = even[height - 1]
        if width % 2:
            even[:, width] = even[:, width - 1]
    else:
        even = cv2.blur(pixels, (3, 3), borderType=cv2.BORDER_REFLECT_101)
    return cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)


@lru_cache(maxsize=256)
def _taps(ratio: float, halvings: int, *, linear: bool) -> NDArray[np.float32]:
    """Low-pass taps of one axis: Lanczos-3 at ``ratio`` pixels an output pixel, on the grid after ``halvings``.

    What the halvings, and a ``linear`` interpolation afterwards, take from high frequencies is given back.
    """
    if ratio <= 1 and not halvings and not linear:
        return np.ones(1, np.float32)
    scale = max(ratio, 1.0)
    radius = math.ceil(LOBES * scale)
    offsets = np.arange(-radius, radius + 1)
    x = offsets / scale
    taps = np.where(np.abs(x) < LOBES, np.sinc(x) * np.sinc(x / LOBES), 0.0)
    taps /= taps.sum()
    if halvings or linear:
        taps = _without_droop(taps, offsets, halvings, linear=linear)
    least = LEAST_TAP * min(1.0, 3.0 / scale)
    while len(taps) > 1 and abs(taps[0]) < least:
        taps = taps[1:-1]
    taps = (taps + taps[::-1]) / 2  # to the last bit: OpenCV has a faster way for symmetric ones
    return (taps / taps.sum()).astype(np.float32)


def _without_droop(
    taps: NDArray[np.float64], offsets: NDArray[np.int64], halvings: int, *, linear: bool
) -> NDArray[np.float64]:
    """``taps`` divided, in frequency, by the response of the means that halved the image and of the interpolation."""
    frequency = np.fft.rfftfreq(SPECTRUM)  # cycles a pixel of the halved grid
    response = np.cos(2 * np.pi * np.outer(frequency, offsets)) @ taps
    droop = np.ones_like(frequency)
    for level in range(1, halvings + 1):
        angle = np.pi * frequency / 2**level
        droop *= np.cos(angle) * (1 + 2 * np.cos(2 * angle)) / 3
    if linear:
        droop *= np.sinc(frequency) ** 2
    lifted = np.fft.irfft(response / np.maximum(droop, 1 / MAX_LIFT), SPECTRUM)
    radius = int(offsets[-1]) + 2
    window = np.hanning(2 * radius + 3)[1:-1] ** 0.15
    return np.concatenate([lifted[-radius:], lifted[: radius + 1]]) * window
