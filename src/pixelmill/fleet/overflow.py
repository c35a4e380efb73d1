"""Overflow: targets that cost money, the price of each call, and the gate that budget and circuit hold.

A :class:`PaidTarget` reserves the worst case of a call in the ledger before it is made, and settles it afterwards; what
can't be reserved is not called. It must not know why work overflows: that is ``fleet/places.py``.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

from pixelmill import logs
from pixelmill.errors import Cancelled, NodeLost, PixelmillError, ShuttingDown, TargetUnavailable
from pixelmill.fleet.circuit import Circuit, CircuitState
from pixelmill.fleet.gates import Gate
from pixelmill.jobs.ledger import PERIODS, UNIT, Reservation, Spend
from pixelmill.targets.remote import GRACE_S, WARM_S, RemoteTarget
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad

log = logging.getLogger(__name__)

Order = Literal["price", "speed"]
REMEMBERED = 1_000
"""Tasks whose calls ended badly, so that one that always does is not tried for nothing for ever."""
_SMOOTHING = 0.2
_FIRST_MEAN_S = 1.0
SETTLE_ATTEMPTS = 3
SETTLE_PAUSE_S = 1.0


@dataclass(frozen=True, slots=True)
class Price:
    """Of a call, in the currency; time is billed in whole ``step_s``, and ``minimum_s`` at least."""

    per_call: float = 0.0
    per_second: float = 0.0
    minimum_s: float = 0.0
    step_s: float = 0.001

    def of(self, seconds: float) -> int:
        """Billionths of the currency for a call that took so long, rounded up."""
        # A hair less, so that 0.3 s are three steps of 0.1 s and not four.
        steps = math.ceil(seconds / self.step_s - 1e-9)
        billed = max(self.minimum_s, steps * self.step_s)
        return math.ceil((self.per_call + self.per_second * billed) * UNIT - 1e-6)


class Observer(Protocol):
    """Who counts calls (``metrics.Metrics``)."""

    def overflow_call(self, target: str, ended: str, cost: float, *, throttled: bool = False) -> None:
        """A call ended: ``ok``, ``task-error``, ``failed`` or ``refused``; ``throttled``: it had too many calls."""
        ...


class Books(Protocol):
    """The books: ``jobs.ledger.Ledger``, or ``jobs.free_ledger.FreeLedger`` where nothing costs anything."""

    async def reserve(self, target: str, amount: int) -> Reservation:
        """Set an amount aside, or raise :class:`TargetUnavailable`."""
        ...

    async def settle(self, reservation: Reservation, actual: int, *, failed: bool = False) -> None:
        """Replace a reservation by what the call has cost."""
        ...

    async def refresh(self) -> None:
        """Read the sums."""
        ...

    async def prune(self) -> None:
        """Forget old windows."""
        ...

    def spend(self, period: str, target: str = ...) -> Spend:
        """Sums of this window."""
        ...

    def left(self, period: str) -> int | None:
        """What the budget has left."""
        ...

    def room(self, amount: int, most: int) -> int:
        """How many calls fit."""
        ...

    def refusal(self, amount: int) -> str:
        """Why a call does not fit, or an empty text."""
        ...


class PaidTarget:
    """A target whose calls are paid for. Implements ``targets.target.Target``.

    ``timeout_s``: the longest that one call may be billed for. ``order``: what :meth:`Gate.rank` goes by.
    """

    def __init__(
        self,
        target: RemoteTarget,
        price: Price,
        ledger: Books,
        *,
        timeout_s: float,
        order: Order = "price",
        observer: Observer | None = None,
        circuit: Circuit | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target, self.price, self._ledger = target, price, ledger
        self.name = target.name
        self._most_s = timeout_s
        self.worst = price.of(timeout_s)
        self._observer, self._now = observer, now
        self.circuit = circuit or Circuit()
        self.gate = OverflowGate(self, ledger, order)
        self.mean_s = _FIRST_MEAN_S
        self._out = 0
        self._settling: set[asyncio.Task[None]] = set()
        self._ended_badly: OrderedDict[str, None] = OrderedDict()

    async def start(self) -> None:
        """Start the target, and look what was spent so far."""
        await self._target.start()
        await self._ledger.refresh()

    async def stop(self) -> None:
        """Hang up, and settle what is open."""
        await self._target.stop()
        if self._settling:
            await asyncio.wait(self._settling)

    def load(self) -> TargetLoad:
        """The target's, with room for no more calls than the budget has room for, and for one while half-open."""
        load = self._target.load()
        most = 1 if self.circuit.state is CircuitState.HALF_OPEN else load.capacity
        fit = self._out + self._ledger.room(self.worst, load.capacity)
        return replace(load, capacity=min(most, fit))

    async def run(self, request: RunRequest) -> RunResult:
        """Run a task there. Its cost is in the result, or in the context of the error."""
        self._out += 1
        try:
            return await self._run(request)
        finally:
            self._out -= 1

    async def _run(self, request: RunRequest) -> RunResult:
        reservation = await self._reserve(self.worst)
        started, cost, ended, throttled = self._now(), self.worst, "failed", False
        call = self.circuit.begin()
        try:
            result = await self._within(request)
            took_s = self._now() - started
            cost, ended = min(self.price.of(took_s), self.worst), "ok"
            self.mean_s += _SMOOTHING * (took_s - self.mean_s)
            self.circuit.succeeded(call)
            return replace(result, target=self.name, cost=cost / UNIT)
        except TargetUnavailable as error:
            cost = self._cost(error, self._now() - started)
            error.context["cost"], throttled = cost / UNIT, bool(error.context.get("throttled"))
            self._failed(request, error, call)
            raise
        except (Cancelled, ShuttingDown) as error:
            error.context["cost"] = cost / UNIT  # we hung up, and nobody knows when it notices
            raise
        except PixelmillError as error:
            # It answered in order: the task is what failed.
            cost, ended = min(self.price.of(self._now() - started), self.worst), "task-error"
            self.circuit.succeeded(call)
            error.context["cost"] = cost / UNIT
            raise
        finally:
            self._settle(reservation, cost, ended, throttled=throttled)

    async def _within(self, request: RunRequest) -> RunResult:
        """Run it for as long as was reserved: a task may bring a longer limit, of before the settings were changed."""
        try:
            async with asyncio.timeout(self._most_s):
                return await self._target.run(request)
        except TimeoutError:
            raise TargetUnavailable(
                f"{self.name} had not answered after {self._most_s:g} s, the longest call that is paid for.",
                billed="worst",
                begun=True,
            ) from None

    async def warm(self, count: int) -> None:
        """So many calls without a task at once, within the budget; failures are logged."""
        await asyncio.gather(*(self._warm() for _ in range(count)))

    async def _warm(self) -> None:
        try:
            reservation = await self._reserve(self.price.of(WARM_S))
        except TargetUnavailable:
            return
        started, cost, ended = self._now(), reservation.amount, "failed"
        try:
            await self._target.warm()
            cost, ended = self.price.of(self._now() - started), "ok"
        except TargetUnavailable as error:
            cost = self._cost(error, self._now() - started)
            log.warning("%s could not be warmed up: %s", self.name, error)
        finally:
            self._settle(reservation, cost, ended)

    # -- below -----------------------------------------------------------------------------------

    async def _reserve(self, amount: int) -> Reservation:
        try:
            return await self._ledger.reserve(self.name, amount)
        except PixelmillError as error:
            self._count("refused", 0)
            raise TargetUnavailable(f"{self.name} was not called: {error}") from error

    def _cost(self, error: TargetUnavailable, took_s: float) -> int:
        """What a call that failed is taken to have cost."""
        billed = error.context.get("billed", "worst")
        if billed == "none":
            return 0
        return self.worst if billed == "worst" else min(self.price.of(took_s), self.worst)

    def _failed(self, request: RunRequest, error: TargetUnavailable, call: int) -> None:
        """Tell the circuit. Raises :class:`NodeLost`, which counts as an attempt, for a task that ends so again."""
        if not error.context.get("fault", True):
            return
        self.circuit.failed(str(error), call)
        if not error.context.get("begun", False):
            return
        if request.id in self._ended_badly:
            raise NodeLost(
                f"A call ended without an outcome, again: {error}", target=self.name, cost=error.context["cost"]
            ) from error
        self._ended_badly[request.id] = None
        while len(self._ended_badly) > REMEMBERED:
            self._ended_badly.popitem(last=False)

    def _settle(self, reservation: Reservation, cost: int, ended: str, *, throttled: bool = False) -> None:
        """In the background: the result need not wait for the books. Until then the worst case counts."""
        self._count(ended, cost, throttled=throttled)
        task = asyncio.create_task(self._settled(reservation, cost, failed=ended == "failed"))
        self._settling.add(task)
        task.add_done_callback(self._settling.discard)

    async def _settled(self, reservation: Reservation, cost: int, *, failed: bool) -> None:
        for attempt in range(SETTLE_ATTEMPTS):
            try:
                await self._ledger.settle(reservation, cost, failed=failed)
            except PixelmillError as error:
                log.warning("a call of %s could not be settled: %s", self.name, error)
                await asyncio.sleep(SETTLE_PAUSE_S * attempt)
            else:
                return

    def _count(self, ended: str, cost: int, *, throttled: bool = False) -> None:
        if self._observer is not None:
            self._observer.overflow_call(self.name, ended, cost / UNIT, throttled=throttled)


