"""Whether the ranks of a run would compute the same pixels: one class of CPU, one OpenCV, one NumPy, one Pixelmill.

Vector loops of OpenCV round as the CPU's instructions do, so a band from another machine may differ in its last bit.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pixelmill import __version__
from pixelmill.errors import ConfigError


def traits() -> dict[str, str]:
    """What must be the same on all ranks. The features are those that OpenCV uses, not all that the CPU has."""
    # Those that it would use and can't have a "?" behind them.
    features = sorted(name.lstrip("*") for name in cv2.getCPUFeaturesLine().split() if not name.endswith("?"))
    return {
        "pixelmill": __version__,
        "NumPy": np.__version__,
        "OpenCV": cv2.__version__,
        "build of OpenCV": hashlib.sha256(cv2.getBuildInformation().encode()).hexdigest()[:12],
        "CPU": f"{platform.machine()} {' '.join(features)}",
    }


def check_alike(found: Sequence[Mapping[str, str]], hosts: Sequence[str]) -> None:
    """Raise :class:`ConfigError` for ranks that differ from the first one; ``hosts`` names where each runs."""
    for rank, mine in enumerate(found):
        for name, value in mine.items():
            first = found[0].get(name)
            if value != first:
                raise ConfigError(
                    f"MPI rank {rank} on {hosts[rank]} differs from rank 0 on {hosts[0]} in {name}: "
                    f"{_apart(value, first or '')}. Their pixels could differ too. Use machines of one kind with equal "
                    "installations (mpi_hosts).",
                    setting="mpi_hosts",
                    rank=rank,
                    trait=name,
                )


def _apart(value: str, first: str) -> str:
    """Two values; of long lists only the words that are in one alone."""
    mine, theirs = set(value.split()), set(first.split())
    if not mine & theirs:
        return f"{value}, not {first}"
    more, less = " ".join(sorted(mine - theirs)), " ".join(sorted(theirs - mine))
    return "; ".join(part for part in (f"it has {more}" if more else "", f"it lacks {less}" if less else "") if part)
