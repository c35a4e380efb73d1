"""Scaling over tiles: halvings and the last sampling as moves, each pixel as in the whole image.

The arithmetic is that of ``resample.py``; RGBA that shines through is premultiplied between the first pass and the last.
"""

from __future__ import annotations

import numpy as np

from pixelmill.errors import NotTileable
from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.moves import clipped
from pixelmill.operations.opacity import by_opacity
from pixelmill.operations.passes import Array, Form, Map, Move, Pass
from pixelmill.operations.pixels import premultiplied, straightened
from pixelmill.operations.plain_opencv import without_ipp
from pixelmill.operations.resample import Ladder, halved, ladder_to, sampled, sampled_source

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
