"""Settings as the records that the parts take, and `pixelmill config show`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.state import Globals
from pixelmill.config import TABLE, Settings

if TYPE_CHECKING:
    from pathlib import Path

    from pixelmill.api.settings import ApiSettings
    from pixelmill.fleet.overflow_settings import OverflowConfig
    from pixelmill.images.limits import Limits, TiledLimits
    from pixelmill.models.sessions import Sessions
    from pixelmill.pipelines.presets import Presets
    from pixelmill.service.settings import ServiceConfig, TelemetryConfig
    from pixelmill.targets.modelling import PoolModels
    from pixelmill.targets.tiled_settings import MpiConfig

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


def limits(settings: Settings) -> Limits:
    """Bounds on images."""
    from pixelmill.images.limits import Limits

    return Limits(settings["max_bytes"], settings["max_pixels"], settings["max_side"])


def presets(settings: Settings) -> Presets:
    """The built-in presets and the user's; raises :class:`ConfigError` with file and preset where one is wrong."""
    from pixelmill.errors import ConfigError, PipelineError
    from pixelmill.pipelines.forms import expansion
    from pixelmill.pipelines.presets import BUILT_IN

    name = ""
    try:
        known = BUILT_IN.with_users(settings.presets)
        for name in settings.presets:
            expansion(name, known)
    except PipelineError as error:
        where = f"the preset {name}: " if name else ""
        raise ConfigError(f"{settings.file}: {where}{error.detail}", setting="presets", preset=name) from error
    return known


def service_config(settings: Settings, role: str = "service") -> ServiceConfig:
    """What the service needs; ``role`` is what telemetry calls this process."""
    from pixelmill.service.settings import ServiceConfig

    return ServiceConfig(
        data=settings["data"],
        database_url=settings["database_url"],
        queue_url=settings["queue_url"],
        azure_connection=settings["azure_connection"],
        events_url=settings["events_url"],
        local_work=settings["local_work"],
        lease_s=settings["lease"],
        metrics_port=settings["metrics_port"],
        workers=settings["workers"],
        source_roots=settings["source_roots"],
        fonts=settings["fonts"],
        models=settings["models"],
        allow_pickle=settings["allow_pickle"],
        models_warm=settings["models_warm"],
        models_idle_s=settings["models_idle"],
        model_slots=settings["model_slots"],
        model_process=settings["model_process"],
        limits=limits(settings),
        timeout_s=settings["timeout"],
        memory_bytes=settings["memory"],
        recycle_after=settings["recycle_after"],
        max_attempts=settings["max_attempts"],
        interactive_wait_s=settings["interactive_wait"],
        max_waiting=settings["max_waiting"],
        max_queued=settings["max_queued"],
        upload_ttl_s=settings["upload_ttl"],
        retention_s=settings["retention"],
        drain_s=settings["drain"],
        synchronous=settings["synchronous"],
        gate=settings["gate"],
        joined_gate=settings["joined_gate"],
        overflow=overflow_config(settings),
        store=settings["store"],
        store_options=settings["store_options"],
        stores=settings["stores"],
        link_keys=settings["link_keys"],
        redis_url=settings["redis_url"],
        redis_prefix=settings["redis_prefix"],
        webhook_allow_private=settings["webhook_allow_private"],
        telemetry=telemetry_config(settings, os.environ, role),
        tiled=tiled_limits(settings),
        tiled_memory=settings["tiled_memory"],
        scratch=settings["scratch"],
        scratch_bytes=settings["scratch_bytes"],
        mpi=mpi_config(settings),
    )


def tiled_limits(settings: Settings) -> TiledLimits | None:
    """Bounds on images that are run in tiles by a service, None where it refuses them."""
    from pixelmill.images.limits import TiledLimits

    if not settings["tiled_max_bytes"]:
        return None
    return TiledLimits(*(settings[f"tiled_{name}"] for name in ("max_bytes", "max_pixels", "max_side", "timeout")))


def mpi_config(settings: Settings) -> MpiConfig:
    """How MPI ranks are started."""
    from pixelmill.targets.tiled_settings import MpiConfig

    return MpiConfig(
        settings["mpi_max_ranks"], settings["mpi_launcher"], settings["mpi_hosts"], settings["mpi_oversubscribe"]
    )


