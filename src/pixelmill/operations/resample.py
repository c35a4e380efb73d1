"""Scales pixels: OpenCV's own interpolations as they are, and one with a proper low-pass in front.

``linear`` of integers is in fixed point (OpenCV's ``INTER_LINEAR_EXACT``): what a part of the image gives does not
depend on where it begins, nor on the processor.

``lanczos`` halves by means of 3x3 and 2x2 pixels while the ratio is 2.75 or more, filters with Lanczos-3 taps in which
the droop of the halvings is divided out, and samples with a cubic (some reduced decodes: linearly). On photographs it
is 48 to 54 dB close to a full Lanczos-3, closer than Pillow's bicubic at every ratio, at 0.25 to 0.55 of its cost;
OpenCV's own modes do not low-pass before they shrink (INTER_AREA excepted) and lie 6 to 25 dB below. The figures are in
``docs/decisions/2026-11-21-resampling.md``. Arrays in, arrays out; premultiply transparency before.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal, NamedTuple, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.plain_opencv import without_ipp

Interpolation: TypeAlias = Literal["auto", "nearest", "linear", "cubic", "area", "lanczos"]

_LOBES = 3
_HALVE_FROM = 2.75
"""What a halving aliases must lie above what the new grid keeps. Halving from 2 on, as would seem natural, costs up to
18 dB at ratios from 2, 4 and 8 on."""
_LINEAR_FROM = 1.4
"""Ratio from which a reduced decode that ends in a fraction of a pixel is sampled linearly: OpenCV's cubic can't use
IPP there and takes 0.17 ms more for 256x256 of gray, for 1.3 to 2.7 dB of 45 to 52."""
_LEAST_TAP = 2e-3
"""Outer taps below this share are left out, half a level of 8 bits; above a ratio of 3, where many are small, less."""
_GRID = 512  # frequencies at which the droop is divided out
_LONG = 8.0  # ratio from which one axis alone is first reduced by means, so that taps stay short
CV2_MODES = {
    "nearest": cv2.INTER_NEAREST_EXACT,
    "linear": cv2.INTER_LINEAR_EXACT,  # of integers in fixed point, the same wherever a part begins; floats as ever
    "cubic": cv2.INTER_CUBIC,
    "area": cv2.INTER_AREA,
}


def resample(
    pixels: NDArray[Any], size: Size, interpolation: Interpolation, extent: tuple[float, float] | None = None
) -> NDArray[Any]:
    """``pixels`` scaled to ``size``; any depth, 1 to 4 channels.

    ``auto`` samples the whole at once. ``lanczos`` samples it by blocks that lie where they lie in the whole image, so
    that a part of the result is the same without the rest of it.

    ``extent`` is the width and height, in pixels of the input, that the picture really covers (see
    ``images.scales.extent``); it counts for ``auto`` and ``lanczos`` only, which are the same here. Float samples may
    leave the range of the input by a few percent (ringing).
    """
    if interpolation in CV2_MODES:
        return by_mode(pixels, size, interpolation)
    ladder = ladder_to(Size(pixels.shape[1], pixels.shape[0]), size)
    if interpolation == "lanczos" and extent in (None, ladder.sizes[0]) and ladder.is_even:
        return _by_ladder(pixels, ladder)
    return _lanczos(pixels, size, extent or (float(pixels.shape[1]), float(pixels.shape[0])))


def by_mode(pixels: NDArray[Any], size: Size, interpolation: Interpolation) -> NDArray[Any]:
    """``cv2.resize`` with a mode of ``CV2_MODES``.

    Linear has vector code for four channels and none for three: RGB of 8 bits goes through RGBA, to the same pixels in
    0.6 of the time.
    """
    rgb = interpolation == "linear" and pixels.dtype == np.uint8 and pixels.shape[2:] == (3,)
    if rgb:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2RGBA)
    done = cv2.resize(pixels, size, interpolation=CV2_MODES[interpolation])
    return cv2.cvtColor(done, cv2.COLOR_RGBA2RGB) if rgb else done


def _lanczos(pixels: NDArray[Any], size: Size, extent: tuple[float, float]) -> NDArray[Any]:
    x_ratio, y_ratio = extent[0] / size.width, extent[1] / size.height
    halvings = 0
    while min(x_ratio, y_ratio) >= _HALVE_FROM:
        pixels = halved(pixels)
        x_ratio, y_ratio, halvings = x_ratio / 2, y_ratio / 2, halvings + 1
        extent = (extent[0] / 2, extent[1] / 2)
    whole = extent == (pixels.shape[1], pixels.shape[0])
    pixels, x_ratio, y_ratio = _shorten(pixels, x_ratio, y_ratio)
    linear = not whole and not halvings and min(x_ratio, y_ratio) >= _LINEAR_FROM
    x_taps = _taps(round(x_ratio, 4), halvings, linear=linear)
    y_taps = _taps(round(y_ratio, 4), halvings, linear=linear)
    if len(x_taps) > 1 or len(y_taps) > 1:
        pixels = cv2.sepFilter2D(pixels, -1, x_taps, y_taps, borderType=cv2.BORDER_REFLECT_101)
    if whole:  # by its size, which IPP can do at twice the speed
        return cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    # With fx and fy given, OpenCV maps by them exactly, and not by the ratio of the rounded sizes.
    code = cv2.INTER_LINEAR if linear else cv2.INTER_CUBIC
    scaled = cv2.resize(pixels, None, fx=1 / x_ratio, fy=1 / y_ratio, interpolation=code)
    return np.ascontiguousarray(_at_least(scaled, size)[: size.height, : size.width])


def halved(pixels: NDArray[Any]) -> NDArray[Any]:
    """A mean of 3x3, whose zero lies where the next step would alias most, then of 2x2; odd sides are rounded up."""
    height, width = pixels.shape[:2]
    even = np.empty((height + height % 2, width + width % 2, *pixels.shape[2:]), pixels.dtype)
    if pixels.dtype == np.float32:  # whose running sums would depend on where they began
        cv2.sepFilter2D(pixels, -1, _THIRDS, _THIRDS, even[:height, :width], borderType=cv2.BORDER_REFLECT_101)
    else:
        cv2.blur(pixels, (3, 3), even[:height, :width], borderType=cv2.BORDER_REFLECT_101)
    if height % 2:
        even[height] = even[height - 1]
    if width % 2:
        even[:, width] = even[:, width - 1]
    return cv2.resize(even, (even.shape[1] // 2, even.shape[0] // 2), interpolation=cv2.INTER_AREA)


_THIRDS = np.full(3, 1 / 3, np.float32)


class Ladder(NamedTuple):
    """From one size to another: so many halvings, and the ratios that are left."""

    sizes: tuple[Size, ...]
    """Before any halving, and after each."""

    target: Size
    ratios: tuple[float, float]
    """Of the last of the sizes to the target, across and down. (Its odd sides are rounded up, which these are not.)"""

    @property
    def is_even(self) -> bool:
        """Whether none of the axes shrinks so much more than the other that it is shortened first."""
        return max(self.ratios) <= _LONG

    def taps(self, axis: int) -> NDArray[np.float32]:
        """Of the low-pass before the target is sampled; one tap is none."""
        return _taps(round(self.ratios[axis], 4), len(self.sizes) - 1, linear=False)


def ladder_to(size: Size, target: Size) -> Ladder:
    """As many halvings as :func:`resample` makes."""
    sizes, ratios = [size], (size.width / target.width, size.height / target.height)
    while min(ratios) >= _HALVE_FROM:
        sizes.append(Size((sizes[-1].width + 1) // 2, (sizes[-1].height + 1) // 2))
        ratios = (ratios[0] / 2, ratios[1] / 2)
    return Ladder(tuple(sizes), target, ratios)


def _by_ladder(pixels: NDArray[Any], ladder: Ladder) -> NDArray[Any]:
    with without_ipp():
        for _ in ladder.sizes[1:]:
            pixels = halved(pixels)
        return sampled(pixels, Region(0, 0, *ladder.sizes[-1]), ladder, Region(0, 0, *ladder.target))


_BLOCK = 1_024
"""Pixels of the result that are sampled at once, across and down, from a multiple of it on."""
_PHASES = 128
"""So many pixels before a block it may begin, where the grids of source and result meet best."""
_NEAR = 1 / 512
"""Pixels of the source that these grids may miss each other by."""
_SLACK = 64
"""Pixels of the result that are computed and thrown away behind a block: OpenCV rounds the end of a row otherwise."""


class _Run(NamedTuple):
    """Of one axis: pixels ``start`` to ``stop`` of the result, which are sampled as from ``first`` on."""

    start: int
    stop: int
    first: int
    source: int
    """Where in the source ``first`` begins."""

    length: int
    """Of what is read of the source from there."""


@functools.lru_cache(maxsize=1_024)
def _phase(block: int, ratio: float) -> tuple[int, int]:
    """Where sampling a block begins, in the result and in the source."""
    if block == 0:
        return 0, 0
    least = math.ceil(4 / ratio)  # what a cubic looks at before its first pixel
    best, found = 1.0, (0, 0)
    for back in range(least, least + _PHASES):
        first = block * _BLOCK - back
        at = first * ratio
        if first < 0 or round(at) < 0:
            break
        miss = abs(at - round(at))
        if miss < best:
            best, found = miss, (first, round(at))
        if miss < _NEAR:
            break
    return found


def _runs(start: int, stop: int, ratio: float, source: int) -> list[_Run]:
    """The blocks that a part of one axis lies in, of a source of that length."""
    runs = []
    for block in range(start // _BLOCK, (stop - 1) // _BLOCK + 1):
        first, at = _phase(block, ratio)
        left, right = max(start, block * _BLOCK), min(stop, (block + 1) * _BLOCK)
        length = math.ceil((right - first + _SLACK) * ratio) + 4
        runs.append(_Run(left, right, first, at, min(length, source - at)))
    return runs


def sampled_source(ladder: Ladder, region: Region) -> Region:
    """What of the last of the ladder's sizes is needed for a region of the target: whole vectors of OpenCV."""
    size, bounds = ladder.sizes[-1], []
    for axis, (start, stop) in enumerate(((region.left, region.right), (region.top, region.bottom))):
        runs = _runs(start, stop, ladder.ratios[axis], size[axis])
        reach = len(ladder.taps(axis)) // 2
        low = max(0, min(run.source for run in runs) - reach) // _SLACK * _SLACK
        high = -(-(max(run.source + run.length for run in runs) + reach) // _SLACK) * _SLACK
        bounds.append((low, min(size[axis], high)))
    (left, right), (top, bottom) = bounds
    return Region(left, top, right - left, bottom - top)


def sampled(pixels: NDArray[Any], source: Region, ladder: Ladder, region: Region) -> NDArray[Any]:
    """A region of the target; ``pixels`` are those of ``source``, a part of the last of the ladder's sizes."""
    size, taps = ladder.sizes[-1], (ladder.taps(0), ladder.taps(1))
    if len(taps[0]) > 1 or len(taps[1]) > 1:
        pixels = cv2.sepFilter2D(pixels, -1, *taps, borderType=cv2.BORDER_REFLECT_101)
    result = np.empty((region.height, region.width, *pixels.shape[2:]), pixels.dtype)
    fx, fy = 1 / ladder.ratios[0], 1 / ladder.ratios[1]
    for down in _runs(region.top, region.bottom, ladder.ratios[1], size.height):
        rows = pixels[down.source - source.top :][: down.length]
        for across in _runs(region.left, region.right, ladder.ratios[0], size.width):
            part = rows[:, across.source - source.left :][:, : across.length]
            done = cv2.resize(part, None, fx=fx, fy=fy, interpolation=cv2.INTER_CUBIC)
            needed = Size(across.stop - across.first, down.stop - down.first)
            done = _at_least(done, needed)[down.start - down.first : needed.height]
            result[down.start - region.top : down.stop - region.top, across.start - region.left :][
                :, : across.stop - across.start
            ] = done[:, across.start - across.first : needed.width]
    return result


def _shorten(pixels: NDArray[Any], x_ratio: float, y_ratio: float) -> tuple[NDArray[Any], float, float]:
    """Where one axis shrinks much more than the other: means along it, down to a ratio of about 4."""
    height, width = pixels.shape[:2]
    less_wide = math.ceil(width * 4 / x_ratio) if x_ratio > _LONG else width
    less_high = math.ceil(height * 4 / y_ratio) if y_ratio > _LONG else height
    if (less_wide, less_high) == (width, height):
        return pixels, x_ratio, y_ratio
    small = cv2.resize(pixels, (less_wide, less_high), interpolation=cv2.INTER_AREA)
    return small, x_ratio * less_wide / width, y_ratio * less_high / height


@functools.lru_cache(maxsize=256)
def _taps(ratio: float, halvings: int, *, linear: bool) -> NDArray[np.float32]:
    """Low-pass taps of one axis: Lanczos-3 at ``ratio`` input pixels an output pixel, on the grid after ``halvings``.

    The droop of the halvings (a mean of 3, then of 2, each on the grid before), and of a ``linear`` interpolation
    afterwards, is divided out in frequency, up to a factor of 5; small outer taps are cut off.
    """
    if ratio <= 1 and not halvings and not linear:
        return np.ones(1, np.float32)
    scale = max(ratio, 1.0)
    radius = math.ceil(_LOBES * scale)
    n = np.arange(-radius, radius + 1)
    x = n / scale
    taps = np.where(np.abs(x) < _LOBES, np.sinc(x) * np.sinc(x / _LOBES), 0.0)
    taps /= taps.sum()
    if halvings or linear:
        frequency = np.fft.rfftfreq(_GRID)
        response = np.cos(2 * np.pi * np.outer(frequency, n)) @ taps
        droop = np.sinc(frequency) ** 2 if linear else np.ones_like(frequency)
        for level in range(1, halvings + 1):
            phase = np.pi * frequency / 2**level
            droop *= np.cos(phase) * (1 + 2 * np.cos(2 * phase)) / 3
        wave = np.fft.irfft(response / np.maximum(droop, 0.2), _GRID)
        radius += 2
        taps = np.concatenate([wave[-radius:], wave[: radius + 1]])
        taps *= np.hanning(2 * radius + 3)[1:-1] ** 0.15
    least = _LEAST_TAP * min(1.0, 3.0 / scale)
    while len(taps) > 1 and abs(taps[0]) < least:
        taps = taps[1:-1]
    taps = (taps + taps[::-1]) / 2  # to the last bit: OpenCV has a faster way for symmetric ones
    result: NDArray[np.float32] = (taps / taps.sum()).astype(np.float32)
    result.flags.writeable = False
    return result


def _at_least(pixels: NDArray[Any], size: Size) -> NDArray[Any]:
    """Repeats the last row or column where rounding left one out."""
    below, right = max(0, size.height - pixels.shape[0]), max(0, size.width - pixels.shape[1])
    if not below and not right:
        return pixels
    return cv2.copyMakeBorder(pixels, 0, below, 0, right, cv2.BORDER_REPLICATE)
