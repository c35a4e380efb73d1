"""Gate policies over samples: pure, so every case is a few numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.errors import ConfigError
from pixelmill.fleet.gates import AutoGate, LowestCpuGate, ThresholdGate, gate_named
from pixelmill.fleet.load import LoadSample


def sample(foreign_cpu: float = 0.0, foreign_ram: float = 0.0, own: float = 0.0) -> LoadSample:
    return LoadSample(host_cpu=foreign_cpu + own, host_ram=foreign_ram + own, own_cpu=own, own_ram=own, own_rss=0)


def test_auto_is_always_open() -> None:
    gate = AutoGate()
    gate.observe(sample(100, 100))
    assert gate.verdict().open


def test_a_threshold_looks_at_the_average_of_five_samples() -> None:
    gate = ThresholdGate(cpu=40)
    for _ in range(4):
        gate.observe(sample(100))
        assert gate.verdict().open, "not enough samples yet"
    gate.observe(sample(100))
    assert not gate.verdict().open
    assert "100 % CPU (threshold 40 %)" in gate.verdict().reason


def test_one_peak_does_not_close_it() -> None:
    gate = ThresholdGate(cpu=40)
    for value in (0, 0, 100, 0, 0):
        gate.observe(sample(value))
    assert gate.verdict().open


def test_our_own_load_does_not_close_it() -> None:
    gate = ThresholdGate()
    for _ in range(5):
        gate.observe(sample(foreign_cpu=10, foreign_ram=10, own=80))
    assert gate.verdict().open


def test_ram_closes_it_too() -> None:
    gate = ThresholdGate(ram=85)
    for _ in range(5):
        gate.observe(sample(foreign_ram=90))
    assert "90 % RAM" in gate.verdict().reason


def test_it_opens_again_only_well_below_the_threshold() -> None:
    gate = ThresholdGate(cpu=40, window=1, hysteresis=5)
    seen = []
    for value in (39, 41, 39, 36, 35, 39, 41):
        gate.observe(sample(value))
        seen.append(gate.verdict().open)
    assert seen == [True, False, False, False, True, True, False]


@given(st.lists(st.floats(0, 100), min_size=5, max_size=40))
def test_it_never_closes_at_or_below_nor_opens_above(values: list[float]) -> None:
    gate = ThresholdGate(cpu=40)
    for index, value in enumerate(values):
        gate.observe(sample(value))
        if index >= 4:
            average = sum(values[index - 4 : index + 1]) / 5
            if average > 40.001:
                assert not gate.verdict().open
            if average < 34.999:
                assert gate.verdict().open


def test_the_rule_of_the_two_machines_looks_at_all_load_and_ranks_by_it() -> None:
    gate = LowestCpuGate(cpu=40)
    assert gate.verdict().open
    for _ in range(5):
        gate.observe(sample(foreign_cpu=10, own=25))
    assert gate.verdict().open
    assert gate.rank() == pytest.approx(35)
    for _ in range(5):
        gate.observe(sample(foreign_cpu=10, own=35))
    assert not gate.verdict().open
    assert "45 % CPU (threshold 40 %)" in gate.verdict().reason


@pytest.mark.parametrize(
    ("rule", "described"),
    [
        ("auto", {"rule": "auto"}),
        ("lowest-cpu-40", {"rule": "lowest-cpu-40", "cpu_threshold": 40, "host_cpu": None}),
        ("threshold", {"rule": "threshold", "cpu_threshold": 40, "ram_threshold": 85}),
        ("threshold-60", {"rule": "threshold", "cpu_threshold": 60, "ram_threshold": 85}),
        ("threshold-60-90", {"rule": "threshold", "cpu_threshold": 60, "ram_threshold": 90}),
    ],
)
def test_a_rule_has_a_name(rule: str, described: dict[str, object]) -> None:
    assert described.items() <= gate_named(rule).describe().items()


@pytest.mark.parametrize("rule", ["", "atuo", "threshold-", "threshold-101", "lowest-cpu", "lowest-cpu-400", "auto-3"])
def test_an_unknown_rule_is_refused(rule: str) -> None:
    with pytest.raises(ConfigError, match="lowest-cpu-40"):
        gate_named(rule)
