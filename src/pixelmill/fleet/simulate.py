"""What gate rules would have done over recorded load: a discrete-event simulation, pure and without a clock.

The rules are the real ones (``gates.py``, ``places.py``); machines, work and overflow are a model:

- A machine has ``cores``, and as many slots. The trace says what others use of it, in percent of all cores, a sample
  each ``interval_s``; it is taken as it is, so others lose nothing to our work. After its last sample it stays as it
  was.
- A task is ``task_s`` seconds of one core. Tasks on a machine share what others leave: each runs at the speed
  ``min(1, cores × (1 - foreign / 100) / running)``, and at no less than :data:`LEAST_SPEED`.
- Gates see each sample once: others' load from the trace, and ours as it is at that moment. Memory of our own is 0.
- Overflow has room for ``overflow_slots`` tasks, each of which takes ``overflow_s``, cold starts and transfer included;
  it never fails, and its budget has no end.
- Tasks come evenly at ``rate`` a second while the trace lasts, or at random (exponential gaps) with a ``seed``.

Not in the model: prefetching, the time that a decision takes, tasks of different length, failures, budgets.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from pixelmill.errors import ConfigError
from pixelmill.fleet.gates import AutoGate, LoadGate, gate_named
from pixelmill.fleet.load import LoadSample
from pixelmill.fleet.overflow import Price
from pixelmill.fleet.places import Place, choose
from pixelmill.jobs.ledger import UNIT
from pixelmill.jobs.model import Priority
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad

LEAST_SPEED = 0.01
"""A machine that others use wholly still gives us a little; else a simulation might never end."""
MAX_TASKS = 5_000_000
_TINY = 1e-9


@dataclass(frozen=True, slots=True)
class Workload:
    """The model's numbers; see the module. ``after_s``: tasks that waited longer may overflow (None: never)."""

    rate: float = 1.0
    task_s: float = 1.0
    cores: int = 2
    interval_s: float = 1.0
    overflow_s: float = 1.0
    overflow_slots: int = 100
    price: Price = field(default_factory=Price)
    after_s: float | None = None
    seed: int | None = None


@dataclass(frozen=True, slots=True)
class Simulated:
    """What a rule did. Waits (to the start) and totals (to the end) in seconds; cost in the currency of the price."""

    rule: str
    own: int
    overflow: int
    mean_wait_s: float
    p95_wait_s: float
    mean_total_s: float
    p95_total_s: float
    cost: float


def simulate(rule: str, traces: Mapping[str, Sequence[LoadSample]], work: Workload) -> Simulated:
    """Run the workload over the machines' traces under a rule; raises :class:`ConfigError` for what makes no sense."""
    if not traces or not all(traces.values()):
        raise ConfigError("The trace holds no machine with samples.")
    length_s = max(map(len, traces.values())) * work.interval_s
    if work.rate * length_s > MAX_TASKS:
        raise ConfigError(f"That is {work.rate * length_s:,.0f} tasks; at most {MAX_TASKS:,} are simulated.")
    return _Run(rule, traces, work, length_s).run()


class _Model:
    """A target of the model: only its load is asked for."""

    def __init__(self, name: str, capacity: int) -> None:
        self.name = name
        self._load = TargetLoad(0, capacity)

    def load(self) -> TargetLoad:
        return self._load

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def run(self, request: RunRequest) -> RunResult:
        raise NotImplementedError


class _Machine:
    """One of our own: its trace, its gate, and the work that is left of each task on it."""

    def __init__(self, name: str, samples: Sequence[LoadSample], rule: str, cores: int) -> None:
        self._samples, self._cores = samples, cores
        self.gate: LoadGate = gate_named(rule)
        self.place = Place(_Model(name, cores), self.gate)
        self._foreign = samples[0].foreign_cpu
        self.left: list[list[float]] = []  # seconds of work left, and when the task came

    def speed(self) -> float:
        free = self._cores * (1.0 - self._foreign / 100.0)
        return max(LEAST_SPEED, min(1.0, free / max(1, len(self.left))))

    def sample(self, number: int) -> None:
        """The trace's next sample, with our own load in it."""
        found = self._samples[min(number, len(self._samples) - 1)]
        self._foreign = found.foreign_cpu
        own = 100.0 * len(self.left) * self.speed() / self._cores
        self.gate.observe(LoadSample(min(100.0, found.foreign_cpu + own), found.host_ram, own, 0.0, 0))

    def next_end(self) -> float:
        """Seconds until the next task ends as things are."""
        return min((left for left, _ in self.left), default=math.inf) / self.speed()

    def advance(self, seconds: float) -> list[float]:
        """Work for that long; returns when the tasks that have ended came."""
        done = seconds * self.speed()
        for task in self.left:
            task[0] -= done
        ended = [came for left, came in self.left if left <= _TINY]
        self.left = [task for task in self.left if task[0] > _TINY]
        self.place.out = len(self.left)
        return ended


