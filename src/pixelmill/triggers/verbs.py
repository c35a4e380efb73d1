"""What edges and sources of events call: the contract of the runtime of triggers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pixelmill.jobs.model import Page
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.rule import Rule, RuleSet


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a batch of events: ``accepted`` (one for each rule that matched), and those that were dropped.

    ``duplicate``: a rule had this version already. ``unmatched``: no rule is for it. ``ignored``: it is no creation, or
    a result of the same rule came back.
    """

    accepted: int = 0
    duplicate: int = 0
    unmatched: int = 0
    ignored: int = 0


class Taker(Protocol):
    """Where sources of events hand them over."""

    async def take(self, source: str, events: Sequence[ObjectEvent], unread: Sequence[Unread] = ()) -> Taken:
        """Record events; when this returns, they survive ``kill -9``, and the source may forget them.

        Raises :class:`PixelmillError` where they could not be recorded: the source keeps them, and tries again.
        """
        ...


class TriggerVerbs(Taker, Protocol):
    """The runtime, as API and command line see it. Raises :class:`NotFound` for an unknown rule."""

    def rule_set(self) -> RuleSet:
        """The rules that are in force, and the sources."""
        ...

    async def state(self) -> Mapping[str, Any]:
        """Counters of each rule and each source, and what the last reload of the file said."""
        ...

    async def put_rule(self, rule: Rule) -> None:
        """Keep a rule of the API; raises :class:`ConfigError` where it can't be, or closes a loop."""
        ...

    async def remove_rule(self, name: str) -> None:
        """Forget a rule of the API, and what waits for it; :class:`ConfigError` for one of the file."""
        ...

    async def events(
        self, rule: str | None = None, *, state: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """What became of them, newest first: ``waiting``, ``submitted``, ``delivered``, ``superseded``, ``failed``."""
        ...

    async def redrive(self, rule: str | None = None, ids: Sequence[str] = ()) -> int:
        """Give dead letters (``failed``) another try: these, or all of a rule, or all; how many."""
        ...


class TriggerRuntime(TriggerVerbs, Protocol):
    """The runtime, as whoever serves it sees it: started after the service, and stopped before it."""

    async def start(self) -> None:
        """Read the rules, and go on where the last process ended; raises :class:`ConfigError`."""
        ...

    async def stop(self) -> None:
        """End the sources, then what is under way; what was taken stays."""
        ...
