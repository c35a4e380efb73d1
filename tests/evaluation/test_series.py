"""Order statistics, concurrency, time lines and histograms: laws that hold for all numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.evaluation.series import (
    BOUNDS_MS,
    MAX_BINS,
    Distribution,
    Histogram,
    average_concurrency,
    distribution,
    histogram,
    peak,
    percentile,
    timeline,
)

numbers = st.lists(st.floats(0, 1e6, allow_nan=False), min_size=1, max_size=60)
moments = st.integers(0, 5_000).map(lambda ms: ms / 1000)
intervals = st.lists(st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair))), min_size=1, max_size=40)


@given(numbers, st.floats(0, 100))
def test_percentiles_are_those_of_numpy(some: list[float], percent: float) -> None:
    assert percentile(sorted(some), percent) == pytest.approx(float(np.percentile(some, percent)), rel=1e-9, abs=1e-9)


@given(numbers)
def test_percentiles_are_in_order_and_between_the_least_and_the_greatest(some: list[float]) -> None:
    found = distribution(some)
    assert min(some) <= found.p50 <= found.p90 <= found.p95 <= found.p99 <= found.max == max(some)
    assert min(some) <= found.average <= max(some)
    assert found.count == len(some)


def test_nothing_has_no_percentile_and_an_empty_distribution() -> None:
    assert distribution([]) == Distribution()
    with pytest.raises(ValueError, match="percentile of nothing"):
        percentile([], 50)


@given(intervals)
def test_the_peak_is_the_most_that_any_moment_lies_in(some: list[tuple[float, float]]) -> None:
    # It is reached when one of them begins.
    expected = max(sum(start <= when < end for start, end in some) for when, _ in some)
    assert peak(some) == expected
    assert average_concurrency(some) <= peak(some) + 1e-9


def test_what_ends_as_another_begins_does_not_meet_it() -> None:
    assert peak([(0, 1), (1, 2)]) == 1
    assert average_concurrency([(0, 1), (1, 2)]) == 1
    assert (peak([]), average_concurrency([]), average_concurrency([(3, 3)])) == (0, 0, 0)


@given(intervals, st.lists(moments, min_size=1, max_size=40))
def test_a_time_line_adds_up(runs: list[tuple[float, float]], received: list[float]) -> None:
    waits = [(when, max(when, start)) for when, (start, _) in zip(received, runs, strict=False)]
    line = timeline(received, runs, waits)
    assert 1 <= len(line.concurrency) == len(line.age_s) == len(line.throughput) <= MAX_BINS
    busy = math.fsum(end - start for start, end in runs)
    assert line.step_s * math.fsum(line.concurrency) == pytest.approx(busy, abs=1e-6)
    assert line.step_s * math.fsum(line.throughput) == pytest.approx(len(runs), abs=1e-6)
    assert max(line.age_s) <= max((end - start for start, end in waits), default=0) + 1e-9
    assert min(line.age_s) >= 0


def test_a_time_line_shows_when_things_happened() -> None:
    runs = [(1.0, 2.0), (2.0, 3.0)]
    line = timeline([0.0, 0.0], runs, [(0.0, 1.0), (0.0, 2.0)])
    assert line.step_s * MAX_BINS == pytest.approx(3.0)
    first, last = line.concurrency[: MAX_BINS // 3], line.concurrency[MAX_BINS // 3 :]
    assert set(first) == {0.0}
    assert all(part == pytest.approx(1.0) for part in last)
    assert max(line.age_s) == pytest.approx(2.0, abs=2 * line.step_s)
    assert timeline([], [], []).concurrency == ()


@given(st.lists(st.floats(0, 1e7, allow_nan=False), max_size=80))
def test_a_histogram_has_every_number_in_its_bin(some: list[float]) -> None:
    found = histogram(some)
    assert sum(found.counts) == len(some)
    if not some:
        assert found == Histogram()
        return
    assert len(found.bounds) == len(found.counts) + 1
    assert found.counts[0] > 0
    assert found.counts[-1] > 0
    for low, high, count in zip(found.bounds, found.bounds[1:], found.counts, strict=False):
        last = high > BOUNDS_MS[-1]
        assert count == sum(low <= number < high or (last and number >= high) for number in some)
