"""Canny over tiles, equal to ``cv2.Canny`` of the whole image: hysteresis is carried over the seams.

Each tile finds its candidates (local maxima above the lower threshold), and the components of them that hold a strong
pixel; those that end within the tile are decided. What is neither strong nor ends is told along the seams, joined with
what it touches there, corners too, and decided by the conclusion.
"""

from __future__ import annotations

import math
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
    above = _compared(high * scale, l2=l2)

    def look(pixels: Array, place: Place) -> Look:
        gray = gray8_of(pixels)
        dx, dy = (
            cv2.Sobel(gray, cv2.CV_16S, x, 1 - x, ksize=aperture, scale=scale, borderType=cv2.BORDER_REPLICATE)
            for x in (1, 0)
        )
        found = cv2.Canny(dx, dy, low * scale, low * scale, L2gradient=l2)
        kept = np.ascontiguousarray(place.core.of(found, place.extended))
        at = np.flatnonzero(kept)
        across, down = (place.core.of(part, place.extended) for part in (dx, dy))
        strong = _magnitudes(across, down, at, l2=l2) > above
        return _decided(kept, at, strong, place)

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


def _compared(threshold: float, *, l2: bool) -> int:
    """What magnitudes are compared with: ``cv2.Canny`` leaves roots undrawn."""
    return math.floor(min(32_767.0, threshold) ** 2 if l2 else threshold)


def _magnitudes(across: Array, down: Array, at: NDArray[np.int64], *, l2: bool) -> NDArray[np.int32]:
    rows, columns = np.divmod(at, across.shape[1])
    x, y = across[rows, columns].astype(np.int32), down[rows, columns].astype(np.int32)
    return x * x + y * y if l2 else np.abs(x) + np.abs(y)


def _decided(kept: NDArray[np.uint8], at: NDArray[np.int64], strong: NDArray[np.bool_], place: Place) -> Look:
    """Edges, pending components and nothing else in ``kept``, which is written to."""
    if strong.all():
        return Look(Told(0, rim_of(kept != 0, place)), kept)
    count, labels = cv2.connectedComponents(kept, connectivity=8, ltype=cv2.CV_32S)
    flat = labels.ravel()[at]
    holds = np.zeros(count, bool)
    holds[flat[strong]] = True
    rim = rim_of(labels, place)
    pending = np.unique(rim.labels[~holds[rim.labels]])
    value = np.where(holds, np.uint8(_EDGE), np.uint8(0))
    value[pending] = _PENDING
    kept.ravel()[at] = value[flat]
    number = np.where(holds, np.int32(_STRONG), np.int32(0))
    number[pending] = np.arange(2, 2 + len(pending), dtype=np.int32)
    return Look(Told(len(pending), Rim(rim.positions, number[rim.labels])), kept)


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
