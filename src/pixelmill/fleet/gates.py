"""Gates: whether a target may take its next task, judged by its load. Pure policy over samples, no clock, no I/O.

Slots bound our own work; a gate looks at everybody else's on that machine. A gate says where work goes, never whether
it goes: ``fleet/places.py`` knows what happens when all are shut.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import Any, Protocol

from pixelmill.errors import ConfigError
from pixelmill.fleet.load import LoadSample


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict, and its reason for people."""

    open: bool
    reason: str = ""


OPEN = Gate(open=True)
WINDOW = 5
"""Samples that are averaged."""


class GatePolicy(Protocol):
    """What judges one target."""

    def verdict(self) -> Gate:
        """Whether the next task may go there."""
        ...

    def rank(self) -> float:
        """Among open gates the lowest is taken first."""
        ...

    def describe(self) -> dict[str, Any]:
        """The rule, its thresholds and what it last saw, as plain values."""
        ...


class LoadGate(GatePolicy, Protocol):
    """One that judges by samples of a machine's load."""

    def observe(self, sample: LoadSample) -> None:
        """Take one more sample into account."""
        ...


class AutoGate:
    """Always open: the slots keep all cores busy and no more. The default of an embedded service."""

    def observe(self, sample: LoadSample) -> None:
        """Samples change nothing."""

    def verdict(self) -> Gate:
        """Open."""
        return OPEN

    def rank(self) -> float:
        """All alike."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """The rule."""
        return {"rule": "auto"}


class _Window:
    """Means of the last samples; None until there are enough."""

    def __init__(self, size: int) -> None:
        self._samples: deque[tuple[float, float]] = deque(maxlen=size)
        self._size = size

    def add(self, cpu: float, ram: float) -> None:
        self._samples.append((cpu, ram))

    def means(self) -> tuple[float, float] | None:
        if len(self._samples) < self._size:
            return None
        cpu, ram = zip(*self._samples, strict=True)
        return sum(cpu) / self._size, sum(ram) / self._size


class ThresholdGate:
    """Closed while foreign CPU or RAM, averaged over the last ``window`` samples, is above its threshold.

    Percent of the whole machine. Opens again only when both averages are ``hysteresis`` points below their thresholds,
    so that a load near one does not make it flap. Open until ``window`` samples were seen.
    """

    def __init__(self, *, cpu: float = 40.0, ram: float = 85.0, window: int = WINDOW, hysteresis: float = 5.0) -> None:
        self._cpu, self._ram, self._hysteresis = cpu, ram, hysteresis
        self._seen = _Window(window)
        self._verdict = OPEN

    def observe(self, sample: LoadSample) -> None:
        """Take one more sample into account."""
        self._seen.add(sample.foreign_cpu, sample.foreign_ram)
        means = self._seen.means()
        if means is None:
            return
        margin = 0.0 if self._verdict.open else self._hysteresis
        reasons = []
        if means[0] > self._cpu - margin:
            reasons.append(f"other programs use {means[0]:.0f} % CPU (threshold {self._cpu:.0f} %)")
        if means[1] > self._ram - margin:
            reasons.append(f"other programs use {means[1]:.0f} % RAM (threshold {self._ram:.0f} %)")
        self._verdict = Gate(open=not reasons, reason=", ".join(reasons))

    def verdict(self) -> Gate:
        """The verdict after the last sample."""
        return self._verdict

    def rank(self) -> float:
        """All alike: a machine that may take work may take as much as it has slots."""
        return 0.0

    def describe(self) -> dict[str, Any]:
        """The rule, thresholds in percent, and the foreign load seen."""
        cpu, ram = self._seen.means() or (None, None)
        return {
            "rule": "threshold",
            "cpu_threshold": self._cpu,
            "ram_threshold": self._ram,
            "foreign_cpu": cpu if cpu is None else round(cpu, 1),
            "foreign_ram": ram if ram is None else round(ram, 1),
        }


class LowestCpuGate:
    """The rule of a balancer over two virtual machines, by name ``lowest-cpu-40``: for comparison.

    Closed while the machine's whole CPU load, our own work included, averaged over ``window`` samples, is above
    ``cpu`` percent; of open ones the one with the lowest average is taken. Without hysteresis: so it was.
    """

    def __init__(self, *, cpu: float = 40.0, window: int = WINDOW) -> None:
        self._cpu = cpu
        self._seen = _Window(window)

    def observe(self, sample: LoadSample) -> None:
        """Take one more sample into account."""
        self._seen.add(sample.host_cpu, sample.host_ram)

    def verdict(self) -> Gate:
        """The verdict after the last sample."""
        means = self._seen.means()
        if means is None or means[0] <= self._cpu:
            return OPEN
        return Gate(open=False, reason=f"the machine uses {means[0]:.0f} % CPU (threshold {self._cpu:.0f} %)")

    def rank(self) -> float:
        """The average."""
        means = self._seen.means()
        return 0.0 if means is None else means[0]

    def describe(self) -> dict[str, Any]:
        """The rule, its threshold in percent, and the load seen."""
        means = self._seen.means()
        return {
            "rule": f"lowest-cpu-{self._cpu:g}",
            "cpu_threshold": self._cpu,
            "host_cpu": None if means is None else round(means[0], 1),
        }


_RULE = re.compile(r"(auto)|(threshold)(?:-(\d{1,3})(?:-(\d{1,3}))?)?|(lowest-cpu)-(\d{1,3})")


def gate_named(rule: str) -> LoadGate:
    """The gate of that name: ``auto``, ``threshold``, ``threshold-CPU``, ``threshold-CPU-RAM`` or ``lowest-cpu-CPU``.

    Numbers are percent. Raises :class:`ConfigError` for anything else.
    """
    found = _RULE.fullmatch(rule)
    if found is None or any(int(number) > 100 for number in re.findall(r"\d+", rule)):
        raise ConfigError(
            f"There is no gate {rule[:80]!r}. Use auto, threshold (40 % CPU and 85 % RAM of other programs), "
            "threshold-CPU-RAM such as threshold-60-90, or lowest-cpu-40."
        )
    if found[1]:
        return AutoGate()
    if found[5]:
        return LowestCpuGate(cpu=float(found[6]))
    return ThresholdGate(cpu=float(found[3] or 40), ram=float(found[4] or 85))
