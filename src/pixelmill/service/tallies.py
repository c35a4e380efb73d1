"""What happens while a row of the history is open: counts, sums, and durations in buckets; rows add up.

Durations are counted in buckets that are 10 % wide, so percentiles are exact to 5 % and cost no sorting; the average
and the longest are exact.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

from pixelmill.jobs.model import State
from pixelmill.metrics import Run

QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
COUNTS = (
    "succeeded",
    "failed",
    "cancelled",
    "overflow",
    "throttled",
    "invocations",
    "errors",
    "cold_starts",
    "events_received",
    "events_dropped",
)
"""``succeeded``, ``failed`` and ``cancelled`` are of tasks of jobs; ``invocations`` and ``errors`` of all that ran."""
SUMS = ("cost", "bytes_in", "bytes_out", "megapixels")
TIMES = ("wait", "run", "age")
"""Queued to started; started to ended; appearance of an object to its event being accepted."""
MAX_REASONS = 20
"""Error types that are told apart in one row; further ones count as ``other``."""
MAX_TARGETS = 50
"""The same for targets, in a row and in a range."""
MAX_NAMES = 1_000
"""Targets that a second tells apart before it is known which of them cost money."""

MAX_COUNT = MAX_COST = 10_000_000
MAX_SUM = 1e15
MAX_S = 1e9
"""Most that a record of another process may say of anything."""

LEAST_S = 0.001
WIDTH = math.log(1.1)
BUCKETS = 200
"""From a millisecond to two days."""


class Times:
    """Counts of durations by buckets; their sum, and the longest."""

    def __init__(self) -> None:
        self.counts = array("L", bytes(array("L").itemsize * BUCKETS))
        self.total = 0
        self.spent_s = 0.0
        self.longest_s = 0.0

    def add(self, seconds: float) -> None:
        """One duration; clocks of two machines may disagree, and there is no negative one."""
        seconds = max(0.0, seconds)
        place = 0 if seconds <= LEAST_S else min(BUCKETS - 1, 1 + int(math.log(seconds / LEAST_S) / WIDTH))
        self.counts[place] += 1
        self.total += 1
        self.spent_s += seconds
        self.longest_s = max(self.longest_s, seconds)

    def absorb(self, other: Self) -> None:
        """Add what was counted elsewhere."""
        if other.total:
            self.put(other.filled().items(), other.spent_s, other.longest_s)

    def put(self, filled: Iterable[tuple[int, int]], spent_s: float | None, longest_s: float | None) -> None:
        """So many durations in each of these buckets; where sum or longest is not known, by their middles."""
        for place, count in filled:
            self.counts[place] += count
            self.total += count
            self.spent_s += count * _middle(place) if spent_s is None else 0.0
            self.longest_s = max(self.longest_s, _middle(place) if longest_s is None else 0.0)
        self.spent_s += spent_s or 0.0
        self.longest_s = max(self.longest_s, longest_s or 0.0)

    def filled(self) -> dict[int, int]:
        """Buckets that hold something."""
        return {place: count for place, count in enumerate(self.counts) if count} if self.total else {}

    def quantile(self, share: float) -> float:
        """Seconds that this share of durations does not pass; NaN where there are none."""
        rank, seen = math.ceil(share * self.total), 0
        for place, count in self.filled().items():
            seen += count
            if seen >= rank:
                return min(self.longest_s, _middle(place))
        return math.nan

    def measures(self) -> dict[str, float]:
        """Average, percentiles and longest by name; NaN where there are none."""
        if not self.total:
            return dict.fromkeys(("avg", *QUANTILES, "max"), math.nan)
        shares = {name: self.quantile(share) for name, share in QUANTILES.items()}
        return {"avg": self.spent_s / self.total, **shares, "max": self.longest_s}


MEASURES = tuple(Times().measures())


class Row:
    """Everything of one stretch of time."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.sums = dict.fromkeys(SUMS, 0.0)
        self.times = {name: Times() for name in TIMES}
        self.reasons: Counter[str] = Counter()
        self.events: Counter[str] = Counter()  # by result
        self.shares: Counter[str] = Counter()  # tasks by target
        self.peak = 0.0  # tasks at once
        self._unsorted: Counter[str] = Counter()  # tasks by target, before it is known which of these cost money

    # -- what happens ----------------------------------------------------------------------------

    def ran(self, run: Run) -> None:
        """A task of a job ended, or an image that belongs to none."""
        counts = self.counts
        if run.mode == "job":
            counts[str(run.state)] += 1
        if run.state != State.CANCELLED:
            counts["invocations"] += 1
        if run.target:
            put(self._unsorted, run.target, 1, MAX_NAMES)
            put(self.shares, run.target, 1, MAX_TARGETS)
        if run.error:
            counts["errors"] += 1
            put(self.reasons, run.error, 1, MAX_REASONS)
        if run.waited_s is not None:
            self.times["wait"].add(run.waited_s)
        if run.ran_s is not None:
            self.times["run"].add(run.ran_s)
        if run.outcome is not None:
            self._made(run.outcome)

    def _made(self, outcome: Mapping[str, Any]) -> None:
        sums = self.sums
        sums["bytes_in"] += outcome.get("source_bytes") or 0
        sums["bytes_out"] += outcome.get("bytes") or 0
        if size := outcome.get("source_size"):
            sums["megapixels"] += size[0] * size[1] / 1e6
        if outcome.get("cold"):
            self.counts["cold_starts"] += 1

    def taken(self, results: Mapping[str, int], ages: Sequence[float]) -> None:
        """Events of objects, by result, and the ages of those that were accepted."""
        for result, count in results.items():
            if not count:
                continue
            put(self.events, result, count, MAX_REASONS)
            self.counts["events_received"] += count
            if result != "accepted":
                self.counts["events_dropped"] += count
        for age in ages:
            self.times["age"].add(age)

    def sort(self, overflow: Iterable[str]) -> None:
        """These targets cost money: count what ran on them apart."""
        if self._unsorted:
            self.counts["overflow"] += sum(self._unsorted[target] for target in overflow)
            self._unsorted.clear()

    def absorb(self, other: Self) -> None:
        """Add what happened in another stretch, or elsewhere, and was sorted."""
        self.counts.update(other.counts)
        for name, value in other.sums.items():
            self.sums[name] += value
        for mine, theirs, most in self._tables(other):
            for name, count in theirs.items():
                put(mine, name, count, most)
        for name, times in other.times.items():
            self.times[name].absorb(times)
        self.peak = max(self.peak, other.peak)

    def _tables(self, other: Self) -> Iterable[tuple[Counter[str], Counter[str], int]]:
        yield self.reasons, other.reasons, MAX_REASONS
        yield self.events, other.events, MAX_REASONS
        yield self.shares, other.shares, MAX_TARGETS

    # -- on the way to others --------------------------------------------------------------------

    def record(self) -> dict[str, Any]:
        """As JSON; the inverse of :meth:`read`."""
        return {
            "counts": dict(self.counts),
            "reasons": dict(self.reasons),
            "events": dict(self.events),
            "targets": dict(self.shares),
            "cost": self.sums["cost"],
            "sums": {name: value for name, value in self.sums.items() if name != "cost"},
            "times": {name: list(times.filled().items()) for name, times in self.times.items()},
            "spent_s": {name: times.spent_s for name, times in self.times.items()},
            "longest_s": {name: times.longest_s for name, times in self.times.items()},
        }

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """From the JSON of another process; raises :class:`ValueError` and the like for what is none.

        Services of before tell less: neither targets nor cost, then neither events nor sums.
        """
        row = cls()
        for name in COUNTS:
            row.counts[name] = checked_count(record["counts"].get(name, 0))
        for mine, told in ((row.reasons, "reasons"), (row.events, "events"), (row.shares, "targets")):
            most = MAX_TARGETS if mine is row.shares else MAX_REASONS
            for label, count in list(record.get(told, {}).items())[: most + 1]:
                put(mine, str(label)[:100], checked_count(count), most)
        row.sums["cost"] = _checked(record.get("cost", 0.0), MAX_COST)
        for name in SUMS[1:]:
            row.sums[name] = _checked(record.get("sums", {}).get(name, 0.0), MAX_SUM)
        for name, times in row.times.items():
            filled = [(int(place), checked_count(count)) for place, count in record["times"].get(name, ())[:BUCKETS]]
            if any(not 0 <= place < BUCKETS for place, _ in filled):
                raise ValueError("no such bucket")
            spent, longest = (record.get(told, {}).get(name) for told in ("spent_s", "longest_s"))
            times.put(
                filled,
                None if spent is None else _checked(spent, MAX_SUM),
                None if longest is None else _checked(longest, MAX_S),
            )
        return row


def put(counter: Counter[str], name: str, count: int, most: int) -> None:
    """Count under that name, or under ``other`` where there are as many names already."""
    counter[name if name in counter or len(counter) < most else "other"] += count


def checked_count(value: Any) -> int:
    """A count that another process tells; raises :class:`ValueError` for what is none."""
    if not 0 <= int(value) <= MAX_COUNT:
        raise ValueError("no count")
    return int(value)


def _checked(value: Any, most: float) -> float:
    if not 0 <= float(value) <= most:  # NaN is neither
        raise ValueError("no sum")
    return float(value)


def _middle(place: int) -> float:
    return LEAST_S if place == 0 else LEAST_S * math.exp((place - 0.5) * WIDTH)
