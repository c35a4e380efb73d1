"""Scaling over tiles: halvings and the last sampling as moves, each pixel as in the whole image.

The arithmetic is that of ``resample.py``; RGBA that shines through is premultiplied from the first pass to the last.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Literal

import numpy as np

from pixelmill.errors import NotTileable
from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.moves import clipped
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.passes import Array, Form, Map, Move, Pass
from pixelmill.operations.pixels import premultiplied, straightened
from pixelmill.operations.plain_opencv import without_ipp
from pixelmill.operations.resample import Ladder, by_mode, halved, ladder_to, sampled, sampled_source

_ALIGNED = 64
_FLOAT = np.dtype(np.float32)


def scaled_passes(form: Form, target: Size) -> tuple[Pass, ...]:
    """To ``target`` by halvings and Lanczos-3, as ``resample`` does it with ``lanczos``."""
    ladder = ladder_to(form.size, target)
    if not ladder.is_even:
        raise NotTileable(
            f"resize: from {form.size.width:,}×{form.size.height:,} to {target.width:,}×{target.height:,} pixels one "
            "side shrinks so much more than the other that it can't be done over tiles. Resize in two steps, the first "
            "with the aspect ratio kept.",
            operation="resize",
        )

    def passes(opaque: bool | None) -> tuple[Pass, ...]:
        moves = tuple(_halving(ladder, rung) for rung in range(len(ladder.sizes) - 1))
        return weighed(form, (*moves, _sampling(ladder)), opaque)

    return by_opacity(form, passes)


def weighed(form: Form, moves: tuple[Pass, ...], opaque: bool | None) -> tuple[Pass, ...]:
    """``moves``, of premultiplied samples where something shines through; the ringing of floats is cut off."""
    done: tuple[Pass, ...] = moves
    if opaque is False:
        back = Map("straight", lambda pixels, _: straightened(pixels, form.dtype), dtype=form.dtype, ns_per_pixel=10.0)
        before = Map("premultiplied", lambda pixels, _: premultiplied(pixels), dtype=_FLOAT, ns_per_pixel=3.0)
        done = (before, *moves, back)
    if form.dtype == np.float32:
        done = (*done, Map("clip", lambda pixels, _: np.clip(pixels, 0.0, 1.0), ns_per_pixel=0.5))
    return done


def _halving(ladder: Ladder, rung: int) -> Move:
    size, half = ladder.sizes[rung], ladder.sizes[rung + 1]

    def source(region: Region) -> Region:
        left, top = ((2 * place - 1) // _ALIGNED * _ALIGNED for place in (region.left, region.top))
        right, bottom = (-(-(2 * place + 1) // _ALIGNED) * _ALIGNED for place in (region.right, region.bottom))
        return clipped(left, top, right, bottom, size)

    def apply(pixels: Array, source: Region, region: Region) -> Array:
        with without_ipp():
            done = halved(pixels)
        left, top = region.left - source.left // 2, region.top - source.top // 2
        return np.ascontiguousarray(done[top : top + region.height, left : left + region.width])

    return Move("halve", half, source, apply, ns_per_pixel=0.5, memory_factor=2.3)


def _sampling(ladder: Ladder) -> Move:
    def apply(pixels: Array, source: Region, region: Region) -> Array:
        with without_ipp():
            return sampled(pixels, source, ladder, region)

    return Move(
        "sample",
        ladder.target,
        lambda region: sampled_source(ladder, region),
        apply,
        ns_per_pixel=3.0,
        memory_factor=3.0,
    )


_PERIODS = 64
"""Parts of source and result begin at multiples of so many periods, and vectors of OpenCV with them."""
_MOST, _MOST_FIXED = 128, 255
"""Pixels of a period at most, of the source and of the result; a 256th of a pixel is never halved below 256."""
_EXACT = 1 << 24
"""Whole numbers that OpenCV's ``float32`` coordinates tell apart."""


