"""Components that cross tiles: what lies along a tile's seams, which of it touches, and what is one in the end.

Arrays and integers only; knows no operation. Positions are ``y * width + x`` in the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.passes import Place

Labels = NDArray[np.int64]


class Rim(NamedTuple):
    """The labeled pixels of a tile along its seams; the image's own border is no seam."""

    positions: NDArray[np.int64]
    labels: NDArray[np.int32]


def rim_of(labels: NDArray[Any], place: Place) -> Rim:
    """Where the outermost pixels of ``labels`` (those of ``place.core``; 0 is none) lie, and what they are."""
    core, size = place.core, place.size
    rows, columns = np.arange(core.top, core.bottom), np.arange(core.left, core.right)
    positions, found = [], []
    for row, inner in ((0, core.top > 0), (core.height - 1, core.bottom < size.height)):
        if inner:
            positions.append((core.top + row) * size.width + columns)
            found.append(labels[row])
    for column, inner in ((0, core.left > 0), (core.width - 1, core.right < size.width)):
        if inner:
            positions.append(rows * size.width + core.left + column)
            found.append(labels[:, column])
    if not positions:
        return Rim(np.empty(0, np.int64), np.empty(0, np.int32))
    at, which = np.concatenate(positions), np.concatenate(found)
    labeled = np.flatnonzero(which)
    at, first = np.unique(at[labeled], return_index=True)  # corners lie on two sides
    return Rim(at.astype(np.int64), which[labeled][first].astype(np.int32))


def offsets(counts: Sequence[int]) -> Labels:
    """Where the numbers of each tile start when all are counted through from 0."""
    return np.concatenate(([0], np.cumsum(np.asarray(counts, np.int64))))[: len(counts)]


def touching(positions: Labels, labels: Labels, width: int, connectivity: int = 8) -> NDArray[np.int64]:
    """Pairs of labels of which pixels are neighbors, ``N×2``. Pixels of an image ``width`` wide, each at most once."""
    order = np.argsort(positions, kind="stable")
    positions, labels = positions[order], labels[order]
    column = positions % width
    steps = [(1, column < width - 1), (width, column >= 0)]
    if connectivity == 8:
        steps += [(width + 1, column < width - 1), (width - 1, column > 0)]
    found = []
    for step, has_neighbor in steps:
        here = np.flatnonzero(has_neighbor)
        at = np.searchsorted(positions, positions[here] + step)
        at[at == len(positions)] = 0
        hit = positions[at] == positions[here] + step if len(positions) else np.empty(0, bool)
        found.append(np.column_stack((labels[here[hit]], labels[at[hit]])))
    pairs = np.concatenate(found)
    return np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)


def roots(count: int, pairs: NDArray[np.int64]) -> Labels:
    """Of ``count`` labels, each one's set after joining all ``pairs``: the set's least label.

    Union-find on whole arrays: the higher of two roots is hung below the lower one, then every path is made short.
    """
    parent = np.arange(count, dtype=np.int64)
    left, right = pairs[:, 0], pairs[:, 1]
    while True:
        a, b = parent[left], parent[right]
        apart = a != b
        if not apart.any():
            return parent
        left, right, a, b = left[apart], right[apart], a[apart], b[apart]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            shorter = parent[parent]
            if np.array_equal(shorter, parent):
                break
            parent = shorter
