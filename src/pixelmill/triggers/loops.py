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
from pixelmill.triggers.rule import Rule


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
    graph = links(rules)
    loops = [found for name in graph if (found := _way_back(name, graph)) is not None]
    return min(loops, key=len, default=None)


def links(rules: Sequence[Rule]) -> Mapping[str, Sequence[Link]]:
    """Which rule leads to which, by the name of the first."""
    active = [rule for rule in rules if rule.enabled]
    graph: dict[str, list[Link]] = {}
    for rule in active:
        reach = Reach(rule)
        found = ((other.name, reach.example_for(other)) for other in active if reach.may_touch(other))
        graph[rule.name] = [Link(rule.name, name, example) for name, example in found if example is not None]
    return graph


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
