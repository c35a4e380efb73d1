"""`pixelmill worker`: runs queued tasks on this machine, until SIGTERM or Ctrl-C drains it."""

from __future__ import annotations

from typing import Annotated

import typer

from pixelmill.cli.state import Globals


def worker(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="Folder of objects, shared with the service.")] = None,
    workers: Annotated[str | None, typer.Option(help="Pool processes; 0 is one a core.")] = None,
    queue: Annotated[
        str | None, typer.Option(help="Queue: sql:, azure:PREFIX, sqs:PREFIX, or amqp://… (Celery).")
    ] = None,
    events: Annotated[str | None, typer.Option(help="Where events go without a database: queue:.")] = None,
    overflow: Annotated[
        bool, typer.Option("--overflow", help="Run tasks on the [[overflow]] targets, when own workers take none.")
    ] = False,
    gate: Annotated[str | None, typer.Option(help="auto, threshold[-CPU[-RAM]] or lowest-cpu-CPU.")] = None,
    drain_s: Annotated[str | None, typer.Option(help="How long running tasks may take to end on SIGTERM.")] = None,
    metrics_port: Annotated[
        str | None, typer.Option(help="Port on loopback for /metrics and /healthz; 0 is none.")
    ] = None,
    source_root: Annotated[
        list[str] | None, typer.Option(help="Folder whose files tasks may name as file:// sources (repeatable).")
    ] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Run queued tasks on this machine.

    Any number of workers share the work. With the queue in the database (sql:) they need `database_url`; with a queue
    of a cloud they need no database. The folder of objects is the service's. With --overflow nothing runs here: tasks
    that wait too long, or that no worker takes, go to the serverless targets of the settings, within their budget.
    """
    options: Globals = context.obj
    settings = options.settings(
        assignments or (),
        data=data,
        workers=workers,
        queue_url=queue,
        events_url=events,
        gate=gate,
        drain=drain_s,
        metrics_port=metrics_port,
        source_roots=source_root,
        log_level=log_level,
        log_format=log_format,
    )
    import asyncio

    from pixelmill import logs
    from pixelmill.cli.settings import service_config
    from pixelmill.service.worker import Place, run_worker

    logs.configure(settings["log_level"], settings["log_format"])
    config = service_config(settings, "worker")
    place: Place | None = None
    if overflow:
        from pixelmill.service.overflow_worker import OverflowPlace

        place = OverflowPlace(config)
    asyncio.run(run_worker(config, place))