class OverflowGate:
    """Open while the circuit lets calls through and the next worst case fits the budgets."""

    def __init__(self, target: PaidTarget, ledger: Books, order: Order) -> None:
        self._target, self._ledger, self._order = target, ledger, order

    def verdict(self) -> Gate:
        """The circuit's reason, or the budget's."""
        verdict = self._target.circuit.verdict()
        if not verdict.open:
            return verdict
        reason = self._ledger.refusal(self._target.worst)
        return Gate(open=not reason, reason=reason)

    def rank(self) -> float:
        """The price of a call of mean length, or that length in seconds."""
        mean_s = self._target.mean_s
        return mean_s if self._order == "speed" else self._target.price.of(mean_s) / UNIT

    def describe(self) -> dict[str, Any]:
        """Circuit, prices, what was spent in this hour and this day, and what the budgets have left."""
        name, ledger = self._target.name, self._ledger
        shown: dict[str, Any] = {
            "rule": "overflow",
            **self._target.circuit.describe(),
            "mean_s": round(self._target.mean_s, 3),
            "worst_case": self._target.worst / UNIT,
        }
        for period in PERIODS:
            spend, left = ledger.spend(period, name), ledger.left(period)
            shown[period] = {
                "calls": spend.calls,
                "failures": spend.failures,
                "cost": spend.spent / UNIT,
                "reserved": spend.reserved / UNIT,
                "budget_left": None if left is None else left / UNIT,
            }
        return shown


def circuit_for(name: str, on_change: Callable[[], object] = lambda: None) -> Circuit:
    """The circuit of a target, which logs its changes and then tells ``on_change``."""

    def changed(state: CircuitState, reason: str) -> None:
        logs.event("circuit.closed" if state is CircuitState.CLOSED else "circuit.opened", target=name, reason=reason)
        on_change()

    return Circuit(on_change=changed)


def longest_s(timeout_s: float | None, task_timeout_s: float) -> float:
    """The longest call: as configured, or the task's limit and the way there and back."""
    return task_timeout_s + GRACE_S if timeout_s is None else timeout_s
