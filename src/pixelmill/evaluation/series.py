"""Order statistics, concurrency, time lines and histograms of observations. Pure functions.

Percentiles are interpolated linearly between the two closest ranks (Hyndman and Fan, "Sample Quantiles in Statistical
Packages", 1996, definition 7), as NumPy's and those of spreadsheets are.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

Interval = tuple[float, float]
"""Half open, ``start <= t < end``."""

PERCENTILES = (50, 90, 95, 99)
MAX_BINS = 48
LEAST_STEP_S = 0.005
"""Times come in milliseconds: a bin that is not several of them wide would show their grid."""
BOUNDS_MS = tuple(float(f"{digit}e{power}") for power in range(-1, 6) for digit in (1, 1.5, 2, 3, 5, 7))
"""Lower bounds of the bins of every histogram, so that those of two reports can be laid side by side."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of ``count`` numbers; all zero where there are none."""

    count: int = 0
    average: float = 0.0
    p50: float = 0.0
    p90: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    max: float = 0.0


@dataclass(frozen=True, slots=True)
class Timeline:
    """Bins of ``step_s`` seconds from the first event on.

    ``concurrency``: tasks that ran, on average over the bin. ``age_s``: the age of the oldest event that waited at the
    bin's end. ``throughput``: tasks that ended, a second.
    """

    step_s: float = 0.0
    concurrency: tuple[float, ...] = ()
    age_s: tuple[float, ...] = ()
    throughput: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Histogram:
    """``counts[i]`` numbers lie from ``bounds[i]`` to below ``bounds[i + 1]``, which is one longer."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Of numbers in ascending order; raises :class:`ValueError` where there are none."""
    if not ordered:
        raise ValueError("there is no percentile of nothing")
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    low, high = ordered[below], ordered[above]
    # Rounding must not lead out of the two.
    return min(max(low + (high - low) * (place - below), low), high)


def distribution(numbers: Iterable[float]) -> Distribution:
    """Average, percentiles and maximum."""
    ordered = sorted(numbers)
    if not ordered:
        return Distribution()
    average = min(max(math.fsum(ordered) / len(ordered), ordered[0]), ordered[-1])
    p50, p90, p95, p99 = (percentile(ordered, one) for one in PERCENTILES)
    return Distribution(len(ordered), average, p50, p90, p95, p99, ordered[-1])


def peak(intervals: Iterable[Interval]) -> int:
    """The most at one time. One that ends as another begins does not meet it; one without length meets none."""
    # At the same time ends come first.
    edges = sorted((when, step) for start, end in intervals if end > start for when, step in ((start, 1), (end, -1)))
    most = now = 0
    for _, step in edges:
        now += step
        most = max(most, now)
    return most


def average_concurrency(intervals: Sequence[Interval]) -> float:
    """What ran at one time, averaged from the first start to the last end; 0 where no time passed."""
    if not intervals:
        return 0.0
    span = max(end for _, end in intervals) - min(start for start, _ in intervals)
    return math.fsum(end - start for start, end in intervals) / span if span > 0 else 0.0


def timeline(received: Sequence[float], runs: Sequence[Interval], waits: Sequence[Interval]) -> Timeline:
    """Bins from the first event received to the last run's end.

    ``runs``: from started to ended. ``waits``: from received to started.
    """
    if not received or not runs:
        return Timeline()
    first = min(*received, *(start for start, _ in runs))
    span = max(end for _, end in runs) - first
    bins = min(MAX_BINS, max(1, math.ceil(span / LEAST_STEP_S)))
    step = max(span / bins, LEAST_STEP_S)
    busy, ended = [0.0] * bins, [0] * bins

    def place(when: float) -> int:
        return min(bins - 1, max(0, int((when - first) / step)))

    for start, end in runs:
        ended[place(end)] += 1
        for number in range(place(start), place(end) + 1):
            begin = first + number * step
            # The last bin takes what rounding leaves behind it.
            until = end if number == bins - 1 else min(end, begin + step)
            busy[number] += max(0.0, until - max(start, begin))
    return Timeline(
        step,
        tuple(part / step for part in busy),
        tuple(_oldest(waits, first + (number + 1) * step) for number in range(bins)),
        tuple(count / step for count in ended),
    )


def _oldest(waits: Sequence[Interval], now: float) -> float:
    return max((now - start for start, end in waits if start <= now < end), default=0.0)


def histogram(milliseconds: Iterable[float]) -> Histogram:
    """Counts between :data:`BOUNDS_MS`, without the empty bins on either side."""
    counts = [0] * (len(BOUNDS_MS) + 1)
    for number in milliseconds:
        counts[bisect_right(BOUNDS_MS, number)] += 1
    used = [index for index, count in enumerate(counts) if count]
    if not used:
        return Histogram()
    bounds = (0.0, *BOUNDS_MS, BOUNDS_MS[-1] * 10)
    low, high = used[0], used[-1]
    return Histogram(bounds[low : high + 2], tuple(counts[low : high + 1]))
