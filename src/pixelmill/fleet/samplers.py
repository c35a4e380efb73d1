"""Samplers beside that of the whole machine: a container's share of it (cgroup v2), and the replay of a trace.

Sources: the kernel's ``Documentation/admin-guide/cgroup-v2.rst`` (``cpu.stat``, ``cpu.max``, ``memory.current``,
``memory.max``, ``memory.stat``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from pixelmill.errors import ConfigError
from pixelmill.fleet.load import LoadSample, PsutilSampler, Sampler

CGROUP = Path("/sys/fs/cgroup")


class CgroupSampler:
    """The load of this process's control group, in percent of what the group may use.

    ``host_cpu`` and ``host_ram`` are the group's: in a container, that is the machine that one sees. Page cache that
    the kernel can drop at once does not count as used. Own load is measured as on a whole machine.
    """

    def __init__(
        self,
        processes: Callable[[], Iterable[int]] = tuple,
        *,
        folder: Path = CGROUP,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._now = now
        self._own = PsutilSampler(processes)
        self._cores_of_host = os.cpu_count() or 1
        self._before: tuple[float, float] | None = None

    @staticmethod
    def is_here(folder: Path = CGROUP) -> bool:
        """Whether this process is in a group with a limit of its own."""
        try:
            limits = ((folder / "cpu.max").read_text().split()[0], (folder / "memory.max").read_text().strip())
        except (OSError, IndexError):
            return False
        return limits != ("max", "max")

    def sample(self) -> LoadSample:
        """The load since the last call; CPU of the first one is 0. Raises :class:`OSError` where the group is gone."""
        own = self._own.sample()
        now, used = self._now(), _field(self._folder / "cpu.stat", "usage_usec") / 1e6
        cores, memory = self._cores(), self._memory()
        cpu = 0.0
        if self._before is not None and now > self._before[0]:
            cpu = 100.0 * (used - self._before[1]) / ((now - self._before[0]) * cores)
        self._before = now, used
        held = int((self._folder / "memory.current").read_text())
        held -= _field(self._folder / "memory.stat", "inactive_file")
        return LoadSample(
            host_cpu=_percent(cpu),
            host_ram=_percent(100.0 * held / memory),
            own_cpu=_percent(own.own_cpu * self._cores_of_host / cores),
            own_ram=_percent(100.0 * own.own_rss / memory),
            own_rss=own.own_rss,
        )

    def _cores(self) -> float:
        quota, period = (self._folder / "cpu.max").read_text().split()
        return self._cores_of_host if quota == "max" else int(quota) / int(period)

    def _memory(self) -> int:
        total = int(psutil.virtual_memory().total)
        most = (self._folder / "memory.max").read_text().strip()
        return total if most == "max" else min(total, int(most))


class ReplaySampler:
    """Samples that were taken before, one a call; after the last one it begins again."""

    def __init__(self, samples: Iterable[LoadSample]) -> None:
        self._samples = list(samples)
        if not self._samples:
            raise ConfigError("The trace holds no sample for this machine.")
        self._next = 0

    def sample(self) -> LoadSample:
        """The next one."""
        sample = self._samples[self._next % len(self._samples)]
        self._next += 1
        return sample


def read_trace(path: Path, machine: str) -> Iterator[LoadSample]:
    """Foreign load of one machine from lines of the form ``MACHINE_CPU%_RAM%`` (``1_22.8_80.6``).

    Raises :class:`ConfigError` for a file that can't be read, naming the line.
    """
    return iter(read_traces(path).get(machine, ()))


def read_traces(path: Path) -> dict[str, list[LoadSample]]:
    """The same for every machine of the file, by its name, in the order in which they appear."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The trace {path} can't be read: {error}.") from error
    traces: dict[str, list[LoadSample]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            name, cpu, ram = line.strip().split("_")
            values = float(cpu), float(ram)
        except ValueError as error:
            raise ConfigError(f"Line {number} of {path} is no sample of the form MACHINE_CPU_RAM: {line!r}.") from error
        traces.setdefault(name, []).append(LoadSample(_percent(values[0]), _percent(values[1]), 0.0, 0.0, 0))
    return traces


def sampler_for(processes: Callable[[], Iterable[int]]) -> Sampler:
    """The one that sees what this process may use: the container's, or the machine's."""
    return CgroupSampler(processes) if CgroupSampler.is_here() else PsutilSampler(processes)


def _field(path: Path, name: str) -> int:
    for line in path.read_text().splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    raise OSError(f"{path} has no {name}")


def _percent(value: float) -> float:
    return min(100.0, max(0.0, value))
