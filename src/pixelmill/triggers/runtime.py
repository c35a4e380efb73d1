"""The runtime of triggers beside one service: takes events, makes jobs of them, delivers what they give.

Each step stands in a file of its own (``submitter``, ``deliverer``, ``open_sources``, ``current``); here they are put
together, and the verbs that edges call are answered. docs/decisions/2026-11-28-triggers.md says what is durable when.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from pixelmill import logs
from pixelmill.errors import NotFound
from pixelmill.jobs.intake import chunks
from pixelmill.jobs.model import Page
from pixelmill.jobs.trigger_events import RULE, SOURCE
from pixelmill.jobs.trigger_identity import NewTriggerEvent, name_key, state_key
from pixelmill.pipelines.presets import BUILT_IN, Presets
from pixelmill.service import Service
from pixelmill.service.loops import in_background
from pixelmill.triggers.current import Current
from pixelmill.triggers.deliverer import Deliverer
from pixelmill.triggers.destinations import Destinations, identities
from pixelmill.triggers.event import ObjectEvent, Unread, order_of
from pixelmill.triggers.matching import matches, name_of
from pixelmill.triggers.open_sources import Open, OpenSources, opener
from pixelmill.triggers.rule import Rule, RuleSet
from pixelmill.triggers.submitter import Submitter
from pixelmill.triggers.upkeep import TriggerUpkeep
from pixelmill.triggers.verbs import Taken

TAKEN_AT_ONCE = 1_000
"""Events of one transaction; a larger batch takes several."""
MATCHED_AT_ONCE = 20_000
"""Pairs of event and rule that are compared at once; more are compared in a thread."""


class Triggers:
    """The runtime (:class:`TriggerRuntime`) over a service that is started before it and stopped after it.

    ``path``: the rules file; without one there are the rules of the API. ``presets`` are those that pipelines of rules
    may name. ``on_loopback``: only this machine reaches the service. ``open_``: opens sources of events.
    """

    def __init__(
        self,
        service: Service,
        path: Path | None = None,
        *,
        presets: Presets = BUILT_IN,
        on_loopback: bool = False,
        open_: Open | None = None,
    ) -> None:
        self._triggering = triggering = service.triggering
        self._current = Current(
            path, triggering.rules, service.config, presets, self._on_change, on_loopback=on_loopback
        )
        self._destinations = Destinations(triggering)
        self._submitter = Submitter(service, self.rule_set, presets)
        self._deliverer = Deliverer(triggering, self.rule_set, self._destinations)
        self._sources = OpenSources(self, open_ or opener(service.config.source_roots, on_loopback=on_loopback))
        self._upkeep = TriggerUpkeep(triggering, self.rule_set)
        self._by_place: Mapping[str, Sequence[Rule]] = {}
        self._others = asyncio.Event()
        self._stack = AsyncExitStack()

    # -- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """See :class:`TriggerRuntime`."""
        await self._current.load()
        self._stack.callback(self._destinations.close)
        self._background(self._deliverer.run, "deliverer")
        self._background(self._submitter.run, "submitter")
        self._background(self._upkeep.run, "triggers' upkeep")
        self._background(self._current.watch, "rules")
        self._stack.push_async_callback(self._sources.stop)
        self._background(self._follow, "sources")
        self._submitter.nudge()

    async def stop(self) -> None:
        """See :class:`TriggerRuntime`."""
        await self._stack.aclose()

    def _background(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        in_background(self._stack, work, name)

    def _on_change(self) -> None:
        by_place: dict[str, list[Rule]] = {}
        for rule in self.rule_set().rules.values():
            by_place.setdefault(_place(rule.watch), []).append(rule)
        self._by_place = by_place
        self._others.set()

    async def _follow(self) -> None:
        """The sources of the rules that are in force."""
        while True:
            await self._others.wait()
            self._others.clear()
            await self._sources.follow(self.rule_set().sources)
            self._submitter.nudge()  # what waited for a rule may go on

    # -- events ----------------------------------------------------------------------------------

    async def take(self, source: str, events: Sequence[ObjectEvent], unread: Sequence[Unread] = ()) -> Taken:
        """See :class:`Taker`."""
        taken: Counter[str] = Counter()
        for number, some in enumerate(chunks(events, TAKEN_AT_ONCE) if events else [[]]):
            taken += await self._take(source, some, 0 if number else len(unread))
        if taken["accepted"]:
            self._submitter.nudge()
        return Taken(taken["accepted"], taken["duplicate"], taken["unmatched"], taken["ignored"])

    async def _take(self, source: str, events: Sequence[ObjectEvent], unread: int) -> Counter[str]:
        counts: Counter[str] = Counter(unread=unread)
        by_place = self._by_place
        most = max(map(len, by_place.values()), default=0)
        if len(events) * most > MATCHED_AT_ONCE:
            matched = await asyncio.to_thread(_matched, events, by_place, counts)
        else:
            matched = _matched(events, by_place, counts)
        new = await self._without_loops(matched, counts)
        noted = await self._triggering.events.record(source, new, counts)
        counts["accepted"], counts["duplicate"] = len(noted.new), noted.duplicates
        now = time.time()
        fresh = {(one.uri, one.version): now - one.at for one in noted.new}
        self._triggering.metrics.trigger_events(source, counts, list(fresh.values()))
        return counts

    async def _without_loops(
        self, matched: Sequence[tuple[ObjectEvent, Sequence[Rule]]], counts: Counter[str]
    ) -> list[NewTriggerEvent]:
        """Rows for events and their rules, but for results that came back to a rule that led to them."""
        places = [name_key(uri) for uri in await identities([event.uri for event, _ in matched])]
        states = [state_key(name_of(event.uri), event.version) for event, _ in matched]
        producers = await self._triggering.events.producers([*places, *states]) if places else {}
        new: list[NewTriggerEvent] = []
        for (event, rules), place, state in zip(matched, places, states, strict=True):
            chain = producers.get(place, frozenset()) | producers.get(state, frozenset())
            for rule in rules:
                if rule.name in chain:
                    counts["ignored"] += 1
                    logs.event("trigger.loop", rule=rule.name, uri=event.uri, chain=sorted(chain))
                    continue
                new.append(
                    NewTriggerEvent(
                        owner=rule.owner,
                        rule=rule.name,
                        uri=event.uri,
                        version=event.version,
                        ordinal=order_of(event).lower(),
                        at=event.at,
                        size=event.size,
                        chain=tuple(sorted(chain)),
                    )
                )
        return new

    # -- verbs -----------------------------------------------------------------------------------

    def rule_set(self) -> RuleSet:
        """See :class:`TriggerVerbs`."""
        return self._current.rules

    async def state(self) -> Mapping[str, Any]:
        """``file``, ``rules`` and ``sources`` by name with their counters, and ``refused`` rules of the API.

        Of a rule: ``accepted``, ``delivered``, ``superseded`` and ``failed`` since it exists; ``waiting``,
        ``submitted`` and ``dead`` (which wait for a redrive) now.
        """
        counters, counts = await self._triggering.counters.all(), await self._triggering.events.counts()
        rules = {}
        for name in self.rule_set().rules:
            ever, now = counters.get((RULE, name), {}), counts.get(name, {})
            rules[name] = {
                **{counter: ever.get(counter, 0) for counter in ("accepted", "delivered", "superseded", "failed")},
                "waiting": now.get("waiting", 0),
                "submitted": now.get("submitted", 0),
                "dead": now.get("failed", 0),
            }
        running = self._sources.state()
        known = [*running, *(name for kind, name in counters if kind == SOURCE and name not in running)]
        sources = {
            name: {
                **{
                    counter: counters.get((SOURCE, name), {}).get(counter, 0)
                    for counter in ("accepted", "duplicate", "unmatched", "ignored", "unread")
                },
                **running.get(name, {"kind": None, "error": None}),
            }
            for name in known
        }
        return {
            "file": self._current.state(),
            "rules": rules,
            "refused": dict(self._current.refused),
            "sources": sources,
        }

    async def put_rule(self, rule: Rule) -> None:
        """See :class:`TriggerVerbs`."""
        await self._current.put(rule)

    async def remove_rule(self, name: str) -> None:
        """See :class:`TriggerVerbs`."""
        await self._current.remove(name)
        await self._triggering.events.forget(name)

    async def events(
        self, rule: str | None = None, *, state: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """Events (:class:`pixelmill.jobs.trigger_events.TriggerEvent`); see :class:`TriggerVerbs`."""
        self._check_known(rule)
        return await self._triggering.events.list(rule, state=state, limit=limit, cursor=cursor)

    async def redrive(self, rule: str | None = None, ids: Sequence[str] = ()) -> int:
        """See :class:`TriggerVerbs`."""
        self._check_known(rule)
        count = await self._triggering.events.redrive(rule, ids)
        if count:
            self._submitter.nudge()
        return count

    def _check_known(self, rule: str | None) -> None:
        if rule is not None and rule not in self.rule_set().rules:
            raise NotFound(f"There is no rule {rule!r}.", rule=rule)


def _matched(
    events: Sequence[ObjectEvent], by_place: Mapping[str, Sequence[Rule]], counts: Counter[str]
) -> list[tuple[ObjectEvent, list[Rule]]]:
    """Events that rules are for; the others are counted."""
    found: list[tuple[ObjectEvent, list[Rule]]] = []
    for event in events:
        rules = [rule for rule in by_place.get(_place(event.uri), ()) if matches(rule, event)]
        if event.kind != "created":
            counts["ignored"] += 1
        elif rules:
            found.append((event, rules))
        else:
            counts["unmatched"] += 1
    return found


def _place(address: str) -> str:
    """Scheme and bucket: rules of other places need not be asked."""
    scheme, _, rest = address.partition("://")
    return f"{scheme}://{'' if scheme == 'file' else rest.partition('/')[0]}"