class _Run:
    """One simulation."""

    def __init__(self, rule: str, traces: Mapping[str, Sequence[LoadSample]], work: Workload, length_s: float) -> None:
        self._rule, self._work = rule, work
        self._machines = [_Machine(name, samples, rule, work.cores) for name, samples in traces.items()]
        self._overflow = Place(_Model("overflow", work.overflow_slots), AutoGate(), overflow=True)
        self._by_place = {id(machine.place): machine for machine in self._machines}
        self._places = [*(machine.place for machine in self._machines), self._overflow]
        self._away: list[tuple[float, float]] = []  # when tasks in overflow end, and when they came
        self._waiting: deque[float] = deque()
        self._waits: list[float] = []
        self._totals: list[float] = []
        self._spilled = 0
        self._arrivals = _arrivals(work, length_s)
        self._now = 0.0

    def run(self) -> Simulated:
        """To the end of the last task."""
        coming = next(self._arrivals, math.inf)
        tick = 0
        while coming < math.inf or self._waiting or self._away or any(machine.left for machine in self._machines):
            self._advance(min(coming, tick * self._work.interval_s, self._next_end(), self._next_patience()))
            if self._now >= tick * self._work.interval_s - _TINY:
                for machine in self._machines:
                    machine.sample(tick)
                tick += 1
            while coming <= self._now + _TINY:
                self._waiting.append(coming)
                coming = next(self._arrivals, math.inf)
            self._give()
        return self._result()

    def _next_end(self) -> float:
        own = self._now + min(machine.next_end() for machine in self._machines)
        return min(own, self._away[0][0]) if self._away else own

    def _next_patience(self) -> float:
        """When the first that waits has waited too long."""
        if self._work.after_s is None or not self._waiting:
            return math.inf
        ends = self._waiting[0] + self._work.after_s + 2 * _TINY
        return ends if ends > self._now else math.inf

    def _advance(self, until: float) -> None:
        seconds, self._now = max(0.0, until - self._now), max(self._now, until)
        for machine in self._machines:
            self._totals += [self._now - came for came in machine.advance(seconds)]
        while self._away and self._away[0][0] <= self._now + _TINY:
            end, came = heapq.heappop(self._away)
            self._totals.append(end - came)
            self._overflow.out -= 1

    def _give(self) -> None:
        work = self._work
        while self._waiting:
            came = self._waiting[0]
            found = choose(self._places, Priority.NORMAL, waited_s=self._now - came, latency_s=work.after_s)
            if found is None:
                return
            self._waiting.popleft()
            self._waits.append(self._now - came)
            found.place.out += 1
            if found.place is self._overflow:
                self._spilled += 1
                heapq.heappush(self._away, (self._now + work.overflow_s, came))
            else:
                self._by_place[id(found.place)].left.append([work.task_s, came])

    def _result(self) -> Simulated:
        count = len(self._waits)
        return Simulated(
            rule=self._rule,
            own=count - self._spilled,
            overflow=self._spilled,
            mean_wait_s=sum(self._waits) / max(1, count),
            p95_wait_s=_p95(self._waits),
            mean_total_s=sum(self._totals) / max(1, count),
            p95_total_s=_p95(self._totals),
            cost=self._spilled * self._work.price.of(self._work.overflow_s) / UNIT,
        )


def _arrivals(work: Workload, length_s: float) -> Iterator[float]:
    if work.rate <= 0:
        return
    rng = None if work.seed is None else random.Random(work.seed)  # noqa: S311 no secret
    number, at = 0, 0.0 if rng is None else rng.expovariate(work.rate)
    while at < length_s - _TINY:
        yield at
        number += 1
        at = number / work.rate if rng is None else at + rng.expovariate(work.rate)


def _p95(values: list[float]) -> float:
    """The nearest-rank percentile; 0 of nothing."""
    ordered = sorted(values)
    return ordered[math.ceil(0.95 * len(ordered)) - 1] if ordered else 0.0
