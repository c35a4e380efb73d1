"""Metrics over time: an hour by second and a day by minute, in arrays that never grow.

They are of this process and, where there is news of them (``fleet_history.py``), of the others of its fleet.

Wait and run times are counted in buckets that are 10 % wide, so percentiles are exact to 5 % and cost no sorting.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Self

from pixelmill.errors import RequestError
from pixelmill.jobs.model import State
from pixelmill.jobs.recorder import TaskChange

SPANS: Mapping[str, tuple[int, int]] = {"hour": (1, 3600), "day": (60, 1440)}
"""Seconds a row, and rows, by the name of the range."""
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
GAUGES = ("waiting", "oldest_s", "running")
COUNTS = ("succeeded", "failed", "cancelled", "overflow", "throttled")
TIMES = ("wait", "run")
COLUMNS = ("at", *COUNTS, "cost", *GAUGES, *(f"{time}_{name}_s" for time in TIMES for name in QUANTILES))
MAX_REASONS = 20
"""Error types that are told apart in one row; further ones count as ``other``."""
MAX_TARGETS = 50
"""The same for targets, in a row and in a range."""

FRESH_S = 3.0
"""How long what another process said of itself counts as now."""
MAX_OTHERS = 1_000
MAX_COUNT = MAX_COST = 10_000_000
"""Most that a record of another process may say of anything."""

LEAST_S = 0.001
WIDTH = math.log(1.1)
BUCKETS = 200
"""From a millisecond to two days."""


class _Times:
    """Counts of durations by buckets."""

    def __init__(self) -> None:
        self.counts = array("L", bytes(array("L").itemsize * BUCKETS))
        self.total = 0

    def add(self, seconds: float) -> None:
        place = 0 if seconds <= LEAST_S else min(BUCKETS - 1, 1 + int(math.log(seconds / LEAST_S) / WIDTH))
        self.put(place, 1)

    def put(self, place: int, count: int) -> None:
        """So many durations in one bucket."""
        self.counts[place] += count
        self.total += count

    def filled(self) -> dict[int, int]:
        """Buckets that hold something."""
        return {place: count for place, count in enumerate(self.counts) if count}

    def quantile(self, share: float) -> float:
        """Seconds that this share of durations does not pass; NaN where there are none."""
        rank, seen = math.ceil(share * self.total), 0
        for place, count in enumerate(self.counts):
            seen += count
            if count and seen >= rank:
                return LEAST_S if place == 0 else LEAST_S * math.exp((place - 0.5) * WIDTH)
        return math.nan


class _Row:
    """What happens while a row is open."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.times = {name: _Times() for name in TIMES}
        self.targets: Counter[str] = Counter()
        self.shares: Counter[str] = Counter()
        self.cost = 0.0

    def add(self, change: TaskChange) -> None:
        """A task that has ended."""
        self.counts[change.after.value] += 1
        target = change.event.target or "none"
        self.targets[target if target in self.targets or len(self.targets) < 1_000 else "other"] += 1
        if change.event.target:
            self._share(change.event.target, 1)
        if change.after is State.FAILED:
            self._reason(str((change.event.error or {}).get("type", "unknown")), 1)
        if change.started is not None:
            self.times["wait"].add(change.started - change.queued)
            self.times["run"].add(change.event.at - change.started)

    def _reason(self, reason: str, count: int) -> None:
        known = reason in self.reasons or len(self.reasons) < MAX_REASONS
        self.reasons[reason if known else "other"] += count

    def _share(self, target: str, count: int) -> None:
        _put(self.shares, target, count)

    def on(self, targets: Iterable[str]) -> int:
        """Tasks that ran on these targets."""
        return sum(self.targets[target] for target in targets)

    def absorb(self, other: Self) -> None:
        """Add what happened elsewhere; which of its targets are overflow is not known here: it told how many tasks."""
        self.counts.update(other.counts)
        self.cost += other.cost
        for target, count in other.shares.items():
            self._share(target, count)
        for reason, count in other.reasons.items():
            self._reason(reason, count)
        for name, times in other.times.items():
            for place, count in times.filled().items():
                self.times[name].put(place, count)

    def record(self, overflow: Iterable[str]) -> dict[str, Any]:
        """As JSON; the inverse of :meth:`read`."""
        return {
            "counts": dict(self.counts) | {"overflow": self.on(overflow)},
            "reasons": dict(self.reasons),
            "targets": dict(self.shares),
            "cost": self.cost,
            "times": {name: list(times.filled().items()) for name, times in self.times.items()},
        }

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Self:
        """From the JSON of another process; raises :class:`ValueError` and the like for what is none."""
        row = cls()
        for name in COUNTS:
            row.counts[name] = _count(record["counts"].get(name, 0))
        for reason, count in list(record["reasons"].items())[: MAX_REASONS + 1]:
            row._reason(str(reason)[:100], _count(count))
        # Services of before tell neither.
        for target, count in list(record.get("targets", {}).items())[: MAX_TARGETS + 1]:
            row._share(str(target)[:100], _count(count))
        row.cost = float(record.get("cost", 0.0))
        if not 0 <= row.cost <= MAX_COST:
            raise ValueError("no cost")
        for name, times in row.times.items():
            for place, count in record["times"][name][:BUCKETS]:
                if not 0 <= int(place) < BUCKETS:
                    raise ValueError("no such bucket")
                times.put(int(place), _count(count))
        return row


def _count(value: Any) -> int:
    if not 0 <= int(value) <= MAX_COUNT:
        raise ValueError("no count")
    return int(value)


