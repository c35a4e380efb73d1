"""Watershed by a minimum spanning forest (Cousty, Bertrand, Najman and Couprie 2009), whole or over tiles.

Pixels are joined to markers along the cheapest edges between 4-neighbors: those across which colors differ least; of
these, those that lie deepest within an object. No two edges are alike: of equal ones, the one that comes first in the
image is cheaper. So there is one forest, whatever the order in which it is found, and what
a tile has joined is joined in the whole image too. What touches a seam waits: its cheapest edge may lie beyond.
Integers only; knows no operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.passes import Place
from pixelmill.operations.seams import Rim, offsets, rim_of

Ints = NDArray[np.int64]
_POSITION_BITS = 38
"""For twice the position of an edge's first pixel: images of 370,000 pixels a side."""
DEPTH_BITS = 17


class Graph(NamedTuple):
    """A tile after joining what needs no other tile. Nodes are its markers, in their order, then what waits."""

    markers: int
    nodes: int
    edges: Ints
    """``N×3``: a node, another, the key of the cheapest edge between them."""

    rim: Rim
    """Nodes along the seams, from 1."""

    colors: NDArray[np.uint8]
    """Of the rim's pixels, ``N×C``."""

    depths: NDArray[np.int32]
    """Of the rim's pixels."""


class Relief(NamedTuple):
    """What is flooded: ``colors`` (``H×W×C``), and how deep each pixel lies in an object, below ``1 << DEPTH_BITS``."""

    colors: NDArray[np.uint8]
    depths: NDArray[np.int32]


