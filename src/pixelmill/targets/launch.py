"""How the processes of a run over tiles are started: one with threads, or ``mpirun`` with its ranks.

Hosts and programs come from configuration. It starts nothing itself.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from pixelmill.errors import ConfigError, LimitExceeded, MissingExtra
from pixelmill.targets.tiled_settings import MpiConfig

MODULE = "pixelmill.targets.tiled_job"
HINT = 'pip install "pixelmill[mpi]"'


def command(ranks: int, config: MpiConfig) -> list[str]:
    """The command line of a run; ``ranks`` 0 is one process without MPI.

    Raises :class:`MissingExtra` where there is no MPI.
    """
    if not ranks:
        return [sys.executable, "-m", MODULE]
    hosts = ["-hosts", ",".join(config.hosts)] if config.hosts else []
    # Without -m mpi4py an exception on one rank would leave the others waiting for ever.
    job = [sys.executable, "-m", "mpi4py", "-m", MODULE, "--mpi"]
    return [launcher(config), *_library(config), *hosts, "-n", str(ranks), *job]


def launcher(config: MpiConfig) -> str:
    """The program that starts ranks; raises :class:`MissingExtra`, :class:`ConfigError` for one that is not there."""
    if config.launcher:
        found = shutil.which(config.launcher)
        if found is None:
            raise ConfigError(
                f"mpi_launcher={config.launcher!r} is no program. Set it with PIXELMILL_MPI_LAUNCHER.",
                setting="mpi_launcher",
            )
        return found
    found = _of_wheel("mpirun") or shutil.which("mpirun")
    if found is None or importlib.util.find_spec("mpi4py") is None:
        raise MissingExtra(f"Running over MPI ranks needs mpi4py and an MPI: {HINT}", extra="mpi")
    return found


def _of_wheel(name: str) -> str | None:
    """A file that the wheel of MPICH has brought."""
    try:
        files = importlib.metadata.files("mpich") or ()
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if file.name == name]
    return next((os.path.normpath(path) for path in found if path.is_file()), None)


def _library(config: MpiConfig) -> list[str]:
    """Ranks that the wheel's program starts use the wheel's library, whatever else is installed."""
    library = None if config.launcher else _of_wheel("libmpi.so.12")
    return [] if library is None else ["-genv", "MPI4PY_LIBMPI", library]


def ranks_here(wanted: int, config: MpiConfig, cores: int) -> int:
    """How many ranks a machine gives to who wants so many: never more than it may, or than there are cores."""
    room = cores * max(1, len(config.hosts))
    return min(wanted, config.max_ranks, wanted if config.oversubscribe else room)


def check_ranks(wanted: int, config: MpiConfig, cores: int) -> None:
    """Raise :class:`LimitExceeded` for more ranks than cores, where nobody said that this is meant."""
    room = cores * max(1, len(config.hosts))
    if wanted > room and not config.oversubscribe:
        raise LimitExceeded(
            f"{wanted} MPI ranks on {room} cores would only wait for each other. Ask for {room}, or set "
            "mpi_oversubscribe=true.",
            limit="ranks",
            value=wanted,
            maximum=room,
        )