def _put(counter: Counter[str], target: str, count: int) -> None:
    counter[target if target in counter or len(counter) < MAX_TARGETS else "other"] += count


def _shown(name: str, value: float) -> float | None:
    return None if math.isnan(value) else round(value, 9 if name == "cost" else 4)


class _Ring:
    """One range: closed rows as columns, and the open one."""

    def __init__(self, every_s: int, size: int) -> None:
        self.every_s, self._size = every_s, size
        self._count = 0
        self._columns = {name: array("d", bytes(8 * size)) for name in COLUMNS}
        self._reasons: list[Mapping[str, int] | None] = [None] * size
        self._targets: list[Mapping[str, int] | None] = [None] * size
        self.row = _Row()
        self._opened: int | None = None

    def tick(self, at: float, gauges: Mapping[str, float], overflow: frozenset[str]) -> None:
        """Close the open row when its time is over."""
        now = int(at // self.every_s)
        if self._opened is None:
            self._opened = now
        if now <= self._opened:
            return
        row, slot = self.row, self._count % self._size
        values = {"at": float(now * self.every_s), "cost": row.cost, **gauges}
        values |= {state: float(row.counts[state]) for state in COUNTS}
        values["overflow"] += float(row.on(overflow))
        for time, counted in row.times.items():
            values |= {f"{time}_{name}_s": counted.quantile(share) for name, share in QUANTILES.items()}
        for name, column in self._columns.items():
            column[slot] = values[name]
        self._reasons[slot] = dict(row.reasons) or None
        self._targets[slot] = dict(row.shares) or None
        self._count += 1
        self._opened, self.row = now, _Row()

    def newest(self) -> dict[str, Any] | None:
        """The row that was closed last, by column, with its reasons; None where there is none yet."""
        if not self._count:
            return None
        slot = (self._count - 1) % self._size
        values = {name: column[slot] for name, column in self._columns.items()}
        row: dict[str, Any] = {name: _shown(name, value) for name, value in values.items()}
        return row | {"reasons": dict(self._reasons[slot] or {}), "targets": dict(self._targets[slot] or {})}

    def table(self) -> dict[str, Any]:
        """Columns by name, oldest first; None where a percentile has no durations."""
        count = min(self._count, self._size)
        slots = [place % self._size for place in range(self._count - count, self._count)]
        columns: dict[str, Any] = {
            name: [_shown(name, column[slot]) for slot in slots] for name, column in self._columns.items()
        }
        errors = [
            {"at": self._columns["at"][slot], "reasons": reasons} for slot in slots if (reasons := self._reasons[slot])
        ]
        targets: Counter[str] = Counter()
        for slot in slots:
            for target, share in (self._targets[slot] or {}).items():
                _put(targets, target, share)
        return {"step_s": self.every_s, "columns": columns, "errors": errors, "targets": dict(targets)}


class History:
    """Both ranges. Belongs to one thread."""

    def __init__(self) -> None:
        self._rings = {name: _Ring(*span) for name, span in SPANS.items()}
        self._untold = _Row()
        self._others: dict[str, tuple[float, int]] = {}  # when it was heard of, and its busy slots

    def task_ended(self, change: TaskChange) -> None:
        """A task of a job reached its final state, and this process recorded it."""
        for row in (*(ring.row for ring in self._rings.values()), self._untold):
            row.add(change)

    def throttled(self) -> None:
        """A request was answered with 429 or 503, or a call of overflow with 429."""
        for row in (*(ring.row for ring in self._rings.values()), self._untold):
            row.counts["throttled"] += 1

    def paid(self, cost: float) -> None:
        """A call of overflow was settled, in the currency of the prices."""
        for row in (*(ring.row for ring in self._rings.values()), self._untold):
            row.cost += cost

    def tick(
        self, at: float, *, waiting: int, oldest_s: float, running: int, overflow: frozenset[str] = frozenset()
    ) -> None:
        """Called about once a second: the gauges now, and the names of overflow targets."""
        self._others = {name: one for name, one in self._others.items() if at - one[0] < FRESH_S}
        running += sum(busy for _, busy in self._others.values())
        gauges = {"waiting": float(waiting), "oldest_s": oldest_s, "running": float(running)}
        for ring in self._rings.values():
            ring.tick(at, gauges, overflow)

    def take(self, running: int, overflow: frozenset[str] = frozenset()) -> dict[str, Any]:
        """What happened here since it was taken last, for the other processes, as JSON."""
        row, self._untold = self._untold, _Row()
        return {**row.record(overflow), "running": running}

    def merge(self, at: float, replica: str, record: Mapping[str, Any]) -> None:
        """What another process has taken, heard now; raises :class:`ValueError` and the like for what is none."""
        row, running = _Row.read(record), _count(record["running"])
        if replica in self._others or len(self._others) < MAX_OTHERS:
            self._others[replica] = (at, running)
        for ring in self._rings.values():
            ring.row.absorb(row)

    def newest(self) -> dict[str, Any] | None:
        """The newest row of the hour, by column, with ``reasons``; None before the first."""
        return self._rings["hour"].newest()

    def table(self, span: str) -> dict[str, Any]:
        """``hour`` or ``day``; raises :class:`RequestError` for another."""
        if span not in self._rings:
            raise RequestError(f"range={span[:40]!r} is not one of {', '.join(self._rings)}.", parameter="range")
        return {"range": span, **self._rings[span].table()}
