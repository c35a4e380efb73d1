"""Loops: rules whose results are watched by rules that lead back to them. Found before anything runs.

A rule leads to another where some name that its template can make is one that the other takes: its place, its suffixes
and its types. Sizes are not looked at. Two names of one bucket, and links, can't be seen here; the runtime notices
them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pixelmill.errors import ConfigError
from pixelmill.triggers.overlap import Reach
from pixelmill.triggers.places import place
from pixelmill.triggers.rule import Rule
from pixelmill.triggers.words import Steps


@dataclass(frozen=True, slots=True)
class Link:
    """One rule leads to another; ``example`` is the address of a result that both know."""

    start: str
    end: str
    example: str


def check_loops(rules: Sequence[Rule], where: str) -> None:
    """Raise :class:`ConfigError` that shows the shortest loop; ``where`` (the file) begins its message."""
    found = find_loop(rules)
    if found is None:
        return
    watch = {rule.name: rule.watch for rule in rules}
    way = " → ".join([found[0].start, *(link.end for link in found)])
    steps = "; ".join(
        f"{link.end} (watch = {watch[link.end]}) takes what {link.start} writes, such as {link.example}"
        for link in found
    )
    raise ConfigError(
        f"{where}{': ' if where else ''}the rules form a loop, {way}: {steps}. Write results where no rule before them "
        "watches, or tell them apart by suffixes or types.",
        loop=[link.start for link in found],
    )


def find_loop(rules: Sequence[Rule]) -> list[Link] | None:
    """The links of a shortest loop among the rules that are switched on, or None."""
    near = _on_loops(rules)
    steps = Steps()
    for rule in near:
        alone = links([rule], steps)[rule.name]
        if alone:
            return list(alone)
    graph = links(near, steps)
    loops = [found for name in graph if (found := _way_back(name, graph)) is not None]
    return min(loops, key=len, default=None)


def links(rules: Sequence[Rule], steps: Steps | None = None) -> Mapping[str, Sequence[Link]]:
    """Which rule leads to which, by the name of the first; rules that are switched off lead nowhere."""
    steps = Steps() if steps is None else steps
    by_name = {rule.name: rule for rule in rules}
    graph: dict[str, list[Link]] = {}
    for name, (reach, others) in _near(rules).items():
        found = ((other, reach.example_for(by_name[other], steps)) for other in others)
        graph[name] = [Link(name, other, example) for other, example in found if example is not None]
    return graph


def _near(rules: Sequence[Rule]) -> dict[str, tuple[Reach, list[str]]]:
    """For each rule those that it may lead to at a quick look: few, where rules are many."""
    active = [rule for rule in rules if rule.enabled]
    watched: dict[tuple[str, str], list[tuple[str, tuple[str, ...], str]]] = {}
    for rule in active:
        where = place(rule.watch)
        watched.setdefault((where.scheme, where.bucket), []).append(
            (where.path, tuple(suffix.lower() for suffix in rule.suffixes), rule.name)
        )
    near: dict[str, tuple[Reach, list[str]]] = {}
    for rule in active:
        reach = Reach(rule)
        start = reach.start
        there = watched.get(reach.bucket, ())
        near[rule.name] = (
            reach,
            [
                name
                for path, suffixes, name in there
                if (path.startswith(start) or start.startswith(path)) and reach.may_end_in(suffixes)
            ],
        )
    return near


def _on_loops(rules: Sequence[Rule]) -> list[Rule]:
    """The rules that a quick look can't say to be on no loop: what nothing leads to, or leads nowhere, goes."""
    ahead = {name: set(others) for name, (_, others) in _near(rules).items()}
    while True:
        reached = set().union(*ahead.values())
        left = {name: others & ahead.keys() for name, others in ahead.items() if name in reached}
        left = {name: others for name, others in left.items() if others & left.keys()}
        if len(left) == len(ahead):
            return [rule for rule in rules if rule.name in left]
        ahead = left


def _way_back(name: str, graph: Mapping[str, Sequence[Link]]) -> list[Link] | None:
    """The shortest way from a rule to itself."""
    came_by: dict[str, Link] = {}
    waiting = deque([name])
    while waiting:
        for link in graph[waiting.popleft()]:
            if link.end in came_by:
                continue
            came_by[link.end] = link
            if link.end == name:
                return _traced(name, came_by)
            waiting.append(link.end)
    return None


def _traced(name: str, came_by: Mapping[str, Link]) -> list[Link]:
    way = [came_by[name]]
    while way[-1].start != name:
        way.append(came_by[way[-1].start])
    return way[::-1]
