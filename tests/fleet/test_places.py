"""Which place takes the next task: the laws, over every combination of gates, rooms and waits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from stub_target import StubTarget

from pixelmill.fleet.gates import Gate
from pixelmill.fleet.places import AS_AUTO, OWN, Place, choose
from pixelmill.jobs.model import Priority


@dataclass
class Fixed:
    """A gate that stays as it is."""

    open: bool
    order: float = 0.0

    def verdict(self) -> Gate:
        return Gate(open=self.open, reason="" if self.open else "shut")

    def rank(self) -> float:
        return self.order

    def describe(self) -> dict[str, Any]:
        return {"rule": "fixed"}


@st.composite
def fleets(draw: st.DrawFn) -> list[Place]:
    places = []
    for index in range(draw(st.integers(0, 5))):
        target = StubTarget(f"target-{index}", draw(st.integers(1, 3)))
        target.healthy = draw(st.booleans())
        gate = Fixed(draw(st.booleans()), draw(st.sampled_from([0.0, 1.0])))
        place = Place(target, gate, reserved=draw(st.integers(0, 1)), overflow=draw(st.booleans()))
        place.out = draw(st.integers(0, target.capacity))
        places.append(place)
    return places


PRIORITIES = st.sampled_from(list(Priority))


@given(fleets(), PRIORITIES, st.sampled_from([0.0, 10.0]), st.sampled_from([None, 5.0]))
def test_where_a_task_goes(places: list[Place], priority: Priority, waited_s: float, latency_s: float | None) -> None:
    choice = choose(places, priority, waited_s=waited_s, latency_s=latency_s)
    own = [place for place in places if not place.overflow]
    opened = [place for place in own if place.verdict().open]
    paid = [place for place in places if place.overflow and place.verdict().open]
    if any(place.has_room(priority) for place in opened):
        assert choice is not None
        assert choice.reason == OWN
        assert choice.place in opened
    elif choice is None:
        # Nothing stands idle that might help.
        may_pay = not opened or (latency_s is not None and waited_s > latency_s)
        assert not (may_pay and any(place.has_room(priority) for place in paid))
        assert opened or paid or not any(place.has_room(priority) for place in own)
    elif choice.place.overflow:
        assert choice.place.verdict().open
        assert not opened or waited_s > (latency_s or 0)
    else:
        assert choice.reason == AS_AUTO
        assert not opened
        assert not paid
    if choice is not None:
        assert choice.place.has_room(priority)
        assert choice.place.target.load().healthy


def test_of_open_places_the_lowest_rank_then_the_least_busy_then_the_first() -> None:
    def place(name: str, order: float, out: int) -> Place:
        made = Place(StubTarget(name, 4), Fixed(True, order))
        made.out = out
        return made

    def name(*places: Place) -> str:
        choice = choose(places, Priority.NORMAL)
        assert choice is not None
        return choice.place.target.name

    assert name(place("a", 9, 0), place("b", 3, 3)) == "b"
    assert name(place("a", 3, 2), place("b", 3, 1)) == "b"
    assert name(place("a", 3, 1), place("b", 3, 1)) == "a"


def test_one_slot_of_each_place_is_kept_for_people_who_wait() -> None:
    place = Place(StubTarget("own", 2), Fixed(True), reserved=1)
    place.out = 1
    assert choose([place], Priority.NORMAL) is None
    assert choose([place], Priority.INTERACTIVE) is not None
