"""CLAHE over tiles, equal to ``cv2.createCLAHE`` of the whole image.

Its cells lie in the whole image, which OpenCV mirrors beyond its right and lower edges until cells are of one size. A
tile counts what it holds of each cell; the tables of all cells follow, and each pixel lies between four of them. The
arithmetic is OpenCV's, in ``float32``.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Image, Size
from pixelmill.operations.levels import counted
from pixelmill.operations.luma import luma_of, on_luma
from pixelmill.operations.passes import Array, Form, Look, Place, Survey
from pixelmill.operations.pixels import on_colors

Cells = Mapping[tuple[int, int], NDArray[np.int64]]
"""Counts by row and column of a cell."""


class _Axis(NamedTuple):
    """One axis of the grid of cells."""

    length: int
    """Of a cell, in pixels."""

    sources: NDArray[np.int64]
    """Of each position in the mirrored image: the position in the image that it shows."""


def clahe_survey(form: Form, clip: float, tiles: int) -> Survey:
    """Luma by its surroundings, at any depth; the rest of the image stays."""
    across, down = _axes(form.size, tiles)
    levels = 256 if form.dtype == np.uint8 else 65_536

    def look(pixels: Array, place: Place) -> Look:
        core = place.core
        luma = luma_of(Image(place.core.of(pixels, place.extended)))
        cells: dict[tuple[int, int], NDArray[np.int64]] = {}
        for row, ys in _within(down, core.top, core.bottom):
            for column, xs in _within(across, core.left, core.right):
                cells[row, column] = counted(luma[np.ix_(ys - core.top, xs - core.left)])
        return Look(cells)

    def conclude(told: Any) -> NDArray[Any]:
        area = across.length * down.length
        tables = np.zeros((tiles, tiles, levels), np.uint8 if levels == 256 else np.uint16)
        for (row, column), counts in told[0][1].items():
            tables[row, column] = _table(counts, clip, area)
        return tables

    def finish(pixels: Array, place: Place, tables: Any) -> Array:
        def run(luma: NDArray[Any]) -> NDArray[Any]:
            return _between(luma, place, tables, across.length, down.length)

        return on_colors(Image(pixels), lambda colors: on_luma(colors, run)).pixels

    return Survey("clahe", look, conclude, finish, join=_added, ns_per_pixel=12.0, memory_factor=12.0)


def _axes(size: Size, tiles: int) -> tuple[_Axis, _Axis]:
    even = size.width % tiles == 0 and size.height % tiles == 0
    axes = []
    for side in size:
        longer = side if even else side + tiles - side % tiles
        sources = [cv2.borderInterpolate(place, side, cv2.BORDER_REFLECT_101) for place in range(side, longer)]
        axes.append(_Axis(longer // tiles, np.concatenate((np.arange(side), np.array(sources, np.int64)))))
    return axes[0], axes[1]


def _within(axis: _Axis, start: int, stop: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Each cell that shows something from ``start`` to ``stop``, and the positions that it shows."""
    shown = np.flatnonzero((axis.sources >= start) & (axis.sources < stop))
    cells = shown // axis.length
    for cell in np.unique(cells).tolist():
        yield cell, axis.sources[shown[cells == cell]]


def _added(one: Cells, other: Cells) -> Cells:
    total = dict(one)
    for cell, counts in other.items():
        total[cell] = total[cell] + counts if cell in total else counts
    return total


def _table(counts: NDArray[np.int64], clip: float, area: int) -> NDArray[Any]:
    """The table of one cell: its histogram, cut off at a limit and summed up. What is cut off goes to all levels."""
    levels = len(counts)
    if clip > 0:
        limit = max(1, int(clip * area / levels))
        clipped = int(np.maximum(counts - limit, 0).sum())
        share, rest = divmod(clipped, levels)
        counts = np.minimum(counts, limit) + share
        if rest:
            counts[: rest * max(levels // rest, 1) : max(levels // rest, 1)][:rest] += 1
    scaled = np.cumsum(counts).astype(np.float32) * (np.float32(levels - 1) / np.float32(area))
    return np.minimum(np.rint(scaled), levels - 1).astype(np.uint8 if levels == 256 else np.uint16)


def _between(luma: NDArray[Any], place: Place, tables: NDArray[Any], width: int, height: int) -> NDArray[Any]:
    """Each sample by the tables of the four cells around it."""
    region = place.extended
    left, right, x_share = _neighbors(region.left, region.width, width, tables.shape[1])
    upper, lower, y_share = _neighbors(region.top, region.height, height, tables.shape[0])
    done = np.empty_like(luma)
    for top, bottom in _runs(upper, lower):
        down = y_share[top:bottom, np.newaxis]
        for start, stop in _runs(left, right):
            part = np.ascontiguousarray(luma[top:bottom, start:stop])
            along = x_share[start:stop]
            rows = []
            for row in (upper[top], lower[top]):
                first = cv2.LUT(part, tables[row, left[start]]).astype(np.float32)
                second = cv2.LUT(part, tables[row, right[start]]).astype(np.float32)
                first *= np.float32(1) - along
                second *= along
                first += second
                rows.append(first)
            rows[0] *= np.float32(1) - down
            rows[1] *= down
            rows[0] += rows[1]
            done[top:bottom, start:stop] = np.rint(rows[0], out=rows[0])
    return done


def _neighbors(
    start: int, count: int, length: int, cells: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]:
    """Of each position: the cell before, the cell behind, and the share of the latter."""
    at = np.arange(start, start + count).astype(np.float32) * (np.float32(1) / np.float32(length)) - np.float32(0.5)
    before = np.floor(at)
    share = at - before
    cell = before.astype(np.int64)
    return np.maximum(cell, 0), np.minimum(cell + 1, cells - 1), share


def _runs(first: NDArray[np.int64], second: NDArray[np.int64]) -> list[tuple[int, int]]:
    """Where both stay the same."""
    changes = np.flatnonzero((np.diff(first) != 0) | (np.diff(second) != 0)) + 1
    edges = [0, *changes.tolist(), len(first)]
    return list(itertools.pairwise(edges))
