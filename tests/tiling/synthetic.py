"""Small passes with known results on the whole, for tests of what runs them: in integers, so that equal is equal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Array, Form, Look, Map, Move, Pass, Place, Survey
from pixelmill.tiling.compiler import Wishes, compiled
from pixelmill.tiling.program import Part, Program


def shifted_max(pixels: Array, radius: int) -> Array:
    """The largest sample within ``radius``; borders see nothing beyond the image."""
    padded = np.pad(pixels, [(radius, radius)] * 2 + [(0, 0)] * (pixels.ndim - 2))
    height, width = pixels.shape[:2]
    views = [padded[y : y + height, x : x + width] for y in range(2 * radius + 1) for x in range(2 * radius + 1)]
    result: Array = np.maximum.reduce(views)
    return result


def reach(radius: int) -> Map:
    """A map that sees exactly ``radius`` far: one pixel less of halo, or a tile in the wrong place, changes it."""
    return Map(f"reach {radius}", lambda pixels, place: shifted_max(pixels, radius), halo=radius)


def mixed(pixels: Array, place: Place) -> Array:
    """Pointwise, and depends on where a pixel lies in the whole image."""
    region = place.extended
    x = np.arange(region.left, region.right, dtype=np.uint32)
    y = np.arange(region.top, region.bottom, dtype=np.uint32)[:, None]
    plane = ((x * 7 + y * 13) % 5).astype(pixels.dtype)
    result: Array = pixels ^ (plane if pixels.ndim == 2 else plane[..., None])
    return result


MIXED = Map("mixed", mixed)


def counts(pixels: Array, place: Place) -> Look:
    core = place.core.of(pixels, place.extended)
    return Look(np.bincount(core.reshape(-1), minlength=256))


def leveled() -> Survey:
    """A joined survey: rank of each sample in the histogram of all, modulo 256."""

    def conclude(tellings: Sequence[tuple[Place | None, Any]]) -> NDArray[np.uint8]:
        ((place, total),) = tellings
        assert place is None
        return (np.cumsum(total) % 256).astype(np.uint8)

    return Survey(
        "leveled",
        counts,
        conclude,
        lambda pixels, place, table: table[pixels],
        join=lambda a, b: a + b,
        data=lambda table: {"checksum": int(table.astype(np.int64).sum())},
    )


def numbered(radius: int = 0, *, keeps: bool) -> Survey:
    """A survey by tile: each tile's largest sample is ranked among all tiles, and added where the sample is even.

    Its result depends on how the image was cut, which shows whether finishes see the tiles that were looked at.
    """

    def look(pixels: Array, place: Place) -> Look:
        seen = place.core.of(shifted_max(pixels, radius), place.extended)
        return Look(int(seen.max()), np.ascontiguousarray(seen) if keeps else None)

    def conclude(tellings: Sequence[tuple[Place | None, Any]]) -> dict[int, int]:
        numbers = [place.number for place, _ in tellings if place is not None]
        assert numbers == sorted(numbers), "tellings come in the order of tiles"
        return {place.number: int(top) for place, top in tellings if place is not None}

    def finish(pixels: Array, place: Place, tops: dict[int, int]) -> Array:
        assert place.core == place.extended
        assert place.number in tops
        assert pixels.shape[:2] == (place.core.height, place.core.width)
        result: Array = pixels ^ np.uint8(tops[place.number])
        return result

    return Survey(
        "numbered",
        look,
        conclude,
        finish,
        halo=radius,
        keeps=np.dtype(np.uint8) if keeps else None,
        data=lambda tops: {"tiles": len(tops)},
    )


def watched(radius: int = 0) -> Survey:
    """An analysis that sums what is within ``radius``."""

    def look(pixels: Array, place: Place) -> Look:
        seen = place.core.of(shifted_max(pixels, radius), place.extended)
        return Look(int(seen.astype(np.int64).sum()))

    return Survey(
        "watched",
        look,
        lambda tellings: tellings[0][1],
        lambda pixels, place, conclusion: pixels,
        join=lambda a, b: a + b,
        halo=radius,
        images=False,
        data=lambda total: {"sum": total},
    )


def cropped(size: Size) -> Survey:
    """Cuts out what is found: as many rows and columns as the least sample says; nobody knows before."""

    def then(least: int) -> Sequence[Pass]:
        left, top = least % size.width, least % size.height
        part = Size(size.width - left, size.height - top)

        def source(region: Region) -> Region:
            return Region(region.left + left, region.top + top, region.width, region.height)

        return [Move("crop", part, source, lambda pixels, given, region: pixels)]

    return Survey(
        "cropped",
        lambda pixels, place: Look(int(place.core.of(pixels, place.extended).max())),
        lambda tellings: tellings[0][1],
        join=max,
        data=lambda least: {"least": least},
        then=then,
        expected=[Move("crop", size, lambda region: region, lambda pixels, given, region: pixels)],
    )


def turned(size: Size) -> Move:
    """A quarter turn: rows become columns."""

    def source(region: Region) -> Region:
        return Region(region.top, region.left, region.height, region.width)

    return Move(
        "turned",
        Size(size.height, size.width),
        source,
        lambda pixels, given, region: np.ascontiguousarray(np.swapaxes(pixels, 0, 1)),
    )


def halved(size: Size) -> Move:
    """Every second pixel."""
    small = Size(-(-size.width // 2), -(-size.height // 2))

    def source(region: Region) -> Region:
        right, bottom = min(size.width, 2 * region.right), min(size.height, 2 * region.bottom)
        return Region(2 * region.left, 2 * region.top, right - 2 * region.left, bottom - 2 * region.top)

    return Move("halved", small, source, lambda pixels, given, region: np.ascontiguousarray(pixels[::2, ::2]))


def whole(passes: Sequence[Pass], pixels: Array) -> tuple[Array, list[dict[str, Any]]]:
    """The passes over the whole image as one tile: what every cutting must give."""
    found: list[dict[str, Any]] = []
    for item in passes:
        height, width = pixels.shape[:2]
        region = Region(0, 0, width, height)
        place = Place(Size(width, height), region, region, 0, 1)
        if isinstance(item, Map):
            pixels = item.apply(pixels, place)
        elif isinstance(item, Move):
            target = Region(0, 0, *item.size)
            given = item.source(target)
            pixels = item.apply(given.of(pixels, region), given, target)
        else:
            look = item.look(pixels, place)
            conclusion = item.conclude([(place if item.join is None else None, look.told)])
            if item.data is not None and (told := item.data(conclusion)) is not None:
                found.append(told)
            if item.then is not None:
                pixels, more = whole(item.then(conclusion), pixels)
                found.extend(more)
            elif item.images:
                assert item.finish is not None
                pixels = item.finish(pixels if look.kept is None else look.kept, place, conclusion)
    return pixels, found


def program_of(passes: Sequence[Pass], raster: Raster, wishes: Wishes) -> Program:
    """Compiled, each pass an operation of its own."""

    def given(item: Pass) -> Callable[[Form], Sequence[Pass]]:
        return lambda form: (item,)

    return compiled(raster, [Part(index, item.name, given(item)) for index, item in enumerate(passes, 1)], wishes)


def form_of(pixels: Array) -> Form:
    height, width = pixels.shape[:2]
    return Form(Size(width, height), 1 if pixels.ndim == 2 else pixels.shape[2], pixels.dtype)
