"""The figures of one batch, and the table of them that reports and comparisons go by. Pure functions."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pixelmill.evaluation.observation import Harvest
from pixelmill.evaluation.series import (
    Distribution,
    Histogram,
    Timeline,
    average_concurrency,
    distribution,
    histogram,
    peak,
    timeline,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """One batch. Durations and ages are in milliseconds, ``span_s`` is from the first event received to the last end.

    ``invocations`` counts attempts, lost ones too; ``cold_starts`` is None where processes can't be told apart;
    ``cold`` and ``warm`` are durations of first and later executions, ``start`` how long processes took to
    start, where it is told.
    """

    sent: int
    received: int
    dropped: int
    succeeded: int
    failed: int
    invocations: int
    errors: Mapping[str, int]
    throttles: int
    retries: int
    waited_s: float
    duration: Distribution
    age: Distribution
    total: Distribution
    concurrency_average: float
    concurrency_peak: int
    cold_starts: int | None
    cold: Distribution
    warm: Distribution
    start: Distribution
    bytes_in: int
    bytes_out: int
    megapixels: float
    sending_s: float
    span_s: float
    own: int
    overflow: int
    targets: Mapping[str, int]
    timings: Mapping[str, float] = field(default_factory=dict)
    timeline: Timeline = field(default_factory=Timeline)
    histogram: Histogram = field(default_factory=Histogram)
    load_before: float | None = None

    @property
    def success_rate(self) -> float:
        """Percent of the events sent."""
        return 100 * self.succeeded / self.sent if self.sent else 0.0

    @property
    def throughput(self) -> float:
        """Images a second that succeeded."""
        return self.succeeded / self.span_s if self.span_s > 0 else 0.0

    @property
    def pixel_rate(self) -> float:
        """Megapixels of sources a second."""
        return self.megapixels / self.span_s if self.span_s > 0 else 0.0


def figures(harvest: Harvest, load_before: float | None = None) -> Figures:
    """Add a batch up."""
    seen = harvest.observations
    ended = [one for one in seen if one.started is not None and one.ended is not None]
    runs = [
        (one.started, max(one.started, one.ended)) for one in seen if one.started is not None and one.ended is not None
    ]
    received = [one.received for one in seen if one.received is not None]
    # What was dropped without having begun waits to the end of the picture.
    waits = [
        (one.received, math.inf if one.started is None else one.started)
        for one in seen
        if one.received is not None and (one.started is not None or one.state == "dropped")
    ]
    succeeded = [one for one in seen if one.state == "succeeded"]
    known = [one for one in ended if one.cold is not None]
    targets = Counter(one.target for one in ended if one.target)
    span = max(end for _, end in runs) - min(received) if runs and received else 0.0
    return Figures(
        sent=len(seen),
        received=len(received),
        dropped=sum(one.state == "dropped" for one in seen),
        succeeded=len(succeeded),
        failed=sum(one.state == "failed" for one in seen),
        invocations=sum(one.attempts for one in seen if one.started is not None),
        errors=dict(Counter(one.error or "unknown" for one in seen if one.state != "succeeded").most_common()),
        throttles=harvest.throttles,
        retries=harvest.retries,
        waited_s=harvest.waited_s,
        duration=distribution(_ms(one.duration_s for one in ended)),
        age=distribution(_ms(one.age_s for one in seen)),
        total=distribution(_ms(one.total_s for one in seen)),
        concurrency_average=average_concurrency(runs),
        concurrency_peak=peak(runs),
        cold_starts=sum(one.cold is True for one in known) if known else None,
        cold=distribution(_ms(one.duration_s for one in known if one.cold)),
        warm=distribution(_ms(one.duration_s for one in known if not one.cold)),
        start=distribution(1000 * one.init_s for one in seen if one.init_s),
        bytes_in=sum(one.bytes_in for one in seen),
        bytes_out=sum(one.bytes_out for one in succeeded),
        megapixels=sum(one.pixels for one in succeeded) / 1e6,
        sending_s=harvest.sending_s,
        span_s=max(0.0, span),
        own=sum(not one.overflow for one in ended),
        overflow=sum(one.overflow for one in ended),
        targets=dict(targets.most_common()),
        timings=_mean_timings([one.timings for one in succeeded]),
        timeline=timeline(received, runs, waits),
        histogram=histogram(_ms(one.duration_s for one in ended)),
        load_before=load_before,
    )


def _ms(seconds: Iterable[float | None]) -> list[float]:
    return [1000 * one for one in seconds if one is not None]


def _mean_timings(timings: Sequence[Mapping[str, float]]) -> dict[str, float]:
    names = {name: None for one in timings for name in one}
    return {name: statistics.fmean(one.get(name, 0.0) for one in timings) for name in names}


@dataclass(frozen=True, slots=True)
class Metric:
    """One number of :class:`Figures`. ``better``: which way is good, or empty where neither is."""

    key: str
    title: str
    unit: str
    of: Callable[[Figures], float | None]
    better: str = ""


METRICS: tuple[Metric, ...] = (
    Metric("invocations", "invocations", "", lambda one: one.invocations),
    Metric("success_rate", "success", "%", lambda one: one.success_rate, "more"),
    Metric("failed", "failed", "", lambda one: one.failed, "less"),
    Metric("sent", "events sent", "", lambda one: one.sent),
    Metric("received", "events received", "", lambda one: one.received),
    Metric("dropped", "events dropped", "", lambda one: one.dropped, "less"),
    Metric("throttles", "throttles", "", lambda one: one.throttles, "less"),
    Metric("retries", "retries", "", lambda one: one.retries, "less"),
    Metric("cold_starts", "cold starts", "", lambda one: one.cold_starts),
    Metric("duration.average", "average", "ms", lambda one: one.duration.average, "less"),
    Metric("duration.p50", "p50", "ms", lambda one: one.duration.p50, "less"),
    Metric("duration.p90", "p90", "ms", lambda one: one.duration.p90, "less"),
    Metric("duration.p95", "p95", "ms", lambda one: one.duration.p95, "less"),
    Metric("duration.p99", "p99", "ms", lambda one: one.duration.p99, "less"),
    Metric("duration.max", "max", "ms", lambda one: one.duration.max, "less"),
    Metric("age.average", "average", "ms", lambda one: one.age.average, "less"),
    Metric("age.p50", "p50", "ms", lambda one: one.age.p50, "less"),
    Metric("age.p95", "p95", "ms", lambda one: one.age.p95, "less"),
    Metric("age.max", "max", "ms", lambda one: one.age.max, "less"),
    Metric("total.p50", "p50", "ms", lambda one: one.total.p50, "less"),
    Metric("total.p95", "p95", "ms", lambda one: one.total.p95, "less"),
    Metric("concurrency_average", "average", "", lambda one: one.concurrency_average),
    Metric("concurrency_peak", "peak", "", lambda one: one.concurrency_peak),
    Metric("throughput", "images/s", "", lambda one: one.throughput, "more"),
    Metric("pixel_rate", "megapixels/s", "", lambda one: one.pixel_rate, "more"),
    Metric("megapixels", "megapixels", "", lambda one: one.megapixels),
    Metric("bytes_in", "bytes in", "B", lambda one: one.bytes_in),
    Metric("bytes_out", "bytes out", "B", lambda one: one.bytes_out),
    Metric("span_s", "time", "s", lambda one: one.span_s, "less"),
    Metric("sending_s", "sending", "s", lambda one: one.sending_s),
    Metric("own", "own", "", lambda one: one.own),
    Metric("overflow", "overflow", "", lambda one: one.overflow),
)
BY_KEY: Mapping[str, Metric] = {metric.key: metric for metric in METRICS}


def median(rounds: Sequence[Figures], key: str) -> float | None:
    """The median of a metric over rounds; None where it is not known."""
    numbers = values(rounds, key)
    return statistics.median(numbers) if numbers else None


def values(rounds: Sequence[Figures], key: str) -> list[float]:
    """A metric in each round where it is known."""
    of = BY_KEY[key].of
    return [float(number) for number in map(of, rounds) if number is not None]


def middle_round(rounds: Sequence[Figures]) -> Figures:
    """The round whose time is the median, or next above it: whose time lines and histogram are shown."""
    ordered = sorted(rounds, key=lambda one: one.span_s)
    return ordered[len(ordered) // 2]
