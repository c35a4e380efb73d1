"""A worker of our own whose gate is shut, on a queue that does not tell who else takes from it."""

from __future__ import annotations

import pytest

from pixelmill.fleet.gates import ThresholdGate
from pixelmill.fleet.load import LoadSample
from pixelmill.fleet.resting import PATIENCE_S, TURN_S, Resting


class Scene:
    """A real gate, fed with samples, and a clock."""

    def __init__(self, *, tells: bool = True) -> None:
        self.at = 100.0
        self.gate = ThresholdGate(window=1)
        self.door = Resting(self.gate, tells=tells, now=lambda: self.at)
        self.load(90.0)

    def load(self, foreign_cpu: float) -> None:
        self.gate.observe(LoadSample(host_cpu=foreign_cpu, host_ram=10.0, own_cpu=0.0, own_ram=0.0, own_rss=0))
        if not self.door.shut:
            self.door.opened()

    def look(self, seconds: float, waiting: int, leased: int = 0, own: int = 0) -> bool:
        """So much later: whether it takes tasks then."""
        self.at += seconds
        self.door.look(waiting, leased, own)
        return self.door.most >= 0


def test_it_pauses_when_the_gate_shuts_and_resumes_when_it_opens() -> None:
    scene = Scene()
    assert (scene.door.most, scene.door.why(1)) == (-1, "")
    scene.load(10.0)
    assert scene.door.most == 2
    assert scene.door.why(1) == "its gate is open"
    scene.load(90.0)
    assert scene.door.most == -1


def test_it_rests_for_as_long_as_others_hold_tasks() -> None:
    scene = Scene()
    assert not any(scene.look(PATIENCE_S, 10, leased=1) for _ in range(20))
    assert not any(scene.look(PATIENCE_S, 0) for _ in range(20)), "and while nothing waits"


def test_what_nobody_else_takes_it_takes_and_says_why() -> None:
    scene = Scene()
    assert not scene.look(0, 10)
    assert not scene.look(PATIENCE_S - 0.1, 10)
    assert scene.look(0.1, 10)
    assert scene.door.why(1).startswith("nobody else takes tasks, so a shut gate (other programs use 90 % CPU")
    assert all(scene.look(TURN_S, 10, leased=2, own=2) for _ in range(20)), "it goes on while nobody else comes"
    assert not scene.look(0, 10, leased=3, own=2), "and rests when somebody does"


def test_where_the_queue_does_not_tell_what_is_leased_it_watches_what_vanishes() -> None:
    scene = Scene(tells=False)
    assert not any(scene.look(PATIENCE_S, waiting) for waiting in range(50, 1, -1))
    assert not scene.look(0, 2)
    scene.look(0, 2)
    assert scene.look(PATIENCE_S, 2)
    assert not scene.look(1.5 * TURN_S, 40), "its turn ends, so that it can see others"
    assert not scene.look(1, 39)
    scene.look(0, 39)
    assert scene.look(PATIENCE_S, 39)


@pytest.mark.parametrize("tells", [True, False])
def test_a_gate_that_was_open_meanwhile_begins_anew(tells: bool) -> None:
    scene = Scene(tells=tells)
    scene.look(0, 10)
    assert scene.look(PATIENCE_S, 10)
    scene.load(10.0)
    scene.load(90.0)
    assert not scene.look(0, 10)
