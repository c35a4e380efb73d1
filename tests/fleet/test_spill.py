"""The gate of an overflow worker: when it takes from the queue that others take from too."""

from __future__ import annotations

import pytest

from pixelmill.fleet.spill import NOBODY, SETTLE_S, Backlog, Spill
from pixelmill.jobs.model import Priority


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


class Scene:
    """A gate with its clock and what its targets say."""

    def __init__(self, latency_s: dict[Priority, float] | None = None) -> None:
        self.clock, self.refusal = Clock(), ""
        latency_s = {Priority.INTERACTIVE: 1.0, Priority.NORMAL: 30.0} if latency_s is None else latency_s
        self.spill = Spill(latency_s, lambda: self.refusal, now=self.clock)
        self.clock.at += SETTLE_S


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_nothing_goes_while_workers_of_our_own_take_tasks_and_nothing_waits_too_long(scene: Scene) -> None:
    for own in (2, 1, None):
        scene.spill.look({0: 29.0, 1: 30.0, 2: 100_000.0}, own)
        assert (scene.spill.most, scene.spill.reason(), scene.spill.ready) == (NOBODY, None, True)


def test_everything_goes_when_nobody_of_ours_takes_tasks_twice_in_a_row(scene: Scene) -> None:
    for own, most in ((0, NOBODY), (1, NOBODY), (0, NOBODY), (0, 2), (0, 2), (1, NOBODY)):
        scene.spill.look({}, own)
        assert scene.spill.most == most
    scene.spill.look({}, 0)
    scene.spill.look({}, 0)
    assert scene.spill.why(2) == "no worker of our own takes tasks"


def test_after_a_start_and_after_a_blind_moment_others_have_time_to_come_back(scene: Scene) -> None:
    scene.spill.look({}, 0)
    scene.spill.look({}, 0)
    assert scene.spill.most == 2
    scene.spill.blind()
    assert (scene.spill.most, scene.spill.ready, scene.spill.why(0)) == (NOBODY, False, "")
    for _ in range(3):
        scene.spill.look({}, 0)
        assert scene.spill.most == NOBODY
    scene.clock.at += SETTLE_S
    scene.spill.look({}, 0)
    scene.spill.look({}, 0)
    assert scene.spill.most == 2


def test_what_waited_too_long_goes_and_what_is_more_urgent_with_it() -> None:
    scene = Scene({Priority.NORMAL: 30.0, Priority.BATCH: 600.0})
    scene.spill.look({1: 31.0, 2: 31.0}, 1)
    assert scene.spill.why(1) == scene.spill.why(0) == "work had waited for 31.0 s, longer than 30 s"
    assert scene.spill.why(2) == ""
    scene.spill.look({0: 31.0}, 1)
    assert scene.spill.most == 1
    scene.spill.look({1: 2.0, 2: 601.0}, 1)
    assert scene.spill.why(2) == scene.spill.why(0) == "work had waited for 601.0 s, longer than 600 s"


def test_batches_that_never_overflow_wait_for_ever(scene: Scene) -> None:
    scene.spill.look({2: 1e9}, 1)
    assert scene.spill.most == NOBODY


def test_a_refusal_keeps_everything_back_and_is_seen_by_others(scene: Scene) -> None:
    scene.refusal = "cloud: the budget of this hour is used up"
    for _ in range(3):
        scene.spill.look({1: 1e6}, 0)
        assert (scene.spill.most, scene.spill.ready, scene.spill.reason()) == (NOBODY, False, None)
    scene.refusal = ""
    scene.spill.look({1: 1e6}, 0)
    assert (scene.spill.most, scene.spill.ready) == (2, True)


def test_a_backlog_is_as_old_as_its_queue_has_not_been_empty() -> None:
    clock = Clock()
    backlog = Backlog(clock)
    assert backlog.ages({0: 0, 1: 5, 2: 0}) == {1: 0.0}
    clock.at += 10.0
    assert backlog.ages({0: 0, 1: 900, 2: 1}) == {1: 10.0, 2: 0.0}
    clock.at += 5.0
    assert backlog.ages({0: 0, 1: 0, 2: 1}) == {2: 5.0}
    clock.at += 5.0
    assert backlog.ages({0: 0, 1: 1, 2: 1}) == {1: 0.0, 2: 10.0}
