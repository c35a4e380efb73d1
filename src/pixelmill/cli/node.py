"""`pixelmill node`: this machine works for a hub (`--join URL`), or for whoever sends it images (without)."""

from __future__ import annotations

import os
import signal
import socket
import sys
from typing import TYPE_CHECKING, Annotated, cast

import typer

from pixelmill.cli.state import Globals

if TYPE_CHECKING:
    from pixelmill.config import Settings

EVENTS_A_CORE = 4
"""Events worked on at once, a pool process: most of their time they wait for the store."""
EVERYWHERE = "0.0.0.0"  # noqa: S104 - only where the platform gives a port, and tokens are asked for as in serve


def node(
    context: typer.Context,
    join: Annotated[str | None, typer.Option(help="Hub to work for, such as https://hub.example.org.")] = None,
    token: Annotated[
        str | None, typer.Option(help="With --join: shown to the hub. Without: what callers must show.")
    ] = None,
    gate: Annotated[
        str | None, typer.Option(help="When to take tasks: auto, threshold[-CPU[-RAM]], lowest-cpu-CPU.")
    ] = None,
    dedicated: Annotated[bool, typer.Option("--dedicated", help="The machine is ours alone: --gate auto.")] = False,
    name: Annotated[str | None, typer.Option(help="Name of this node (default: the host's).")] = None,
    workers: Annotated[str | None, typer.Option(help="Pool processes; 0 is one a core.")] = None,
    host: Annotated[str | None, typer.Option(help="Without --join: address to listen on.")] = None,
    port: Annotated[str | None, typer.Option(help="Without --join: port (default: variable PORT, or 8080).")] = None,
    insecure: Annotated[bool | None, typer.Option("--insecure", help="Without --join: ask for no token.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    log_format: Annotated[str | None, typer.Option(help="auto, console or json.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Work for a hub, or for whoever sends images.

    With --join URL it opens one connection to that service, tells its load each second, runs the tasks that come over
    it, and opens it again when it breaks; the hub never dials. SIGTERM lets running tasks end. The token needs the
    scope `node`.

    Without --join it is a container for Cloud Run, Container Apps, Knative and the like: POST /v1/process, /healthz,
    /readyz and /v1/load, without a database or a data folder. With the variables PIPELINE and OUTPUT_BUCKET (or
    TRIGGERS, a rules file) it takes events of object stores too, at /v1/events and /: see docs/functions.md.
    """
    options: Globals = context.obj
    settings = options.settings(
        assignments or (),
        join=join,
        token=token,
        gate="auto" if dedicated and gate is None else gate,
        node_name=name,
        workers=workers,
        host=host,
        port=port,
        insecure=insecure,
        log_level=log_level,
        log_format=log_format,
    )
    from pixelmill import logs

    logs.configure(settings["log_level"], settings["log_format"])
    if settings["join"]:
        _work_for_hub(settings)
    else:
        _listen(settings)


def _work_for_hub(settings: Settings) -> None:
    import asyncio
    import re

    import uvloop

    from pixelmill.cli.settings import models_folder, node_models, telemetry_config
    from pixelmill.cores import usable_cores
    from pixelmill.fleet.gates import gate_named
    from pixelmill.fleet.samplers import sampler_for
    from pixelmill.service.about import library_versions, machine_extras
    from pixelmill.service.joining import JoinConfig, NodeAgent
    from pixelmill.service.telemetry import Telemetry
    from pixelmill.targets.local import LocalPool

    gate = "" if settings.sources["gate"] == "default" else settings["gate"]
    gate_named(gate or "auto")  # a mistake is told here, not by the hub
    cores = usable_cores()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", settings["node_name"] or socket.gethostname())
    config = JoinConfig(
        url=settings["join"],
        token=settings["token"],
        name=name.strip("-._")[:64] or "node",
        cores=cores,
        memory_bytes=settings["memory"],
        gate=gate,
        extras=machine_extras(models_folder(settings), allow_pickle=settings["allow_pickle"]),
        libraries=tuple(library_versions().items()),
        drain_s=settings["drain"],
    )
    telemetry = Telemetry(telemetry_config(settings, os.environ, "node"), None)
    pool = LocalPool(
        workers=settings["workers"] or cores,
        memory_bytes=settings["memory"],
        recycle_after=settings["recycle_after"],
        models=node_models(settings),
    )

    async def work() -> None:
        agent = NodeAgent(config, pool, sampler_for(pool.processes), _say)
        loop = asyncio.get_running_loop()

        def drain() -> None:
            for number in (signal.SIGTERM, signal.SIGINT):  # the second one ends the process
                loop.remove_signal_handler(number)
            agent.drain()

        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, drain)
        telemetry.start()
        try:
            await agent.run()
        finally:
            await telemetry.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work())


def _listen(settings: Settings) -> None:
    from dataclasses import replace

    from pixelmill.api.app import CONTAINER
    from pixelmill.api.server import run
    from pixelmill.cli.settings import api_settings, service_config
    from pixelmill.cores import usable_cores
    from pixelmill.functions.settings import settings_of
    from pixelmill.service import Service
    from pixelmill.service.stateless import Stateless

    api = api_settings(settings)
    given = os.environ.get("PORT", "")
    if given.isdecimal() and settings.sources["port"] == "default":
        api = replace(api, port=int(given))
        if settings.sources["host"] == "default":
            api = replace(api, host=EVERYWHERE)  # a platform that gives the port comes from outside
    config = service_config(settings, "node")
    container, events = Stateless(config, settings["token"]), None
    given_to_function = settings_of(os.environ, config.limits)
    if given_to_function.takes_events:
        from pixelmill.functions.container import Immediate

        events = Immediate(
            given_to_function,
            container,
            concurrent=EVENTS_A_CORE * (config.workers or usable_cores()),
            token=settings["token"],
            open_to_all=not api.tokens_needed,
        )
    # It has the verbs that these routes ask for.
    run(cast("Service", container), api, resources=CONTAINER, triggers=events)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
