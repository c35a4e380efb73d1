"""Canny over tiles, equal to ``cv2.Canny`` of the whole image: hysteresis is carried over the seams.

Each tile finds its candidates (local maxima above the lower threshold), and the components of them that hold a strong
pixel; those that end within the tile are decided. What is neither strong nor ends is told along the seams, joined with
what it touches there, corners too, and decided by the conclusion.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.operations.passes import Array, Look, Place, Survey
from pixelmill.operations.pixels import gray8_of
from pixelmill.operations.seams import Rim, rim_of, roots, touching

_PENDING, _EDGE = 1, 255
_STRONG = 1
"""The label along seams of all that holds a strong pixel; pending components are counted from 2."""

Seeds = Mapping[int, NDArray[np.int64]]
"""By the number of a tile: positions in the whole image, one of each pending component that is an edge after all."""


class Told(NamedTuple):
    """Of one tile: pending components, and what lies along the seams."""

    pending: int
    rim: Rim


def canny_survey(low: float, high: float, aperture: int, *, l2: bool, ns_per_pixel: float) -> Survey:
    """The edges of luma at 8 bits, 0 or 255."""
    scale = 1 / 16 if aperture == 7 else 1.0  # as cv2.Canny has it, so that 16 bits hold the gradient
    low, high = low * scale, high * scale

    def look(pixels: Array, place: Place) -> Look:
        gray = gray8_of(pixels)
        dx, dy = (
            cv2.Sobel(gray, cv2.CV_16S, x, 1 - x, ksize=aperture, scale=scale, borderType=cv2.BORDER_REPLICATE)
            for x in (1, 0)
        )
        found = cv2.Canny(dx, dy, low, low, L2gradient=l2)
        candidates = np.ascontiguousarray(place.core.of(found, place.extended))
        if low == high:
            return Look(Told(0, rim_of(candidates != 0, place)), candidates)
        # With no gradient but that of candidates, OpenCV finds these again and none else, and follows them in the core.
        across, down = (cv2.copyTo(place.core.of(part, place.extended), candidates) for part in (dx, dy))
        return _decided(candidates, cv2.Canny(across, down, low, high, L2gradient=l2), place)

    def finish(kept: Array, place: Place, seeds: Any) -> Array:
        positions = seeds.get(place.number)
        if positions is not None:
            kept = kept.copy()
            rows, columns = np.divmod(positions, place.size.width)
            for x, y in zip((columns - place.core.left).tolist(), (rows - place.core.top).tolist(), strict=True):
                cv2.floodFill(kept, None, (x, y), _EDGE, flags=8)
        return cv2.threshold(kept, _PENDING, _EDGE, cv2.THRESH_BINARY)[1]

    return Survey(
        "canny",
        look,
        _joined,
        finish,
        keeps=np.dtype(np.uint8),
        halo=aperture // 2 + 1,
        channels=1,
        dtype=np.dtype(np.uint8),
        ns_per_pixel=ns_per_pixel,
        memory_factor=12.0,
    )


def _decided(candidates: NDArray[np.uint8], edges: NDArray[np.uint8], place: Place) -> Look:
    """Edges, pending components and nothing else are kept."""
    rim = rim_of(candidates, place)
    rows, columns = np.divmod(rim.positions, place.size.width)
    rows, columns = rows - place.core.top, columns - place.core.left
    labels = (edges[rows, columns] != 0).astype(np.int32) * _STRONG
    weak = cv2.bitwise_xor(candidates, edges)
    pending = 0
    for index in np.flatnonzero(labels == 0).tolist():
        if labels[index]:
            continue
        at = (int(columns[index]), int(rows[index]))
        cv2.floodFill(weak, None, at, _PENDING, flags=8)
        pending += 1
        labels[(labels == 0) & (weak[rows, columns] == _PENDING)] = pending + 1
    if not pending:
        return Look(Told(0, Rim(rim.positions, labels)), edges)
    kept = cv2.bitwise_or(edges, cv2.threshold(weak, _PENDING, 0, cv2.THRESH_TOZERO_INV)[1])
    return Look(Told(pending, Rim(rim.positions, labels)), kept)


def _joined(told: Sequence[tuple[Place | None, Told]]) -> Seeds:
    """Of all tiles: which pending components hang together with a strong pixel."""
    positions, labels, tiles = [], [], []
    start = 0  # node 0 is all that is strong
    width = 1
    for place, (pending, rim) in told:
        assert place is not None
        width = place.size.width
        positions.append(rim.positions)
        labels.append(np.where(rim.labels == _STRONG, 0, rim.labels.astype(np.int64) - 1 + start))
        tiles.append(np.full(len(rim.positions), place.number))
        start += pending
    if not start:
        return {}
    at, node, tile = (np.concatenate(parts) for parts in (positions, labels, tiles))
    edge = roots(start + 1, touching(at, node, width)) == 0
    promoted = np.flatnonzero(edge[node] & (node > 0))
    promoted = promoted[np.unique(node[promoted], return_index=True)[1]]
    seeds: dict[int, NDArray[np.int64]] = {}
    for number in np.unique(tile[promoted]).tolist():
        seeds[number] = at[promoted[tile[promoted] == number]]
    return seeds
