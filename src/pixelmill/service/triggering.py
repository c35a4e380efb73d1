"""The inside of the service as the runtime of triggers may use it: rows, news, results, and stores to write to.

What an edge may do for an owner are the verbs; this is for work that the service does for itself.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager

from pixelmill.events.bus import Subscription
from pixelmill.jobs.model import result_key
from pixelmill.jobs.trigger_counters import TriggerCounters
from pixelmill.jobs.trigger_events import TriggerEvents
from pixelmill.jobs.trigger_rules import KeptRules
from pixelmill.jobs.trigger_work import TriggerWork
from pixelmill.metrics import Metrics
from pixelmill.service.parts import Parts
from pixelmill.storage.store import ObjectStore


class Triggering:
    """Of one service."""

    def __init__(self, parts: Parts, new_id: Callable[[str], str]) -> None:
        self._parts = parts
        self.events = TriggerEvents(parts.database)
        self.work = TriggerWork(parts.database, lambda: new_id("batch"))
        self.rules = KeptRules(parts.database)
        self.counters = TriggerCounters(parts.database)

    @property
    def metrics(self) -> Metrics:
        """The counters of this process."""
        return self._parts.metrics

    @property
    def shared(self) -> bool:
        """Whether other services may use the same database."""
        return self._parts.database.shared

    def hold(self, name: str) -> AbstractAsyncContextManager[bool]:
        """A lock among all services of the database; yields whether it is ours, without waiting for it."""
        return self._parts.database.hold(f"triggers.{name}", wait=False)

    def news(self) -> AbstractAsyncContextManager[Subscription]:
        """Wakes when something happened to a job of any owner, here or in another service."""
        return self._parts.bus.subscribe(None)

    def result(self, owner: str, job: str, task: str, run: int) -> AsyncIterator[bytes]:
        """The bytes of a result's image; raises :class:`ObjectNotFound` where they are gone."""
        return self._parts.store.stream(result_key(owner, job, task, run))

    def bucket(self, uri: str) -> tuple[ObjectStore, str]:
        """The configured store of an address, and the key there; raises :class:`SourceRefused`."""
        return self._parts.sources.of(uri)
