"""The simulation on cases that a person can work out, and its laws on all others."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelmill.errors import ConfigError
from pixelmill.fleet.load import LoadSample
from pixelmill.fleet.overflow import Price
from pixelmill.fleet.simulate import Workload, simulate


def load(*cpu: float) -> list[LoadSample]:
    return [LoadSample(value, 0.0, 0.0, 0.0, 0) for value in cpu]


def test_an_idle_machine_runs_everything_at_once() -> None:
    found = simulate("auto", {"a": load(0, 0, 0, 0)}, Workload(rate=1, task_s=1, cores=1))
    assert (found.own, found.overflow, found.mean_wait_s, found.mean_total_s, found.cost) == (4, 0, 0.0, 1.0, 0.0)


def test_work_that_comes_faster_than_it_is_done_waits_in_turn() -> None:
    found = simulate("auto", {"a": load(0, 0)}, Workload(rate=2, task_s=1, cores=1))
    assert found.mean_wait_s == pytest.approx((0 + 0.5 + 1 + 1.5) / 4)
    assert found.p95_wait_s == pytest.approx(1.5)
    assert found.p95_total_s == pytest.approx(2.5)


def test_work_that_waited_too_long_overflows_at_that_moment() -> None:
    work = Workload(rate=2, task_s=1, cores=1, after_s=0.4, overflow_s=3, price=Price(1.0, 0.5))
    found = simulate("auto", {"a": load(0, 0)}, work)
    assert (found.own, found.overflow, found.cost) == (2, 2, 5.0)
    assert found.mean_wait_s == pytest.approx((0 + 0.4 + 0 + 0.4) / 4)
    assert found.mean_total_s == pytest.approx((1 + 3.4 + 1 + 3.4) / 4)


def test_what_others_use_makes_tasks_slower() -> None:
    found = simulate("auto", {"a": load(50)}, Workload(rate=1, task_s=1, cores=1))
    assert found.mean_total_s == pytest.approx(2.0)


def test_tasks_share_what_others_leave() -> None:
    """Two tasks on two cores of which one is used: half the speed each."""
    found = simulate("auto", {"a": load(50, 50)}, Workload(rate=1, task_s=2, cores=2, interval_s=0.5))
    assert found.own == 1
    two = simulate("auto", {"a": load(50)}, Workload(rate=2, task_s=1, cores=2))
    # The first runs 0.5 s alone, both share until it ends at 1.5 s, the second is then alone with 0.5 s left.
    assert two.mean_total_s == pytest.approx((1.5 + 1.5) / 2)


def test_a_threshold_shuts_with_the_fifth_sample_and_work_overflows() -> None:
    found = simulate("threshold", {"a": load(*[60] * 10)}, Workload(rate=1, task_s=0.1, cores=2))
    assert (found.own, found.overflow) == (4, 6)


def test_a_rule_on_total_load_shuts_because_of_our_own_work() -> None:
    work = Workload(rate=1, task_s=1.5, cores=2)
    idle = {"a": load(*[0] * 10)}
    assert simulate("threshold", idle, work).overflow == 0
    # Samples see 0, then 50 % each second: the mean of five passes 40 with the sixth, and is 40 after the next.
    found = simulate("lowest-cpu-40", idle, work)
    assert (found.own, found.overflow) == (9, 1)


def test_the_machine_with_the_lowest_load_is_taken_by_that_rule() -> None:
    traces = {"busy": load(*[30] * 20), "idle": load(*[0] * 20)}
    found = simulate("lowest-cpu-40", traces, Workload(rate=1, task_s=0.7, cores=1))
    slow = simulate("lowest-cpu-40", {"busy": traces["busy"]}, Workload(rate=1, task_s=0.7, cores=1))
    assert found.mean_total_s < slow.mean_total_s == pytest.approx(1.0)


@settings(deadline=None)
@given(
    st.sampled_from(["auto", "threshold", "threshold-20", "lowest-cpu-40"]),
    st.lists(st.floats(0, 100), min_size=1, max_size=30),
    st.floats(0.1, 5),
    st.floats(0.05, 4),
    st.one_of(st.none(), st.floats(0, 3)),
    st.one_of(st.none(), st.integers(0, 5)),
)
def test_every_task_runs_once_and_waits_are_no_longer_than_totals(
    rule: str, cpu: list[float], rate: float, task_s: float, after_s: float | None, seed: int | None
) -> None:
    work = Workload(rate=rate, task_s=task_s, cores=2, after_s=after_s, seed=seed, price=Price(1.0), overflow_s=task_s)
    found = simulate(rule, {"a": load(*cpu), "b": load(*reversed(cpu))}, work)
    if seed is None:
        assert abs(found.own + found.overflow - rate * len(cpu)) < 1.001
    assert found.cost == found.overflow
    assert 0 <= found.mean_wait_s <= found.mean_total_s
    if found.own + found.overflow:
        assert found.mean_total_s >= found.mean_wait_s + task_s * 0.999
    assert found == simulate(rule, {"a": load(*cpu), "b": load(*reversed(cpu))}, work)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="no machine"):
        simulate("auto", {}, Workload())
    with pytest.raises(ConfigError, match="at most"):
        simulate("auto", {"a": load(0)}, Workload(rate=1e12))
    with pytest.raises(ConfigError, match="no gate"):
        simulate("fastest", {"a": load(0)}, Workload())