def spanning(count: int, edges: Ints, frozen: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Join each node that isn't frozen along its cheapest edge, over and over (Borůvka 1926).

    ``edges`` is ``N×3``: two nodes and a key; no key twice but for the same edge. Gives the root of each node, and the
    edges that are left between frozen ones. What has no way to a frozen node is a set of its own.
    """
    order = np.argsort(edges[:, 2], kind="stable")
    left, right, keys = edges[order, 0], edges[order, 1], edges[order, 2]
    root = np.arange(count)
    frozen = frozen.copy()
    kept: list[Ints] = []
    while len(left):
        best = np.full(count, len(left))
        back = np.arange(len(left))[::-1]
        best[left[back]] = back  # of several the last one written stays, which is the cheapest
        other = np.full(count, len(left))
        other[right[back]] = back
        np.minimum(best, other, out=best)
        active = np.flatnonzero((best < len(left)) & ~frozen)
        if not len(active):
            break
        edge = best[active]
        target = left[edge] + right[edge] - active
        parent = np.arange(count)
        parent[active] = target
        mutual = active[(parent[target] == active) & (active < target)]
        parent[mutual] = mutual
        while True:
            further = parent[parent]
            if np.array_equal(further, parent):
                break
            parent = further
        root = parent[root]
        left, right = parent[left], parent[right]
        apart = left != right
        left, right, keys = left[apart], right[apart], keys[apart]
        settled = frozen[left] & frozen[right]
        if settled.any():
            kept.append(np.column_stack((left[settled], right[settled], keys[settled])))
            left, right, keys = left[~settled], right[~settled], keys[~settled]
    kept.append(np.column_stack((left, right, keys)))
    return root, np.concatenate(kept)


def _keys(first: Relief, second: Relief, positions: Ints, down: int) -> Ints:
    """The order of edges that go from ``first`` at ``positions`` to the right (0) or down (1), to ``second``."""
    differ = (np.maximum(first.colors, second.colors) - np.minimum(first.colors, second.colors)).max(axis=1)
    shallow = (1 << DEPTH_BITS) - 1 - np.minimum(first.depths, second.depths).astype(np.int64)
    return (((differ.astype(np.int64) << DEPTH_BITS) + shallow) << _POSITION_BITS) + 2 * positions + down


def graph_of(relief: Relief, marks: NDArray[np.int32], markers: int, place: Place) -> tuple[Graph, Ints]:
    """What a tile tells, and the node of each pixel of its core.

    ``marks`` has numbers from 1 to ``markers`` where a marker is, else 0.
    """
    height, width = marks.shape
    core = place.core
    element = marks.astype(np.int64) - 1
    free = marks == 0
    count = markers + int(np.count_nonzero(free))
    element[free] = np.arange(markers, count)
    positions = (np.arange(core.top, core.bottom)[:, np.newaxis] * place.size.width) + np.arange(core.left, core.right)
    parts = []
    for down, (first, second) in enumerate(
        ((np.s_[:, : width - 1], np.s_[:, 1:]), (np.s_[: height - 1, :], np.s_[1:, :]))
    ):
        counts = free[first] | free[second]
        a, b = (Relief(relief.colors[part][counts], relief.depths[part][counts]) for part in (first, second))
        keys = _keys(a, b, positions[first][counts], down)
        parts.append(np.column_stack((element[first][counts], element[second][counts], keys)))
    frozen = np.zeros(count, bool)
    frozen[:markers] = True
    seams = (
        (np.s_[0, :], core.top > 0),
        (np.s_[-1, :], core.bottom < place.size.height),
        (np.s_[:, 0], core.left > 0),
        (np.s_[:, -1], core.right < place.size.width),
    )
    for side, inner in seams:
        if inner:
            frozen[element[side]] = True
    root, rest = spanning(count, np.concatenate(parts), frozen)
    names = np.full(count, -1)
    waiting = np.unique(root[markers:])
    waiting = waiting[waiting >= markers]
    names[:markers] = np.arange(markers)
    names[waiting] = np.arange(markers, markers + len(waiting))
    node = names[root[element]]
    edges = np.column_stack((names[rest[:, 0]], names[rest[:, 1]], rest[:, 2])) if len(rest) else rest
    rim = rim_of(node + 1, place)
    rows, columns = np.divmod(rim.positions, place.size.width)
    at = (rows - core.top, columns - core.left)
    return Graph(markers, markers + len(waiting), _cheapest(edges), rim, relief.colors[at], relief.depths[at]), node


def _cheapest(edges: Ints) -> Ints:
    """Of edges between the same two nodes the cheapest alone."""
    if not len(edges):
        return edges
    low, high = edges[:, :2].min(axis=1), edges[:, :2].max(axis=1)
    order = np.lexsort((edges[:, 2], high, low))
    first = np.concatenate(([True], (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)))
    return edges[order[first]]


def joined(graphs: Sequence[Graph], numbers: Sequence[Ints], width: int) -> list[Ints]:
    """Of each graph: the number that each of its nodes gets; 0 where no marker is reached.

    ``numbers`` are those of the markers of each graph, from 1; markers of one number are one.
    """
    starts = offsets([graph.nodes for graph in graphs])
    most = 1 + max((int(own.max()) for own in numbers if len(own)), default=0)
    # Nodes 0 to most are the numbers; those that wait come behind.
    names = [
        np.concatenate((own, most + start + np.arange(graph.markers, graph.nodes))).astype(np.int64)
        for graph, own, start in zip(graphs, numbers, starts, strict=True)
    ]
    total = most + int(sum(graph.nodes for graph in graphs))
    edges = [
        np.column_stack((name[graph.edges[:, 0]], name[graph.edges[:, 1]], graph.edges[:, 2]))
        for graph, name in zip(graphs, names, strict=True)
        if len(graph.edges)
    ]
    edges.append(_across(graphs, names, width))
    together = np.concatenate(edges)
    together = together[together[:, 0] != together[:, 1]]
    frozen = np.zeros(total, bool)
    frozen[:most] = True
    settled = frozen[together[:, 0]] & frozen[together[:, 1]]
    root, _ = spanning(total, together[~settled], frozen)
    return [np.where(root[name] < most, root[name], 0) for name in names]


def _across(graphs: Sequence[Graph], names: Sequence[Ints], width: int) -> Ints:
    """Edges between pixels on seams."""
    positions = np.concatenate([graph.rim.positions for graph in graphs])
    if not len(positions):
        return np.empty((0, 3), np.int64)
    nodes = np.concatenate([name[graph.rim.labels - 1] for graph, name in zip(graphs, names, strict=True)])
    order = np.argsort(positions)
    positions, nodes = positions[order], nodes[order]
    colors = np.concatenate([graph.colors for graph in graphs if len(graph.colors)])[order]
    depths = np.concatenate([graph.depths for graph in graphs])[order]
    found = []
    for down, step in enumerate((1, width)):
        at = np.minimum(np.searchsorted(positions, positions + step), len(positions) - 1)
        hit = positions[at] == positions + step
        if not down:
            hit &= positions % width < width - 1
        here, there = np.flatnonzero(hit), at[hit]
        keys = _keys(Relief(colors[here], depths[here]), Relief(colors[there], depths[there]), positions[here], down)
        found.append(np.column_stack((nodes[here], nodes[there], keys)))
    return np.concatenate(found)
