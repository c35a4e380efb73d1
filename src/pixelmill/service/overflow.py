"""Overflow of one service, made from its configuration: targets, ledger, and who watches them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pixelmill.engines.queue import LeaseQueue
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.overflow import Books, PaidTarget, circuit_for, longest_s
from pixelmill.fleet.overflow_settings import OverflowConfig, OverflowTarget
from pixelmill.fleet.overflow_watch import OverflowWatch
from pixelmill.fleet.spill import Backlog
from pixelmill.jobs.database import Database
from pixelmill.jobs.free_ledger import FreeLedger
from pixelmill.jobs.ledger import PERIODS, UNIT, Ledger
from pixelmill.jobs.messages import PRIORITY_NUMBERS
from pixelmill.jobs.model import Priority
from pixelmill.metrics import Metrics
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.aws_lambda import LambdaTarget
from pixelmill.targets.needs import TILES
from pixelmill.targets.remote import RemoteTarget
from pixelmill.targets.serverless import ServerlessTarget
from pixelmill.targets.tokens import Anonymous, Bearer, Credentials, GoogleIdToken


class Overflow:
    """The targets of ``config``, which take slots of ``dispatcher`` between ``start`` and ``stop``.

    ``database`` None is for targets without a price. ``overflowing``: see ``OverflowWatch``.
    """

    def __init__(
        self,
        config: OverflowConfig,
        database: Database | None,
        store: ObjectStore,
        dispatcher: Dispatcher,
        queue: LeaseQueue,
        metrics: Metrics,
        *,
        task_timeout_s: float,
        overflowing: Callable[[], str | None] | None = None,
    ) -> None:
        self._config, self._dispatcher, self._queue, self._metrics = config, dispatcher, queue, metrics
        self._backlog = Backlog()
        self._ledger = _ledger(config, database)
        self.targets = [
            PaidTarget(
                _made(target, store),
                target.price,
                self._ledger,
                timeout_s=longest_s(target.timeout_s, task_timeout_s),
                order=config.order,
                observer=metrics,
                circuit=circuit_for(target.name, dispatcher.poke),
            )
            for target in config.targets
        ]
        warm = {target.name: target.warm for target in config.targets}
        self.watch = OverflowWatch(
            dispatcher, self._ledger, self.targets, self._ages, warm=warm, overflowing=overflowing
        )
        metrics.before_render(self._measure)

    async def start(self) -> None:
        """Let them take work."""
        for target in self.targets:
            await target.start()
            self._dispatcher.add(target, target.gate, overflow=True, lacks=frozenset({TILES}))

    async def stop(self) -> None:
        """Take them away, hang up, and settle what is open."""
        for target in self.targets:
            self._dispatcher.remove(target.name)
        for target in self.targets:
            await target.stop()

    def budget(self) -> dict[str, dict[str, float | None]] | None:
        """By ``hour`` and ``day``: limit (None: there is none), spent, reserved, left; None where nothing overflows."""
        if not self.targets:
            return None
        return {period: self._budget(period) for period in PERIODS}

    def _budget(self, period: str) -> dict[str, float | None]:
        spend, left = self._ledger.spend(period), self._ledger.left(period)
        return {
            "limit": None if left is None else (left + spend.used) / UNIT,
            "spent": spend.spent / UNIT,
            "reserved": spend.reserved / UNIT,
            "left": None if left is None else left / UNIT,
        }

    @property
    def capacity(self) -> int:
        """Calls at once, of all targets, money aside."""
        return sum(target.concurrency for target in self._config.targets)

    def refusal(self) -> str:
        """Why no target takes anything now; empty where one does."""
        reasons = []
        for target in self.targets:
            load, verdict = target.load(), target.gate.verdict()
            if verdict.open and load.healthy:
                return ""
            reasons.append(f"{target.name}: {verdict.reason or load.reason}")
        return "; ".join(reasons) or "there is no target"

    async def _ages(self) -> Mapping[Priority, float]:
        """How long the head of the queue has waited, by class; urgent jobs take slots of the class ``normal``."""
        depth = await self._queue.depth()
        heads = depth.heads
        if heads is None:  # this queue tells no ages, or none by class: for how long has something waited?
            heads = self._backlog.ages(depth.counts or {})
        ages: dict[Priority, float] = {}
        for priority, number in PRIORITY_NUMBERS.items():
            if number in heads:
                slot = Priority.BATCH if priority is Priority.BATCH else Priority.NORMAL
                ages[slot] = max(ages.get(slot, 0.0), heads[number])
        return ages

    def _measure(self) -> None:
        for target in self.targets:
            verdict = target.gate.verdict()
            self._metrics.set_overflow(target.name, gate_open=verdict.open, circuit=target.circuit.state.value)
        for period in PERIODS:
            left = self._ledger.left(period)
            if left is not None:
                self._metrics.set_budget_left(period, left / UNIT)


def _ledger(config: OverflowConfig, database: Database | None) -> Books:
    if database is None:
        return FreeLedger()
    # Rounded down: a budget is never passed.
    return Ledger(database, {period: int(amount * UNIT) for period, amount in config.budgets.items()})


def _made(target: OverflowTarget, store: ObjectStore) -> RemoteTarget:
    shared = store if target.links else None
    if target.function:
        return LambdaTarget(
            target.name,
            target.function,
            concurrency=target.concurrency,
            timeout_s=target.timeout_s,
            region=target.region,
            endpoint=target.endpoint,
            store=shared,
        )
    return ServerlessTarget(
        target.name,
        target.url,
        concurrency=target.concurrency,
        timeout_s=target.timeout_s,
        credentials=_credentials(target),
        store=shared,
    )


def _credentials(target: OverflowTarget) -> Credentials:
    if target.auth == "google":
        return GoogleIdToken(target.audience)
    return Bearer(target.token) if target.auth == "bearer" else Anonymous()
