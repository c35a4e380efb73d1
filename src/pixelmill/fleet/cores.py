"""How many cores this process may use: a container often sees all of its machine's, and gets a few of them.

Source: the kernel's ``Documentation/admin-guide/cgroup-v2.rst`` (``cpu.max``).
"""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def usable_cores(folder: Path = CGROUP) -> int:
    """Those it may be scheduled on, or what the quota of its control group amounts to, rounded up, if that is less."""
    seen = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return min(seen, max(1, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError, ZeroDivisionError):  # there is no such group, or its quota is "max"
        return seen
