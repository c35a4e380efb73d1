"""The steps of ``watershed``, whole and over tiles: distances, cores, flooding, and lines between regions.

What is carried from step to step beside the image's own samples is one channel, the state: below 0 surely background;
0 neither; above, the distance to the background as the bits of its ``float32``. Once cores are known, the distance is
an integer, and a high bit says core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import NotTileable
from pixelmill.images.image import Image
from pixelmill.operations.component_tiles import firsts_of
from pixelmill.operations.drawing import rgb8_of
from pixelmill.operations.flooding import DEPTH_BITS, Graph, Relief, graph_of, joined
from pixelmill.operations.objects import Side
from pixelmill.operations.passes import Array, Form, Look, Map, Pass, Place, Survey
from pixelmill.operations.plain_opencv import without_ipp
from pixelmill.operations.seams import Rim, offsets, rim_of, roots, touching

State = NDArray[np.int32]
_SURE = 3
"""Pixels around objects that may be theirs; what lies farther is background."""
MAX_REACH = 2_048
"""Pixels from an object's inside to its edge that tiles reach."""
_KERNEL = np.ones((3, 3), np.uint8)
_INT32 = np.dtype(np.int32)


def state_of(objects: NDArray[np.uint8], opening: int) -> State:
    """Of a mask of objects, 255 or 0."""
    if opening:
        objects = np.asarray(cv2.morphologyEx(objects, cv2.MORPH_OPEN, _KERNEL, iterations=opening), np.uint8)
    with without_ipp():
        distance = cv2.distanceTransform(objects, cv2.DIST_L2, 5).astype(np.float32)
    state = distance.view(np.int32).copy()
    state[cv2.dilate(objects, _KERNEL, iterations=_SURE) == 0] = -1
    return state


class Areas(NamedTuple):
    """Connected areas of a tile, by the greatest distance in each."""

    greatest: NDArray[np.int32]
    rim: Rim


