"""Gates: whether a target may take its next task, judged by foreign load. Pure policy over samples, no clock, no I/O.

Slots bound our own work; a gate looks at everybody else's on that machine.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pixelmill.fleet.load import LoadSample


@dataclass(frozen=True, slots=True)
class Gate:
    """A verdict, and its reason for people."""

    open: bool
    reason: str = ""


OPEN = Gate(open=True)


class AutoGate:
    """Always open: the slots keep all cores busy and no more. The default of an embedded service."""

    def observe(self, sample: LoadSample) -> None:
        """Samples change nothing."""

    def verdict(self) -> Gate:
        """Open."""
        return OPEN


class ThresholdGate:
    """Closed while foreign CPU or RAM, averaged over the last ``window`` samples, is above its threshold.

    Percent of the whole machine. Opens again only when both averages are ``hysteresis`` points below their thresholds,
    so that a load near one does not make it flap. Open until ``window`` samples were seen.
    """

    def __init__(self, *, cpu: float = 40.0, ram: float = 85.0, window: int = 5, hysteresis: float = 5.0) -> None:
        self._cpu, self._ram, self._hysteresis = cpu, ram, hysteresis
        self._samples: deque[tuple[float, float]] = deque(maxlen=window)
        self._verdict = OPEN

    def observe(self, sample: LoadSample) -> None:
        """Take one more sample into account."""
        self._samples.append((sample.foreign_cpu, sample.foreign_ram))
        count = len(self._samples)
        if count < (self._samples.maxlen or 1):
            return
        cpu = sum(sample_cpu for sample_cpu, _ in self._samples) / count
        ram = sum(sample_ram for _, sample_ram in self._samples) / count
        margin = 0.0 if self._verdict.open else self._hysteresis
        reasons = []
        if cpu > self._cpu - margin:
            reasons.append(f"other programs use {cpu:.0f} % CPU (threshold {self._cpu:.0f} %)")
        if ram > self._ram - margin:
            reasons.append(f"other programs use {ram:.0f} % RAM (threshold {self._ram:.0f} %)")
        self._verdict = Gate(open=not reasons, reason=", ".join(reasons))

    def verdict(self) -> Gate:
        """The verdict after the last sample."""
        return self._verdict
