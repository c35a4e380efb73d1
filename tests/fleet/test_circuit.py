from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pixelmill.fleet.circuit import Circuit, CircuitState


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


def make(clock: Clock, changes: list[CircuitState] | None = None) -> Circuit:
    told = [] if changes is None else changes
    return Circuit(
        consecutive=3,
        window=6,
        rate=0.5,
        pause_s=5,
        max_pause_s=20,
        on_change=lambda state, _reason: told.append(state),
        now=clock,
    )


def state_of(circuit: Circuit) -> CircuitState:
    """Read anew: a type checker takes a property for a constant."""
    return circuit.state


def test_failures_in_a_row_open_it_and_the_reason_is_told() -> None:
    circuit = make(Clock())
    for _ in range(2):
        circuit.failed("500")
        assert circuit.verdict().open
    circuit.failed("500")
    assert not circuit.verdict().open
    assert "500" in circuit.verdict().reason


def test_a_success_between_failures_keeps_it_closed_until_too_many_of_the_window_failed() -> None:
    circuit = make(Clock())
    for _ in range(2):
        circuit.failed("a")
        circuit.succeeded()
    circuit.succeeded()
    assert circuit.verdict().open
    circuit.failed("a")  # three of the last six
    assert not circuit.verdict().open


def test_pauses_grow_to_their_bound_and_a_good_probe_makes_them_short_again() -> None:
    clock, changes = Clock(), list[CircuitState]()
    circuit = make(clock, changes)
    for _ in range(3):
        circuit.failed("a")
    for pause in (5, 10, 20, 20):
        clock.time += pause - 0.1
        assert state_of(circuit) is CircuitState.OPEN
        clock.time += 0.1
        assert state_of(circuit) is CircuitState.HALF_OPEN
        assert circuit.verdict().open
        circuit.failed("again")
    clock.time += 20
    circuit.succeeded()
    assert state_of(circuit) is CircuitState.CLOSED
    assert changes == [CircuitState.OPEN] * 5 + [CircuitState.CLOSED]
    for _ in range(3):
        circuit.failed("a")
    clock.time += 5
    assert state_of(circuit) is CircuitState.HALF_OPEN


def test_calls_from_before_it_opened_change_nothing() -> None:
    circuit = make(Clock())
    for _ in range(3):
        circuit.failed("a")
    circuit.succeeded()
    circuit.failed("a")
    assert state_of(circuit) is CircuitState.OPEN
    assert circuit.describe()["pause_s"] == 5


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 30)), max_size=60))
def test_it_is_never_shut_for_longer_than_its_bound(steps: list[tuple[bool, float]]) -> None:
    clock = Clock()
    circuit = make(clock)
    for good, wait in steps:
        clock.time += wait
        if circuit.verdict().open:
            (circuit.succeeded if good else lambda: circuit.failed("x"))()
        assert circuit.describe()["pause_s"] <= 20
    clock.time += 20
    assert circuit.verdict().open


def test_calls_that_were_begun_before_it_opened_say_nothing_when_they_end() -> None:
    clock, changes = Clock(), list[CircuitState]()
    circuit = make(clock, changes)
    old = [circuit.begin() for _ in range(9)]
    for call in old[:3]:
        circuit.failed("a", call)
    clock.time += 5
    probe = circuit.begin()
    circuit.failed("late", old[3])
    circuit.succeeded(old[4])
    assert state_of(circuit) is CircuitState.HALF_OPEN
    assert circuit.describe()["pause_s"] == 5
    circuit.succeeded(probe)
    assert state_of(circuit) is CircuitState.CLOSED
    for call in old[5:]:
        circuit.failed("very late", call)
    assert changes == [CircuitState.OPEN, CircuitState.CLOSED]
    for _ in range(3):
        circuit.failed("new", circuit.begin())
    assert state_of(circuit) is CircuitState.OPEN
