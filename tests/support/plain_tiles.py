"""The contract of passes, followed to the letter by one thread and in plain sight: what other runners must equal.

Each pass is run over all tiles before the next begins, with nothing fused and everything in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.passes import Map, Move, Pass, Place, Survey

Array = NDArray[Any]
ALIGNED = 64
"""Columns of extended tiles start and end at multiples of it, or where the image ends: OpenCV's vectors do too."""


def size_of(pixels: Array) -> Size:
    return Size(pixels.shape[1], pixels.shape[0])


def places(size: Size, tile: Size, halo: int) -> Iterator[Place]:
    columns = -(-size.width // tile.width)
    number = 0
    for top in range(0, size.height, tile.height):
        for left in range(0, size.width, tile.width):
            core = Region(left, top, min(tile.width, size.width - left), min(tile.height, size.height - top))
            grown = core.grown(halo, size)
            start, end = grown.left // ALIGNED * ALIGNED, min(size.width, -(-grown.right // ALIGNED) * ALIGNED)
            yield Place(size, core, Region(start, grown.top, end - start, grown.height), number, columns)
            number += 1


def part(pixels: Array, region: Region) -> Array:
    return pixels[region.top : region.bottom, region.left : region.right].copy()


def run_plain(pixels: Array, passes: Sequence[Pass], tile: Size) -> tuple[Array, dict[str, Any] | None]:
    """The image that comes out, and what was found."""
    data: dict[str, Any] | None = None
    for step in passes:
        found = None
        if isinstance(step, Map):
            pixels = mapped(pixels, step, tile)
        elif isinstance(step, Move):
            pixels = moved(pixels, step, tile)
        else:
            pixels, found = surveyed(pixels, step, tile)
        data = found if data is None else data | (found or {})
    return pixels, data


def put(result: Array | None, size: Size, place: Region, core: Array) -> Array:
    if result is None:
        result = np.empty((size.height, size.width, *core.shape[2:]), core.dtype)
    assert result.dtype == core.dtype
    result[place.top : place.bottom, place.left : place.right] = core
    return result


def declared(step: Pass, given: Array, came: Array) -> None:
    """What a pass says comes out does come out."""
    channels = step.channels if step.channels is not None else (given.shape[2] if given.ndim == 3 else 1)
    assert (came.shape[2] if came.ndim == 3 else 1) == channels, step.name
    assert came.dtype == (step.dtype if step.dtype is not None else given.dtype), step.name


def mapped(pixels: Array, step: Map, tile: Size) -> Array:
    result = None
    for place in places(size_of(pixels), tile, step.halo):
        done = step.apply(part(pixels, place.extended), place)
        declared(step, pixels, done)
        assert done.shape[:2] == (place.extended.height, place.extended.width), step.name
        result = put(result, place.size, place.core, place.core.of(done, place.extended))
    assert result is not None
    return result


def moved(pixels: Array, step: Move, tile: Size) -> Array:
    result = None
    for place in places(step.size, tile, 0):
        source = step.source(place.core)
        assert source.grown(0, size_of(pixels)) == source, step.name
        done = step.apply(part(pixels, source), source, place.core)
        declared(step, pixels, done)
        result = put(result, step.size, place.core, done)
    assert result is not None
    return result


def surveyed(pixels: Array, step: Survey, tile: Size) -> tuple[Array, dict[str, Any] | None]:
    size = size_of(pixels)
    looked = [
        (place, step.look(part(pixels, place.extended), place)) for place in reversed([*places(size, tile, step.halo)])
    ]
    looked.reverse()  # looks must not depend on the order of tiles
    told: list[tuple[Place | None, Any]] = [(place, look.told) for place, look in looked]
    if step.join is not None:
        total = told[-1][1]
        for _, one in reversed(told[:-1]):
            total = step.join(total, one)
        told = [(None, total)]
    conclusion = step.conclude(told)
    data = step.data(conclusion) if step.data is not None else None
    if step.then is not None:
        done, found = run_plain(pixels, step.then(conclusion), tile)
        return done, data if found is None else {**(data or {}), **found}
    if not step.images:
        return pixels, data
    assert step.finish is not None
    result = None
    for place, (_, look) in zip(places(size, tile, 0), looked, strict=True):
        given = part(pixels, place.extended) if look.kept is None else look.kept
        where = place if look.kept is None else place._replace(extended=place.core)
        finished = step.finish(given, where, conclusion)
        declared(step, pixels, finished)
        result = put(result, size, place.core, where.core.of(finished, where.extended))
    assert result is not None
    return result, data