def telemetry_config(settings: Settings, environ: Mapping[str, str], role: str) -> TelemetryConfig:
    """Where spans and metrics go: ``otel_endpoint``, else the standard ``OTEL_*`` variables.

    Headers, certificates and compression of ``OTEL_EXPORTER_OTLP_*``, and the name of ``OTEL_SERVICE_NAME``, are read
    by OpenTelemetry itself.
    """
    from pixelmill.errors import ConfigError
    from pixelmill.service.settings import TelemetryConfig

    ratio = settings["trace_sample"] / 100
    if environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return TelemetryConfig(ratio=ratio)
    own: str = settings["otel_endpoint"]
    if own and not own.startswith(("http://", "https://")):
        raise ConfigError(
            f"otel_endpoint={own[:80]!r} is not the address of a collector, such as http://collector:4318 (OTLP over "
            "HTTP). Set it with PIXELMILL_OTEL_ENDPOINT.",
            setting="otel_endpoint",
        )
    base = (own or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT", "")).rstrip("/")
    where = {}
    for signal in ("traces", "metrics"):
        named = environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT", "")
        wanted = environ.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip().lower() != "none"
        where[signal] = (named or (f"{base}/v1/{signal}" if base else "")) if wanted else ""
    every_ms = environ.get("OTEL_METRIC_EXPORT_INTERVAL", "")
    every_s = int(every_ms) / 1000 if every_ms.isdecimal() else 60.0
    return TelemetryConfig(
        where["traces"], where["metrics"], ratio=ratio, metrics_every_s=max(1.0, every_s), role=role, needed=bool(own)
    )


def models_folder(settings: Settings) -> Path:
    """Where the weights of learned operations lie."""
    folder: Path = settings["models"] or settings["data"] / "models"
    return folder


def pool_models(settings: Settings, *, paths: bool = False) -> PoolModels:
    """The same for the processes of a pool. ``paths``: pipelines come from the user of this command alone."""
    from pixelmill.targets.modelling import PoolModels

    return PoolModels(
        models_folder(settings),
        paths,
        shared=settings["model_process"] == "shared",
        slots=settings["model_slots"],
        idle_s=settings["models_idle"],
        allow_pickle=settings["allow_pickle"],
    )


def node_models(settings: Settings) -> PoolModels:
    """The same for a node, which stays."""
    from pixelmill.service.settings import resident_models

    return resident_models(
        models_folder(settings),
        warm=settings["models_warm"],
        idle_s=settings["models_idle"],
        slots=settings["model_slots"],
        shared=settings["model_process"] == "shared",
        allow_pickle=settings["allow_pickle"],
    )


def own_models(settings: Settings) -> Sessions:
    """Models in this process."""
    from pixelmill.models.blip import prepare_process
    from pixelmill.models.folder import ModelFolder
    from pixelmill.models.sessions import Sessions

    prepare_process()
    return Sessions(ModelFolder(models_folder(settings), allow_pickle=settings["allow_pickle"]))


def overflow_config(settings: Settings) -> OverflowConfig:
    """Where work goes that our own machines can't take, and what that may cost."""
    from pixelmill.fleet.overflow_settings import OverflowConfig, check_budgets, overflow_targets
    from pixelmill.jobs.model import Priority

    targets = overflow_targets(settings["overflow"], settings["timeout"])
    budgets = check_budgets(targets, {period: settings[f"overflow_budget_{period}"] for period in ("hour", "day")})
    patience = {priority: settings[f"overflow_after_{priority.value}"] for priority in Priority}
    latency_s = {priority: seconds for priority, seconds in patience.items() if seconds is not None}
    return OverflowConfig(targets, budgets, settings["overflow_order"], latency_s)


def api_settings(settings: Settings) -> ApiSettings:
    """What the REST edge needs."""
    from pixelmill.api.settings import ApiSettings

    return ApiSettings(
        host=settings["host"],
        port=settings["port"],
        insecure=settings["insecure"],
        require_tokens=settings["require_tokens"],
        allowed_hosts=settings["allowed_hosts"],
        trusted_proxies=settings["trusted_proxies"],
        link_hosts=settings["link_hosts"],
        link_private=settings["link_private"],
        drain_s=settings["drain"],
        presets=presets(settings),
    )


@app.callback()
def _group() -> None:
    """Keep `config` a group though it has one command."""


@app.command()
def show(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Show every setting, its value, and where that came from."""
    options: Globals = context.obj
    settings = options.settings(assignments or ())
    shown = {row.name: {"value": row.show(settings[row.name]), "source": settings.sources[row.name]} for row in TABLE}
    if as_json:
        print(json.dumps(shown, indent=2))
        return
    width = max(map(len, shown))
    values = max(len(entry["value"]) for entry in shown.values())
    for name, entry in shown.items():
        print(f"{name:{width}}  {entry['value']:{values}}  {entry['source']}")
