"""Frozen settings of one service process; ``config.py`` fills them from flags, variables and the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pixelmill.cores import usable_cores
from pixelmill.events.redis_client import PREFIX
from pixelmill.fleet.overflow_settings import OverflowConfig
from pixelmill.images.limits import Limits, TiledLimits
from pixelmill.storage.options import StoreSpec
from pixelmill.targets.modelling import PoolModels
from pixelmill.targets.tiled_settings import MPI_OFF, MpiConfig, TiledConfig
from pixelmill.targets.warming import FILE, LAST


@dataclass(frozen=True, slots=True)
class TelemetryConfig:
    """Where spans and metrics go: whole URLs, empty for what is not sent.

    ``ratio``: the share of new traces that is kept. ``needed``: without the SDK it is an error, else a warning.
    """

    traces: str = ""
    metrics: str = ""
    ratio: float = 1.0
    metrics_every_s: float = 60.0
    role: str = "service"
    needed: bool = False


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What a service needs to know. Times are seconds, sizes bytes.

    ``workers``: pool processes for queued work, 0 means one a core; one more is kept for interactive work. ``fonts``:
    the folder whose font files pipelines may name, ``models``: that of the weights of learned operations (None:
    ``models`` in ``data``), ``allow_pickle``: whether checkpoints there may be pickles. ``models_warm``: those that
    are loaded at the start (``last``: those used last). ``model_slots``: tasks that want them at once, 0 means one for
    two cores and one more. ``model_process``: ``shared`` by all of this user, or ``private``; it ends when it was idle
    for ``models_idle_s`` (None: never). ``max_queued``: tasks that may wait, all owners together.
    ``synchronous``: SQLite's, ``NORMAL`` survives the death of the process, ``FULL`` that of the machine.
    ``redis_url``: what services of a fleet share; empty: this one is alone. ``redis_prefix``: of its
    keys there, one an installation. ``webhook_allow_private``: webhooks may go
    to private and loopback addresses. ``telemetry``: where spans and metrics go.
    ``database_url``: empty is SQLite in ``data``. ``queue_url``: see ``backends.py``. ``local_work``: queued tasks run
    in this process too, not only on workers. ``lease_s``: so long after the death of its worker a task is given to
    another one. ``gate``: the rule for the own pool, ``joined_gate`` for nodes that ask for none
    (``fleet/gates.py``). ``store``: see ``open_store``; empty is ``objects`` in ``data``. ``stores``: buckets that jobs
    may name as sources. ``link_keys``: see ``signing.py``. ``tiled``: bounds of images that are too large for
    ``limits``; None: they are refused. ``tiled_memory``: of all processes of a run over tiles together. ``scratch``:
    where such runs keep what they have written (None: ``scratch`` in ``data``), ``scratch_bytes`` in all at most.
    ``mpi``: how ranks are started, and how many.
    """

    data: Path
    database_url: str = field(default="", repr=False)
    queue_url: str = field(default="sql:", repr=False)
    azure_connection: str = field(default="", repr=False)
    events_url: str = ""
    local_work: bool = True
    lease_s: float = 60.0
    metrics_port: int = 0
    workers: int = 0
    source_roots: tuple[Path, ...] = ()
    fonts: Path | None = None
    models: Path | None = None
    allow_pickle: bool = False
    models_warm: tuple[str, ...] = ("last",)
    models_idle_s: float | None = 900.0
    model_slots: int = 0
    model_process: str = "shared"
    limits: Limits = field(default_factory=Limits)
    timeout_s: float = 60.0
    memory_bytes: int = 1_000_000_000
    recycle_after: int = 1_000
    max_attempts: int = 3
    interactive_wait_s: float = 10.0
    max_waiting: int = 10_000
    max_queued: int = 5_000_000
    upload_ttl_s: float = 24 * 3600.0
    retention_s: float = 7 * 24 * 3600.0
    drain_s: float = 30.0
    synchronous: str = "NORMAL"
    gate: str = "auto"
    joined_gate: str = "threshold"
    overflow: OverflowConfig = field(default_factory=OverflowConfig)
    store: str = ""
    store_options: Mapping[str, str] = field(default_factory=dict, repr=False)
    stores: Mapping[str, StoreSpec] = field(default_factory=dict)
    link_keys: str = field(default="", repr=False)
    redis_url: str = field(default="", repr=False)
    redis_prefix: str = PREFIX
    webhook_allow_private: bool = False
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig, repr=False)
    tiled: TiledLimits | None = None
    tiled_memory: int = 2_000_000_000
    scratch: Path | None = None
    scratch_bytes: int = 100_000_000_000
    mpi: MpiConfig = MPI_OFF

    @property
    def models_folder(self) -> Path:
        """Where the weights of learned operations lie."""
        return self.models or self.data / "models"

    @property
    def max_upload(self) -> int:
        """Bytes of the largest file that is taken in for a job: those that are run in tiles may be larger."""
        return max(self.limits.max_bytes, 0 if self.tiled is None else self.tiled.max_bytes)

    @property
    def tiled_config(self) -> TiledConfig:
        """What a machine needs to know to run tasks over tiles."""
        return TiledConfig(
            self.scratch or self.data / "scratch",
            self.scratch_bytes,
            self.tiled_memory,
            cores=usable_cores(),
            mpi=self.mpi,
        )

    @property
    def pool_models(self) -> PoolModels:
        """What a pool is told of them."""
        return resident_models(
            self.models_folder,
            warm=self.models_warm,
            idle_s=self.models_idle_s,
            slots=self.model_slots,
            shared=self.model_process == "shared",
            allow_pickle=self.allow_pickle,
        )


def resident_models(
    folder: Path, *, warm: Sequence[str], idle_s: float | None, slots: int, shared: bool, allow_pickle: bool = False
) -> PoolModels:
    """Learned models of a process that stays: it loads some at its start, and remembers which ones were used."""
    return PoolModels(
        folder,
        slots=slots,
        shared=shared,
        idle_s=idle_s,
        warm=tuple(name for name in warm if name not in {LAST, "none"}),
        remembered=folder / FILE if LAST in warm else None,
        allow_pickle=allow_pickle,
    )