def periodic_passes(form: Form, target: Size, mode: Literal["linear", "cubic", "area"]) -> tuple[Pass, ...]:
    """What ``resample`` gives of the whole, where its grids meet every few pixels: p of the source on q of the result.

    Linear is of fixed-point numbers where samples are integers: parts begin at any period, at any such ratio. OpenCV
    has other coordinates of linear and cubic in ``float32``: those of a part are those of the whole image where q is a
    power of two (measured: at 9/10 of 9,000 pixels 0.6 % of samples differ with linear, and 3 % with cubic). Means by
    area depend on no such coordinate.
    """

    def passes(opaque: bool | None) -> tuple[Pass, ...]:
        # What shines through is premultiplied, in floats; whether anything does is not known to a plan.
        fixed = mode == "linear" and form.dtype.kind == "u" and opaque is not False
        return weighed(form, (_periodic(form, target, mode, fixed=fixed),), opaque)

    return by_opacity(form, passes)


def _periodic(form: Form, target: Size, mode: Literal["linear", "cubic", "area"], *, fixed: bool) -> Move:
    ratios = [Fraction(*sides) for sides in zip(form.size, target, strict=True)]
    whole = mode == "area" and min(ratios) >= 1
    for ratio, side in zip(ratios, form.size, strict=True):
        steps = 2 * ratio.denominator
        exact = steps & (steps - 1) == 0 and side * steps < _EXACT
        if max(ratio.numerator, ratio.denominator) > (_MOST_FIXED if fixed else _MOST) or not (exact or whole or fixed):
            raise NotTileable(
                f"resize: {mode} from {form.size.width:,}×{form.size.height:,} to {target.width:,}×{target.height:,} "
                "pixels is defined on the whole image, and can't run over tiles. Use auto or lanczos, or a ratio such "
                "as 1/2, 2/3 or 3/4 that both sides are multiples of.",
                operation="resize",
            )
    periods, margin = (1, 0.0) if fixed else (_PERIODS, 4.0)

    def bounds(start: int, stop: int, ratio: Fraction, side: int) -> tuple[int, int]:
        """In the source; a few pixels more than are looked at."""
        first = max(0, start // ratio.denominator - 1) // periods * periods
        last = -(-(-(-stop // ratio.denominator) + 1) // periods) * periods
        if start and first * ratio.denominator > start - margin / min(Fraction(1), ratio):
            first = max(0, first - periods)
        return first * ratio.numerator, min(side, last * ratio.numerator)

    def source(region: Region) -> Region:
        left, right = bounds(region.left, region.right, ratios[0], form.size.width)
        top, bottom = bounds(region.top, region.bottom, ratios[1], form.size.height)
        return Region(left, top, right - left, bottom - top)

    def apply(pixels: Array, source: Region, region: Region) -> Array:
        size = Size(*(int(side / ratio) for side, ratio in zip(source[2:], ratios, strict=True)))
        with without_ipp():
            done = by_mode(pixels, size, mode)
        left, top = (int(at / ratio) for at, ratio in zip(source[:2], ratios, strict=True))
        part = done[region.top - top : region.bottom - top, region.left - left : region.right - left]
        return part.reshape(region.height, region.width, *pixels.shape[2:])

    return Move(mode, target, source, apply, ns_per_pixel=1.0, memory_factor=2.0)


def nearest_passes(size: Size, target: Size) -> tuple[Pass, ...]:
    """As ``cv2.INTER_NEAREST_EXACT``, by its fixed-point numbers."""
    columns, rows = (_nearest(*sides) for sides in zip(size, target, strict=True))

    def source(region: Region) -> Region:
        x, y = columns[region.left : region.right], rows[region.top : region.bottom]
        return clipped(int(x[0]), int(y[0]), int(x[-1]) + 1, int(y[-1]) + 1, size)

    def apply(pixels: Array, source: Region, region: Region) -> Array:
        x, y = columns[region.left : region.right] - source.left, rows[region.top : region.bottom] - source.top
        return np.ascontiguousarray(pixels[y[:, np.newaxis], x])

    return (Move("nearest", target, source, apply, ns_per_pixel=1.0, memory_factor=2.0),)


def _nearest(side: int, target: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    step = ((side << 16) + target // 2) // target
    return np.minimum((np.arange(target, dtype=np.int64) * step + step // 2 - side % 2) >> 16, side - 1)
