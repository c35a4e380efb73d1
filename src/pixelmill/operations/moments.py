"""Sums of samples and of their squares, exact: those of parts add up to those of the whole to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_STEPS = 1 << 24
"""Steps of a float from 0 to 1."""
_HALF = 12
"""Bits of a sample's lower half: products of halves fit into sums of many."""


class Moments(NamedTuple):
    """Of one channel, in integers; ``steps`` of them are one level (a float's: the full range)."""

    number: int
    total: int
    squares: int
    steps: int


Sums = Sequence[Moments]


def moments(samples: NDArray[Any]) -> Sums:
    """Of each channel of ``H×W×C``; floats from 0 to 1, in steps of 24 bits."""
    steps = _STEPS if samples.dtype == np.float32 else 1
    found = []
    for channel in range(samples.shape[2]):
        plane = samples[..., channel]
        whole = np.rint(plane * np.float32(steps)).astype(np.int64) if steps > 1 else plane.astype(np.int64)
        high, low = whole >> _HALF, whole & ((1 << _HALF) - 1)
        squares = (
            (int(np.sum(high * high)) << 2 * _HALF) + (int(np.sum(high * low)) << (_HALF + 1)) + int(np.sum(low * low))
        )
        found.append(Moments(plane.size, int(whole.sum()), squares, steps))
    return found


def added(one: Sums, other: Sums) -> Sums:
    """Of two parts together."""
    return [
        Moments(a.number + b.number, a.total + b.total, a.squares + b.squares, a.steps)
        for a, b in zip(one, other, strict=True)
    ]


def mean_and_deviation(sums: Moments) -> tuple[float, float]:
    """The deviation is that of the whole population."""
    count, total, squares, steps = sums
    return total / (count * steps), ((squares * count - total * total) / (count * steps) ** 2) ** 0.5
