"""Metrics over time: an hour by second and a day by minute, in arrays that never grow; and sums of what is near.

They are of this process and, where there is news of them (``fleet_history.py``), of the others of its fleet. What
happens is added to one row (``tallies.py``), and once a second that one to all others: an event costs one addition.
"""

from __future__ import annotations

import math
from array import array
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

from pixelmill.errors import RequestError
from pixelmill.metrics import Run
from pixelmill.service.tallies import COUNTS, MAX_TARGETS, MEASURES, SUMS, TIMES, Row, checked_count, put

SPANS: Mapping[str, tuple[int, int]] = {"hour": (1, 3600), "day": (60, 1440)}
"""Seconds a row, and rows, by the name of the range."""
WINDOWS: Mapping[str, tuple[int, int]] = {"minute": (1, 60), "hour": (60, 60), "day": (900, 96)}
"""The same of what summaries add up: the row that is open comes in addition, so that a window is as long at least."""
GAUGES = ("waiting", "oldest_s", "running")
COLUMNS = (
    "at",
    *COUNTS,
    *SUMS,
    *GAUGES,
    "running_peak",
    *(f"{time}_{name}_s" for time in TIMES for name in MEASURES),
)

FRESH_S = 3.0
"""How long what another process said of itself counts as now."""
MAX_OTHERS = 1_000


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
        self.row = Row()
        self._opened: int | None = None

    def tick(self, at: float, gauges: Mapping[str, float]) -> None:
        """Close the open row when its time is over."""
        now = int(at // self.every_s)
        if self._opened is None:
            self._opened = now
        if now <= self._opened:
            return
        row, slot = self.row, self._count % self._size
        values = {"at": float(now * self.every_s), **gauges, **row.sums, "running_peak": row.peak}
        values |= {name: float(row.counts[name]) for name in COUNTS}
        for time, counted in row.times.items():
            values |= {f"{time}_{name}_s": value for name, value in counted.measures().items()}
        for name, column in self._columns.items():
            column[slot] = values[name]
        self._reasons[slot] = dict(row.reasons) or None
        self._targets[slot] = dict(row.shares) or None
        self._count += 1
        self._opened, self.row = now, Row()

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
                put(targets, target, share, MAX_TARGETS)
        return {"step_s": self.every_s, "columns": columns, "errors": errors, "targets": dict(targets)}


class _Window:
    """What is near, in rows that add up."""

    def __init__(self, every_s: int, size: int) -> None:
        self._every_s, self._size = every_s, size
        self._closed: deque[tuple[int, Row]] = deque()
        self.row = Row()
        self._opened: int | None = None

    def tick(self, at: float) -> None:
        """Close the open row when its time is over, and forget those that are too old."""
        now = int(at // self._every_s)
        if self._opened is None or now < self._opened:  # a clock that was set back
            self._opened = now
        if now > self._opened:
            self._closed.append((self._opened, self.row))
            self._opened, self.row = now, Row()
        while self._closed and (self._closed[0][0] < now - self._size or len(self._closed) > self._size):
            self._closed.popleft()

    def total(self) -> tuple[float | None, Row]:
        """When it begins (None: nothing was measured yet), and everything since then."""
        total = Row()
        for _, row in self._closed:
            total.absorb(row)
        total.absorb(self.row)
        first = self._closed[0][0] if self._closed else self._opened
        return None if first is None else float(first * self._every_s), total


class History:
    """Both ranges, and the windows of summaries. Belongs to one thread."""

    def __init__(self) -> None:
        self._rings = {name: _Ring(*span) for name, span in SPANS.items()}
        self._windows = {name: _Window(*span) for name, span in WINDOWS.items()}
        self._fresh, self._untold = Row(), Row()
        self._overflow: frozenset[str] = frozenset()
        self._at = 0.0
        self._running = 0
        self._others: dict[str, tuple[float, int]] = {}  # when it was heard of, and its busy slots

    # -- what happens (see ``metrics.Watcher``) --------------------------------------------------

    def ran(self, run: Run) -> None:
        """A task of a job reached its final state and this process recorded it, or an image of no job was processed."""
        self._fresh.ran(run)

    def throttled(self) -> None:
        """A request was answered with 429 or 503, or a call of overflow with 429."""
        self._fresh.counts["throttled"] += 1

    def paid(self, cost: float) -> None:
        """A call of overflow was settled, in the currency of the prices."""
        self._fresh.sums["cost"] += cost

    def event_taken(self, results: Mapping[str, int], ages: Sequence[float]) -> None:
        """Events of objects came in."""
        self._fresh.taken(results, ages)

    # -- time passes -----------------------------------------------------------------------------

    def tick(
        self,
        at: float,
        *,
        waiting: int,
        oldest_s: float,
        running: int,
        overflow: frozenset[str] = frozenset(),
        peak: int = 0,
    ) -> None:
        """Called about once a second: the gauges now, the names of overflow targets, and ``peak``, the most that ran.

        Of other processes only what they said last is known of the latter: peaks of several need not coincide.
        """
        self._others = {name: one for name, one in self._others.items() if at - one[0] < FRESH_S}
        elsewhere = sum(busy for _, busy in self._others.values())
        self._at, self._running = at, running + elsewhere
        self._fresh.peak = float(max(running, peak) + elsewhere)
        self._pour(overflow)
        gauges = {"waiting": float(waiting), "oldest_s": oldest_s, "running": float(self._running)}
        for ring in self._rings.values():
            ring.tick(at, gauges)
        for window in self._windows.values():
            window.tick(at)

    def _pour(self, overflow: frozenset[str]) -> None:
        """Add what is fresh to all rows that are open."""
        fresh, self._fresh, self._overflow = self._fresh, Row(), overflow
        fresh.sort(overflow)
        for part in (*self._rings.values(), *self._windows.values()):
            part.row.absorb(fresh)
        self._untold.absorb(fresh)

    def take(self, running: int, overflow: frozenset[str] = frozenset()) -> dict[str, Any]:
        """What happened here since it was taken last, for the other processes, as JSON."""
        self._pour(overflow)
        row, self._untold = self._untold, Row()
        return {**row.record(), "running": running}

    def merge(self, at: float, replica: str, record: Mapping[str, Any]) -> None:
        """What another process has taken, heard now; raises :class:`ValueError` and the like for what is none."""
        row, running = Row.read(record), checked_count(record["running"])
        if replica in self._others or len(self._others) < MAX_OTHERS:
            self._others[replica] = (at, running)
        for part in (*self._rings.values(), *self._windows.values()):
            part.row.absorb(row)

    # -- what is known ---------------------------------------------------------------------------

    def newest(self) -> dict[str, Any] | None:
        """The newest row of the hour, by column, with ``reasons``; None before the first."""
        return self._rings["hour"].newest()

    def table(self, span: str) -> dict[str, Any]:
        """``hour`` or ``day``; raises :class:`RequestError` for another."""
        if span not in self._rings:
            raise RequestError(f"range={span[:40]!r} is not one of {', '.join(self._rings)}.", parameter="range")
        return {"range": span, **self._rings[span].table()}

    def summary(self, span: str) -> dict[str, Any]:
        """Every metric of the last ``minute``, ``hour`` or ``day``; raises :class:`RequestError` for another."""
        if span not in self._windows:
            raise RequestError(f"span={span[:40]!r} is not one of {', '.join(self._windows)}.", parameter="span")
        self._pour(self._overflow)
        since, row = self._windows[span].total()
        return {"span": span, "from": since, "to": self._at or None, **summarized(row, self._running)}


def summarized(row: Row, running: int) -> dict[str, Any]:
    """A row as the document of ``GET /v1/metrics/summary``; ``running``: tasks that run now."""
    counts, sums = row.counts, row.sums
    invocations, errors = counts["invocations"], counts["errors"]
    ran = sum(row.shares.values())
    return {
        "invocations": invocations,
        "succeeded": invocations - errors,
        "success_rate": round(1 - errors / invocations, 6) if invocations else None,
        "cancelled": counts["cancelled"],
        "errors": {"total": errors, "by_reason": dict(row.reasons.most_common())},
        "duration_s": _durations(row, "run"),
        "wait_s": _durations(row, "wait"),
        "throttled": counts["throttled"],
        "concurrent": {"now": running, "peak": int(max(row.peak, running))},
        "events": {
            "received": counts["events_received"],
            "accepted": counts["events_received"] - counts["events_dropped"],
            "dropped": counts["events_dropped"],
            "by_result": dict(row.events.most_common()),
            "age_s": _durations(row, "age"),
        },
        "cold_starts": counts["cold_starts"],
        "bytes": {"in": int(sums["bytes_in"]), "out": int(sums["bytes_out"])},
        "megapixels": round(sums["megapixels"], 3),
        "own": {"tasks": max(0, ran - counts["overflow"]), "cost": 0.0},
        "overflow": {"tasks": counts["overflow"], "cost": round(sums["cost"], 9)},
        "targets": dict(row.shares.most_common()),
    }


def _durations(row: Row, name: str) -> dict[str, Any]:
    times = row.times[name]
    measures = {measure: _shown(measure, value) for measure, value in times.measures().items()}
    return {"count": times.total, "average": measures.pop("avg"), **measures}
