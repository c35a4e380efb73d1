"""How many cores this process may use: a container often sees all of its machine's, and gets a few of them.

Source: the kernel's ``Documentation/admin-guide/cgroup-v2.rst`` (``cpu.max``; every group above bounds those below it).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def usable_cores(folder: Path = CGROUP, own: Path = OWN) -> int:
    """Those it may be scheduled on, or what the least quota of its control groups amounts to, rounded up, if less.

    ``folder``: where control groups lie; ``own``: the file that names this process's.
    """
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min([seen, *(quota for group in _groups(folder, own) if (quota := _quota(group)) is not None)])


def _groups(folder: Path, own: Path) -> Iterator[Path]:
    """The process's control group and all above it; in a container with a view of its own that is the root alone."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        lines = []
    named = next((line[3:] for line in lines if line.startswith("0::")), "/").strip("/")
    group = folder / named if ".." not in Path(named).parts else folder
    while True:
        yield group
        if group == folder:
            return
        group = group.parent


def _quota(group: Path) -> int | None:
    try:
        quota, period = (group / "cpu.max").read_text().split()
        return max(1, math.ceil(int(quota) / int(period)))
    except (OSError, ValueError, ZeroDivisionError):  # there is no such group, or its quota is "max"
        return None
