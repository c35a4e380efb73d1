"""Frozen settings of runs over tiles: where they keep what they have written, what they may take, how ranks start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class MpiConfig:
    """How MPI ranks are started. ``max_ranks``: of one run; 0: none are started.

    ``launcher``: the program ``mpirun``; empty: the one beside this Python, else on the path. ``hosts``: machines that
    ranks are spread over; empty: this one. All of it comes from configuration, never from a request. ``oversubscribe``:
    more ranks than cores are no mistake.
    """

    max_ranks: int = 0
    launcher: str = ""
    hosts: tuple[str, ...] = ()
    oversubscribe: bool = False


MPI_OFF = MpiConfig()


@dataclass(frozen=True, slots=True)
class TiledConfig:
    """``memory_bytes``: resident bytes of all processes of one run together.

    ``scratch`` holds a folder for each task; those that were left alone for ``kept_s`` seconds are removed, and the
    oldest ones where all together have more than ``scratch_bytes``. ``cores``: of this machine, for threads or ranks.
    """

    scratch: Path
    scratch_bytes: int = 100_000_000_000
    memory_bytes: int = 2_000_000_000
    kept_s: float = KEPT_S
    cores: int = 1
    mpi: MpiConfig = MPI_OFF
