"""Connected components over tiles: the same areas, boxes, centers and numbers as of the whole image.

Each tile labels its own; what touches a seam is joined with what it touches there. Areas and sums of coordinates are
integers, and so is the order: components are numbered by their first pixel, as OpenCV goes over it (rows of pixels for
4 neighbors; for 8, rows of blocks of 2x2).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.passes import Place
from pixelmill.operations.seams import Rim, offsets, rim_of, roots, touching

Table = NDArray[np.int64]
LEFT, TOP, RIGHT, BOTTOM, AREA, SUM_X, SUM_Y, FIRST = range(8)
"""Columns of a table of components: right and bottom are behind the last pixel; FIRST orders them."""


class Parts(NamedTuple):
    """What a tile tells. Components that end within it need no joining: of most, only the order is told."""

    open: Table
    """Those on a seam, in the order of ``labels``."""

    labels: NDArray[np.int32]
    """Their labels in the tile."""

    rim: Rim
    """What lies along the seams: rows of ``open``, from 1."""

    firsts: Table
    """Of those that end here and are large enough: FIRST."""

    closed: NDArray[np.int32]
    """Their labels in the tile."""

    largest: Table
    """The largest of these."""


class Joined(NamedTuple):
    """All components."""

    number: int
    listed: Table
    """The largest, in the order of their size."""

    numbers: NDArray[np.int64]
    """Of each row of ``listed``."""

    by_tile: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]]
    """Labels in the tile, and the numbers they get; others get 0."""


def labeled(objects: NDArray[np.uint8], connectivity: int) -> NDArray[np.int32]:
    """The labels of a tile."""
    return np.asarray(cv2.connectedComponents(objects, connectivity=connectivity, ltype=cv2.CV_32S)[1], np.int32)


def parts_of(objects: NDArray[np.uint8], place: Place, connectivity: int, min_area: int, most: int) -> Parts:
    """``objects`` are those of the core."""
    core = place.core
    count, labels, stats, centers = cv2.connectedComponentsWithStats(objects, connectivity=connectivity)
    table = np.zeros((count, 8), np.int64)
    area = stats[:, cv2.CC_STAT_AREA].astype(np.int64)
    table[:, LEFT], table[:, TOP] = stats[:, 0] + core.left, stats[:, 1] + core.top
    table[:, RIGHT], table[:, BOTTOM] = table[:, LEFT] + stats[:, 2], table[:, TOP] + stats[:, 3]
    table[:, AREA] = area
    sums = np.rint(np.nan_to_num(centers) * area[:, np.newaxis]).astype(np.int64)
    table[:, SUM_X], table[:, SUM_Y] = sums[:, 0] + area * core.left, sums[:, 1] + area * core.top
    table[:, FIRST] = firsts_of(labels, count, place, connectivity)
    rim = rim_of(labels, place)
    on_seam = np.unique(rim.labels)
    row = np.zeros(count, np.int32)
    row[on_seam] = np.arange(1, len(on_seam) + 1, dtype=np.int32)
    closed = np.flatnonzero((row == 0) & (area >= min_area))
    closed = closed[closed > 0]
    largest = closed[np.lexsort((table[closed, FIRST], -area[closed]))[:most]]
    return Parts(
        table[on_seam],
        on_seam,
        Rim(rim.positions, row[rim.labels]),
        table[closed, FIRST],
        closed.astype(np.int32),
        table[largest],
    )


def firsts_of(labels: NDArray[np.int32], count: int, place: Place, connectivity: int) -> Table:
    """Of each label: where OpenCV would first meet it in the whole image."""
    core, width = place.core, place.size.width
    firsts = np.full(count, np.iinfo(np.int64).max)
    rows, columns = np.nonzero(labels)
    which, y, x = labels[rows, columns], rows + core.top, columns + core.left
    if connectivity == 4:
        firsts[which[::-1]] = (y * width + x)[::-1]  # of those with one label the last one stays
        return firsts
    keys = (y // 2) * ((width + 1) // 2) + x // 2
    for parity in (0, 1):  # within rows of one parity, keys go up
        mine = np.flatnonzero(y % 2 == parity)[::-1]
        own = np.full(count, np.iinfo(np.int64).max)
        own[which[mine]] = keys[mine]
        np.minimum(firsts, own, out=firsts)
    return firsts


def join(told: Sequence[tuple[Place | None, Parts]], connectivity: int, min_area: int, most: int) -> Joined:
    """All components of at least ``min_area`` pixels; ``most`` of them are listed."""
    places = [place for place, _ in told if place is not None]
    parts = [part for _, part in told]
    starts = offsets([len(part.labels) for part in parts])
    table = np.concatenate([part.open for part in parts])
    at = np.concatenate([part.rim.positions for part in parts])
    rows = np.concatenate([part.rim.labels + start - 1 for part, start in zip(parts, starts, strict=True)])
    root = roots(len(table), touching(at, rows, places[0].size.width, connectivity))
    kept, place_of = np.unique(root, return_inverse=True)
    merged = table[kept]
    for column in (LEFT, TOP, FIRST):
        np.minimum.at(merged[:, column], place_of, table[:, column])
    for column in (RIGHT, BOTTOM):
        np.maximum.at(merged[:, column], place_of, table[:, column])
    for column in (AREA, SUM_X, SUM_Y):
        merged[:, column] = 0
        np.add.at(merged[:, column], place_of, table[:, column])
    large = merged[:, AREA] >= min_area
    order = np.sort(np.concatenate((merged[large, FIRST], *(part.firsts for part in parts))))
    by_tile: dict[int, tuple[NDArray[np.int32], NDArray[np.int32]]] = {}
    firsts = np.where(large, merged[:, FIRST], -1)[place_of]
    for place, part, start in zip(places, parts, starts, strict=True):
        mine = firsts[start : start + len(part.labels)]
        numbers = np.where(mine >= 0, np.searchsorted(order, mine) + 1, 0)
        labels = np.concatenate((part.labels, part.closed))
        by_tile[place.number] = (
            labels,
            np.concatenate((numbers, np.searchsorted(order, part.firsts) + 1)).astype(np.int32),
        )
    listed = np.concatenate((merged[large], *(part.largest for part in parts)))
    listed = listed[np.lexsort((listed[:, FIRST], -listed[:, AREA]))[:most]]
    return Joined(len(order), listed, np.searchsorted(order, listed[:, FIRST]) + 1, by_tile)
