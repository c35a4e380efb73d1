"""`pixelmill serve`: the service in this process, until SIGTERM or Ctrl-C drains it."""

from __future__ import annotations

from typing import Annotated

import typer

from pixelmill.cli.state import Globals


def serve(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on; any but loopback needs tokens.")] = None,
    port: Annotated[str | None, typer.Option(help="Port to listen on; 0 takes a free one.")] = None,
    data: Annotated[str | None, typer.Option(help="Folder of database and objects.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where inputs and results lie: a folder, s3://…, gs://… or az://….")
    ] = None,
    workers: Annotated[str | None, typer.Option(help="Pool processes for batch work; 0 is one a core.")] = None,
    source_root: Annotated[
        list[str] | None, typer.Option(help="Folder whose files jobs may name as file:// sources (repeatable).")
    ] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Serve other addresses without tokens.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    gate: Annotated[
        str | None, typer.Option(help="When this machine takes tasks: auto, threshold[-CPU-RAM], lowest-cpu-CPU.")
    ] = None,
    timeout: Annotated[str | None, typer.Option(help="Time limit of a task, such as 90s.")] = None,
    triggers: Annotated[
        str | None, typer.Option(help="File of rules that run a pipeline when an object appears.")
    ] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Start the service: REST, jobs, pages.

    `pixelmill config show` lists all settings; those without an option of their own are set with --set NAME=VALUE, by
    PIXELMILL_* variables, or in pixelmill.toml.
    """
    options: Globals = context.obj
    settings = options.settings(
        assignments or (),
        host=host,
        port=port,
        data=data,
        store=store,
        workers=workers,
        source_roots=source_root,
        insecure=insecure,
        log_level=log_level,
        log_format=log_format,
        timeout=timeout,
        gate=gate,
        triggers=triggers,
    )
    from pixelmill import logs
    from pixelmill.api.server import run
    from pixelmill.cli.settings import api_settings, service_config
    from pixelmill.service import Service
    from pixelmill.triggers.runtime import Triggers

    logs.configure(settings["log_level"], settings["log_format"])
    service, edge = Service(service_config(settings)), api_settings(settings)
    run(
        service,
        edge,
        triggers=Triggers(service, settings["triggers"], presets=edge.presets, on_loopback=edge.on_loopback),
    )
