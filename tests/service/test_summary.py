"""The summary of metrics: one document with everything, over windows that forget."""

from __future__ import annotations

import random

import pytest

from pixelmill.errors import RequestError
from pixelmill.metrics import Run
from pixelmill.service.history import WINDOWS, History

CLOUD = frozenset({"cloud"})
MADE = {"source_size": [2000, 1000], "source_bytes": 1_000, "bytes": 100}


def second(history: History, at: float, running: int = 0, peak: int = 0) -> None:
    history.tick(at, waiting=0, oldest_s=0.0, running=running, overflow=CLOUD, peak=peak)


def test_a_summary_has_every_metric() -> None:
    history = History()
    second(history, 100.0)
    history.ran(Run("succeeded", "local", "job", 2.0, 0.5, outcome={**MADE, "cold": True}))
    history.ran(Run("succeeded", "cloud", "job", 4.0, 1.5, outcome=MADE))
    history.ran(Run("failed", "local", "process", 0.0, 1.0, error="corrupt-image"))
    history.ran(Run("cancelled", mode="job"))
    history.throttled()
    history.paid(0.25)
    history.event_taken({"accepted": 2, "duplicate": 1, "unread": 1}, [3.0, 5.0])
    second(history, 101.0, running=1, peak=3)
    summary = history.summary("minute")
    durations = (summary.pop("duration_s"), summary.pop("wait_s"), summary["events"].pop("age_s"))
    for found, (count, average, half, last) in zip(
        durations, ((3, 1.0, 1.0, 1.5), (3, 2.0, 2.0, 4.0), (2, 4.0, 3.0, 5.0)), strict=True
    ):
        shares = dict.fromkeys(("p90", "p95", "p99", "max"), last)
        assert found == pytest.approx({"count": count, "average": average, "p50": half, **shares}, rel=0.05)
        assert (found["average"], found["max"]) == (average, last), "these two are exact"
    assert summary == {
        "span": "minute",
        "from": 100.0,
        "to": 101.0,
        "invocations": 3,
        "succeeded": 2,
        "success_rate": 0.666667,
        "cancelled": 1,
        "errors": {"total": 1, "by_reason": {"corrupt-image": 1}},
        "throttled": 1,
        "concurrent": {"now": 1, "peak": 3},
        "events": {
            "received": 4,
            "accepted": 2,
            "dropped": 2,
            "by_result": {"accepted": 2, "duplicate": 1, "unread": 1},
        },
        "cold_starts": 1,
        "bytes": {"in": 2_000, "out": 200},
        "megapixels": 4.0,
        "own": {"tasks": 2, "cost": 0.0},
        "overflow": {"tasks": 1, "cost": 0.25},
        "targets": {"local": 2, "cloud": 1},
    }


def test_what_happened_is_in_the_summary_before_its_second_is_over() -> None:
    history = History()
    history.ran(Run("succeeded", "local", "job", 0.0, 0.5))
    assert history.summary("day")["invocations"] == 1
    assert history.summary("day")["from"] is None


def test_percentiles_are_exact_to_five_percent() -> None:
    history, chance = History(), random.Random(7)
    times = [chance.lognormvariate(-2.0, 1.5) for _ in range(5_000)]
    for number, seconds in enumerate(times):
        history.ran(Run("succeeded", "local", "job", 0.0, seconds))
        if number % 100 == 0:
            second(history, 100.0 + number / 100)
    times.sort()
    found = history.summary("hour")["duration_s"]
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert found[name] == pytest.approx(times[round(share * len(times)) - 1], rel=0.05)
    assert found["max"] == pytest.approx(times[-1], abs=1e-4)
    assert found["average"] == pytest.approx(sum(times) / len(times), rel=1e-3)


@pytest.mark.parametrize("span", list(WINDOWS))
def test_a_window_forgets_what_is_older_than_it(span: str) -> None:
    history = History()
    every_s, count = WINDOWS[span]
    second(history, 0.0)
    history.ran(Run("succeeded", "local", "job", 0.0, 0.5))
    second(history, 0.5)
    second(history, float(every_s * count) - 0.5)
    assert history.summary(span)["invocations"] == 1
    second(history, float(every_s * (count + 1)))
    assert history.summary(span)["invocations"] == 0


def test_a_window_keeps_a_bounded_number_of_rows() -> None:
    history = History()
    for at in range(500):
        second(history, float(at))
    assert len(history._windows["minute"]._closed) <= 60


def test_an_unknown_span_is_refused() -> None:
    with pytest.raises(RequestError, match="minute, hour, day"):
        History().summary("week")


def test_what_others_tell_is_in_the_summary() -> None:
    here, there = History(), History()
    second(here, 100.0)
    there.ran(Run("succeeded", "cloud", "job", 1.0, 2.0, outcome={**MADE, "cold": True}))
    there.event_taken({"accepted": 1}, [7.0])
    here.merge(100.5, "there", there.take(2, CLOUD))
    second(here, 101.0, running=1)
    summary = here.summary("hour")
    assert (summary["invocations"], summary["overflow"]["tasks"], summary["cold_starts"]) == (1, 1, 1)
    assert summary["events"]["age_s"]["max"] == 7.0
    assert summary["duration_s"]["average"] == 2.0
    assert summary["concurrent"] == {"now": 3, "peak": 3}
    assert summary["bytes"] == {"in": 1_000, "out": 100}
