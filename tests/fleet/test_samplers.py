"""Samplers of a container and of a trace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from pixelmill.cores import usable_cores
from pixelmill.errors import ConfigError
from pixelmill.fleet.gates import LowestCpuGate
from pixelmill.fleet.samplers import CgroupSampler, ReplaySampler, read_trace


def write(folder: Path, *, seconds: float, quota: str = "max 100000", memory: Sequence[int] = (0, 0)) -> None:
    """The kernel's files for a group : CPU seconds used, and bytes held, of them some that are dropped easily."""
    folder.joinpath("cpu.stat").write_text(f"usage_usec {int(seconds * 1e6)}\nuser_usec 0\n")
    folder.joinpath("cpu.max").write_text(f"{quota}\n")
    folder.joinpath("memory.max").write_text("1000000000\n")
    folder.joinpath("memory.current").write_text(f"{memory[0]}\n")
    folder.joinpath("memory.stat").write_text(f"anon 5\ninactive_file {memory[1]}\n")


def test_a_group_is_judged_by_what_it_may_use(tmp_path: Path) -> None:
    clock = iter([10.0, 12.0])
    write(tmp_path, seconds=100.0, quota="50000 100000")
    sampler = CgroupSampler(folder=tmp_path, now=lambda: next(clock))
    assert sampler.sample().host_cpu == 0.0
    write(tmp_path, seconds=100.4, quota="50000 100000", memory=(700_000_000, 200_000_000))
    sample = sampler.sample()
    assert sample.host_cpu == pytest.approx(40.0)  # 0.4 s in 2 s, of half a core
    assert sample.host_ram == pytest.approx(50.0)
    assert sample.own_rss > 0
    assert sample.own_ram == pytest.approx(min(100.0, sample.own_rss / 1e7))  # of the 1 GB that the group may hold


def test_only_a_limit_makes_a_group_matter(tmp_path: Path) -> None:
    assert not CgroupSampler.is_here(tmp_path)
    tmp_path.joinpath("cpu.max").write_text("max 100000\n")
    tmp_path.joinpath("memory.max").write_text("max\n")
    assert not CgroupSampler.is_here(tmp_path)
    tmp_path.joinpath("cpu.max").write_text("200000 100000\n")
    assert CgroupSampler.is_here(tmp_path)


def test_a_trace_is_replayed_for_one_machine_and_begins_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    path.write_text("1_10.0_50.0\n2_90.0_60.0\n\n1_30.5_51.0\n")
    sampler = ReplaySampler(read_trace(path, "1"))
    assert [sampler.sample().foreign_cpu for _ in range(3)] == [10.0, 30.5, 10.0]
    with pytest.raises(ConfigError, match="no sample"):
        ReplaySampler(read_trace(path, "3"))
    path.write_text("1_10.0_50.0\nnonsense\n")
    with pytest.raises(ConfigError, match="Line 2"):
        list(read_trace(path, "1"))
    with pytest.raises(ConfigError, match=r"gone\.txt"):
        list(read_trace(tmp_path / "gone.txt", "1"))


def test_the_recorded_load_of_two_machines_shuts_and_opens_gates(assets: Path) -> None:
    sampler = ReplaySampler(read_trace(assets / "traces" / "two-vm-cpu-ram.txt", "1"))
    gate = LowestCpuGate(cpu=40)
    verdicts = []
    for _ in range(14_000):
        gate.observe(sampler.sample())
        verdicts.append(gate.verdict().open)
    assert 0 < sum(verdicts) < len(verdicts)


@pytest.mark.parametrize(
    ("quota", "cores"), [("50000 100000", 1), ("100000 100000", 1), ("100001 100000", 2), ("9900000 100000", 99)]
)
def test_a_quota_is_so_many_cores_and_never_more_than_there_are(tmp_path: Path, quota: str, cores: int) -> None:
    here = len(os.sched_getaffinity(0))
    tmp_path.joinpath("cpu.max").write_text(f"{quota}\n")
    assert usable_cores(tmp_path) == min(here, cores)


@pytest.mark.parametrize("text", [None, "max 100000\n", "", "rubbish\n", "5 0\n"])
def test_without_a_quota_all_cores_count_that_the_process_may_use(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        tmp_path.joinpath("cpu.max").write_text(text)
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert usable_cores(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert usable_cores(tmp_path) == len(allowed)


def test_the_least_quota_of_all_groups_above_counts(tmp_path: Path) -> None:
    here = len(os.sched_getaffinity(0))
    own = tmp_path / "own"
    own.write_text("1:name=systemd:/old\n0::/system.slice/mill.service\n")
    group = tmp_path / "system.slice" / "mill.service"
    group.mkdir(parents=True)
    assert usable_cores(tmp_path, own) == here
    (group / "cpu.max").write_text("max 100000\n")
    (group.parent / "cpu.max").write_text("50000 100000\n")
    assert usable_cores(tmp_path, own) == 1
    own.write_text("0::/../../elsewhere\n")
    assert usable_cores(tmp_path, own) == here
