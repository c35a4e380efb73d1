"""Load samples: what the machine does, what of it is ours, and one hour of it by the second.

Foreign load is the host's minus our own process tree's. The sampler is a Protocol: psutil here; a cgroup's view and the
replay of a trace follow. Sampling costs a fraction of a percent of one core: it reads the processes it is told about,
and never walks the process table.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, fields
from typing import Any, Protocol

import psutil

log = logging.getLogger(__name__)

HOUR = 3600


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One look at the machine. CPU and RAM in percent of all cores and of all memory, 0 to 100.

    ``own_rss`` in bytes counts pages that our processes share once for each of them.
    """

    host_cpu: float
    host_ram: float
    own_cpu: float
    own_ram: float
    own_rss: int

    @property
    def foreign_cpu(self) -> float:
        """CPU that others use."""
        return max(0.0, self.host_cpu - self.own_cpu)

    @property
    def foreign_ram(self) -> float:
        """RAM that others use."""
        return max(0.0, self.host_ram - self.own_ram)


class Sampler(Protocol):
    """Where samples come from."""

    def sample(self) -> LoadSample:
        """The load since the last call; the first call gives zeros for CPU."""
        ...


class PsutilSampler:
    """Samples this machine through psutil.

    ``processes`` gives the ids of our own processes besides this one. CPU of children that ended meanwhile is
    not lost: it is in their parent's count of reaped children.
    """

    def __init__(self, processes: Callable[[], Iterable[int]] = tuple) -> None:
        self._list = processes
        self._known: dict[int, psutil.Process] = {}
        self._me = psutil.Process()
        self._cores = os.cpu_count() or 1
        self._host: tuple[float, float] | None = None
        self._own: float | None = None
        self._at = 0.0

    def sample(self) -> LoadSample:
        """The load since the last call; percentages of the first one are 0."""
        now = time.monotonic()
        times = psutil.cpu_times()
        # Linux counts guest time in user time already.
        total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
        idle = times.idle + getattr(times, "iowait", 0.0)
        memory = psutil.virtual_memory()
        own_seconds, own_rss = self._tree()
        host_cpu = own_cpu = 0.0
        if self._host is not None and self._own is not None:
            elapsed = total - self._host[0]
            if elapsed > 0:
                host_cpu = 100.0 * (1.0 - (idle - self._host[1]) / elapsed)
            wall = (now - self._at) * self._cores
            if wall > 0:
                own_cpu = 100.0 * (own_seconds - self._own) / wall
        self._host, self._own, self._at = (total, idle), own_seconds, now
        return LoadSample(
            host_cpu=_percent(host_cpu),
            host_ram=_percent(100.0 * (memory.total - memory.available) / memory.total),
            own_cpu=_percent(own_cpu),
            own_ram=_percent(100.0 * own_rss / memory.total),
            own_rss=own_rss,
        )

    def _tree(self) -> tuple[float, int]:
        """CPU seconds so far and resident bytes now of this process and those it was told about."""
        seconds, rss = 0.0, 0
        pids = set(self._list())
        self._known = {pid: process for pid, process in self._known.items() if pid in pids}
        for process in (self._me, *(self._find(pid) for pid in pids)):
            if process is None:
                continue
            try:
                times = process.cpu_times()
                seconds += times.user + times.system
                seconds += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
                rss += process.memory_info().rss
            except psutil.Error:
                self._known.pop(process.pid, None)  # it has just ended
        return seconds, rss

    def _find(self, pid: int) -> psutil.Process | None:
        if pid not in self._known:
            try:
                self._known[pid] = psutil.Process(pid)
            except psutil.Error:
                return None
        return self._known[pid]


class LoadHistory:
    """The last hour (or ``size`` samples) in arrays that never grow."""

    COLUMNS = tuple(field.name for field in fields(LoadSample))

    def __init__(self, size: int = HOUR) -> None:
        self._size = size
        self._count = 0
        self._times = array("d", bytes(8 * size))
        self._values = [array("d" if name == "own_rss" else "f", [0] * size) for name in self.COLUMNS]

    def __len__(self) -> int:
        return min(self._count, self._size)

    def add(self, sample: LoadSample, at: float) -> None:
        """Keep a sample taken ``at`` seconds since the epoch; the oldest one makes room."""
        slot = self._count % self._size
        self._times[slot] = at
        for column, value in zip(self._values, astuple(sample), strict=True):
            column[slot] = value
        self._count += 1

    def last(self) -> dict[str, float] | None:
        """The newest sample as plain values; None where there is none yet."""
        if not self._count:
            return None
        slot = (self._count - 1) % self._size
        values = {name: round(column[slot], 1) for name, column in zip(self.COLUMNS, self._values, strict=True)}
        return {"at": self._times[slot], **values}

    def snapshot(self, points: int = 360) -> dict[str, list[float]]:
        """Columns by name, oldest first, thinned to at most ``points`` values by averaging neighbors."""
        count = len(self)
        oldest = (self._count - count) % self._size
        step = max(1, -(-count // points))
        starts = range(0, count, step)
        times = (self._times[oldest:] + self._times[:oldest])[:count]
        table = {"at": [times[min(start + step, count) - 1] for start in starts]}
        for name, column in zip(self.COLUMNS, self._values, strict=True):
            ordered = (column[oldest:] + column[:oldest])[:count]
            means = (sum(part) / len(part) for part in (ordered[start : start + step] for start in starts))
            table[name] = [round(mean, 1) for mean in means]
        return table


class LoadMonitor:
    """Takes a sample each ``interval_s``, keeps it, and tells ``on_sample`` (gates, dispatcher)."""

    def __init__(
        self,
        sampler: Sampler,
        history: LoadHistory,
        on_sample: Callable[[LoadSample], Any] = lambda _: None,
        interval_s: float = 1.0,
    ) -> None:
        self._sampler, self.history, self._on_sample = sampler, history, on_sample
        self._interval_s = interval_s

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            try:
                sample = self._sampler.sample()
                self.history.add(sample, time.time())
                self._on_sample(sample)
            except (OSError, psutil.Error) as error:  # such as too many open files: there is a gap, and it goes on
                log.warning("the load could not be sampled: %s", error)
            except Exception:  # a defect; but without samples gates would stand still, and nobody would notice
                log.exception("the load could not be sampled")
            await asyncio.sleep(self._interval_s)


def _percent(value: float) -> float:
    return min(100.0, max(0.0, value))