def areas_of(state: State, place: Place) -> tuple[Areas, NDArray[np.int32]]:
    """What a tile tells, and the labels of its core."""
    count, labels = cv2.connectedComponents((state > 0).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    greatest = np.zeros(count, np.int32)
    inside = state > 0
    np.maximum.at(greatest, labels[inside], state[inside])
    return Areas(greatest, rim_of(labels, place)), np.asarray(labels, np.int32)


def greatest_of(told: Sequence[Areas], width: int) -> list[NDArray[np.int32]]:
    """Of each tile: the greatest distance in the whole of each of its areas."""
    starts = offsets([len(areas.greatest) for areas in told])
    greatest = np.concatenate([areas.greatest for areas in told])
    at = np.concatenate([areas.rim.positions for areas in told])
    labels = np.concatenate([areas.rim.labels + start for areas, start in zip(told, starts, strict=True)])
    root = roots(len(greatest), touching(at, labels, width))
    np.maximum.at(greatest, root, greatest)
    whole = greatest[root]
    return [whole[start : start + len(areas.greatest)] for areas, start in zip(told, starts, strict=True)]


def cores_of(state: State, labels: NDArray[np.int32], greatest: NDArray[np.int32], part: float) -> State:
    """The state with distances in 1/32 of a pixel, and :data:`_CORE` added in cores; below 0 as before."""
    least = greatest.view(np.float32) * np.float32(part)
    distance = np.where(state > 0, state.view(np.float32), np.float32(0))
    cores = (state > 0) & (distance > least[labels])
    depth = np.minimum(np.rint(distance * 32), (1 << DEPTH_BITS) - 1).astype(np.int32)
    return np.where(state < 0, np.int32(-1), depth + np.int32(_CORE) * cores)


_CORE = 1 << (DEPTH_BITS + 1)


class Flood(NamedTuple):
    """What a tile tells: its cores by where each begins, and a graph whose last marker is the background."""

    firsts: NDArray[np.int64]
    rim: Rim
    graph: Graph | None
    """None where only cores are counted."""


def flood_of(colors: NDArray[np.uint8] | None, state: State, place: Place) -> tuple[Flood, NDArray[np.int64] | None]:
    """And the node of each pixel of the core; ``colors`` None: count only."""
    count, labels = cv2.connectedComponents((state >= _CORE).astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    cores = np.asarray(labels, np.int32)
    firsts = firsts_of(cores, count, place, 8)[1:]
    rim = rim_of(cores, place)
    if colors is None:
        return Flood(firsts, rim, None), None
    marks = np.where(state < 0, np.int32(count), cores)
    relief = Relief(colors, np.maximum(state, 0) & ((1 << DEPTH_BITS) - 1))
    graph, node = graph_of(relief, marks, count, place)
    return Flood(firsts, rim, graph), node


class Regions(NamedTuple):
    """How many cores there are; and of each tile, the region of each node: 0 none, 1 background, from 2 the objects."""

    number: int
    of_nodes: list[NDArray[np.int64]]


def regions_of(told: Sequence[Flood], width: int) -> Regions:
    """Of all tiles."""
    starts = offsets([len(flood.firsts) for flood in told])
    firsts = np.concatenate([flood.firsts for flood in told])
    at = np.concatenate([flood.rim.positions for flood in told])
    labels = np.concatenate([flood.rim.labels + start - 1 for flood, start in zip(told, starts, strict=True)])
    root = roots(len(firsts), touching(at, labels, width))
    least = firsts.copy()
    np.minimum.at(least, root, firsts)
    order = np.unique(least[np.unique(root)])
    number = np.searchsorted(order, least[root]) + 2
    graphs = [flood.graph for flood in told if flood.graph is not None]
    if not graphs:
        return Regions(len(order), [])
    numbers = [
        np.concatenate((number[start : start + len(flood.firsts)], [1])).astype(np.int64)
        for flood, start in zip(told, starts, strict=True)
    ]
    return Regions(len(order), joined(graphs, numbers, width))


def lines_in(regions: NDArray[Any]) -> NDArray[np.bool_]:
    """One pixel wide, on the side of the higher number."""
    lines = np.zeros(regions.shape, bool)
    for here, there in (
        (np.s_[1:, :], np.s_[:-1, :]),
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        lines[here] |= regions[here] > regions[there]
    return lines


class Columns(NamedTuple):
    """Runs of objects along lines of a tile: at the start of each, at its end, and the longest within."""

    start: NDArray[np.int64]
    end: NDArray[np.int64]
    inner: int
    length: int


def _runs(objects: NDArray[np.uint8]) -> Columns:
    """Down each column."""
    height, width = objects.shape
    background = objects == 0
    has = background.any(axis=0)
    start = np.where(has, background.argmax(axis=0), height)
    end = np.where(has, background[::-1].argmax(axis=0), height)
    padded = np.ones((height + 2, width), bool)
    padded[1:-1] = background
    at, column = np.nonzero(padded.T)[::-1]
    gaps = np.diff(at)[np.diff(column) == 0] - 1
    return Columns(start, end, int(gaps.max(initial=0)), height)


def reach_bound(told: Sequence[tuple[Place | None, tuple[Columns, Columns]]]) -> int:
    """No pixel of an object is farther from the background than that; :data:`MAX_REACH` + 1 if it may be."""
    places = [place for place, _ in told if place is not None]
    size = places[0].size
    bounds = []
    for axis, across in enumerate(size):
        run = np.zeros(across, np.int64)
        free = np.ones(across, bool)  # the run began where the image begins
        longest = 0.0
        order = sorted(range(len(places)), key=lambda n: places[n].core[1 - axis])
        for index in order:
            core, lines = places[index].core, told[index][1][axis]
            part = slice(core[axis], core[axis] + core[2 + axis])
            run[part] += lines.start
            ends = lines.start < lines.length
            reach = np.where(free[part], run[part], (run[part] + 1) / 2)[ends]
            longest = max(longest, float(reach.max(initial=0)), (lines.inner + 1) / 2)
            run[part] = np.where(ends, lines.end, run[part])
            free[part] &= ~ends
        open_ended = np.where(free, np.inf, run)  # a line without background bounds nothing
        bounds.append(max(longest, float(open_ended.max(initial=0))))
    return math.ceil(min(MAX_REACH + 1, min(bounds) + 2))


class Steps(NamedTuple):
    """Parameters of the operation."""

    form: Form
    opening: int
    core: float
    count_only: bool
    drawn: Callable[[Array, NDArray[np.int64], NDArray[np.bool_]], Array]
    """What comes out, of the image's samples, the regions (as in :class:`Regions`) and the lines between them."""

    channels: int
    dtype: np.dtype[Any]


def watershed_passes(steps: Steps, side: Side) -> tuple[Pass, ...]:
    """After Otsu's threshold: how far objects reach, and then all else."""

    def look(pixels: Array, place: Place) -> Look:
        objects = side.of(np.ascontiguousarray(place.core.of(pixels, place.extended)))
        return Look((_runs(objects), _runs(np.ascontiguousarray(objects.T))))

    def then(reach: int) -> tuple[Pass, ...]:
        if reach > MAX_REACH:
            raise NotTileable(
                f"watershed: an object reaches more than {MAX_REACH:,} pixels from its edge, which can't be had over "
                "tiles. Is the background taken for the object (foreground=bright or dark)? Else resize it first.",
                operation="watershed",
            )
        return _after_reach(steps, side, reach)

    survey = Survey("reach", look, reach_bound, then=then, expected=_after_reach(steps, side, 256), ns_per_pixel=8.0)
    return (survey,)


def _after_reach(steps: Steps, side: Side, reach: int) -> tuple[Pass, ...]:
    channels = steps.form.channels

    def measured(pixels: Array, place: Place) -> Array:
        del place
        return packed(pixels, state_of(side.of(pixels), steps.opening))

    def area_look(carried: Array, place: Place) -> Look:
        return Look(areas_of(_state(place.core.of(carried, place.extended)), place)[0])

    def area_conclude(told: Any) -> dict[int, NDArray[np.int32]]:
        found = greatest_of([areas for _, areas in told], told[0][0].size.width)
        return {place.number: greatest for (place, _), greatest in zip(told, found, strict=True)}

    def area_finish(carried: Array, place: Place, greatest: dict[int, NDArray[np.int32]]) -> Array:
        done = carried.copy()
        core = place.core.of(done, place.extended)
        state = _state(core)
        labels = areas_of(state, place)[1]
        core[..., -1] = cores_of(state, labels, greatest[place.number], steps.core)
        return done

    def flood(carried: Array, place: Place, *, count_only: bool) -> tuple[Flood, NDArray[np.int64] | None]:
        core = place.core.of(carried, place.extended)
        relief = None if count_only else rgb8_of(Image(unpacked(core, steps.form)))
        return flood_of(relief, _state(core), place)

    def flood_look(carried: Array, place: Place) -> Look:
        return Look(flood(carried, place, count_only=steps.count_only)[0])

    def flood_conclude(told: Any) -> tuple[int, dict[int, NDArray[np.int64]]]:
        found = regions_of([one for _, one in told], told[0][0].size.width)
        by_tile = zip(told, found.of_nodes, strict=True) if found.of_nodes else ()
        return found.number, {place.number: own for (place, _), own in by_tile}

    def flood_finish(carried: Array, place: Place, found: tuple[int, dict[int, NDArray[np.int64]]]) -> Array:
        done = carried.copy()
        node = flood(carried, place, count_only=False)[1]
        place.core.of(done, place.extended)[..., -1] = found[1][place.number][node]
        return done

    def draw(carried: Array, place: Place) -> Array:
        del place
        regions = carried[..., -1]
        return steps.drawn(unpacked(carried, steps.form), regions, lines_in(regions))

    def back(carried: Array, place: Place) -> Array:
        del place
        return unpacked(carried, steps.form)

    halo = reach + 2 * steps.opening + _SURE
    measure = Map("distance", measured, halo, channels + 1, _INT32, 8.0, 16.0)
    areas = Survey("areas", area_look, area_conclude, area_finish, ns_per_pixel=8.0, memory_factor=3.0)
    if steps.count_only:
        counting = Survey(
            "cores",
            flood_look,
            flood_conclude,
            images=False,
            data=_counted,
            ns_per_pixel=6.0,
            memory_factor=4.0,
        )
        return measure, areas, counting, Map("image", back, 0, channels, steps.form.dtype)
    flooding = Survey(
        "flood",
        flood_look,
        flood_conclude,
        flood_finish,
        data=_counted,
        ns_per_pixel=300.0,
        memory_factor=30.0,
    )
    return measure, areas, flooding, Map("lines", draw, 1, steps.channels, steps.dtype, 5.0, 3.0)


def _counted(found: Any) -> dict[str, Any]:
    return {"count": found[0]}


def packed(pixels: Array, state: State) -> NDArray[np.int32]:
    """The image's samples and the state, ``H×W×(C+1)``."""
    samples = pixels.view(np.int32) if pixels.dtype == np.float32 else pixels
    carried = np.empty((*state.shape, 1 + (1 if pixels.ndim == 2 else pixels.shape[2])), np.int32)
    carried[..., :-1] = samples[..., np.newaxis] if pixels.ndim == 2 else samples
    carried[..., -1] = state
    return carried


def unpacked(carried: Array, form: Form) -> Array:
    """The image's samples."""
    samples = np.ascontiguousarray(carried[..., :-1] if form.channels > 1 else carried[..., 0])
    return samples.view(np.float32) if form.dtype == np.float32 else samples.astype(form.dtype)


def _state(carried: Array) -> State:
    return np.ascontiguousarray(carried[..., -1])
