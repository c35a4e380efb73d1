"""`pixelmill reconcile`: put state right after events were lost; the service and its workers may run meanwhile."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.state import Globals

if TYPE_CHECKING:
    from pixelmill.config import Settings
    from pixelmill.service.reconcile import Rebuilt


def reconcile(
    context: typer.Context,
    data: Annotated[str | None, typer.Option(help="The service's data folder.")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Rebuild the state of jobs.

    A task whose result is stored has ended, whatever is recorded of it; one that nobody attends to is queued again. A
    service does this by itself when it starts and when Redis was lost; running it again changes nothing. With a queue
    elsewhere (Azure, SQS, RabbitMQ) every task that was sent to it and has no result is sent again: where its message
    was not lost it runs twice, and its first result stands.
    """
    options: Globals = context.obj
    done = asyncio.run(_run(options.settings(assignments or (), data=data)))
    print(f"{done.looked_at:,} tasks looked at, {done.ended:,} ends recorded, {done.requeued:,} queued again.")


async def _run(settings: Settings) -> Rebuilt:
    from pixelmill.cli.settings import service_config
    from pixelmill.service.parts import Parts
    from pixelmill.service.reconcile import Reconcile

    parts = Parts(service_config(settings))  # neither started nor locked
    await parts.database.open()
    try:
        return await Reconcile(parts.jobs, parts.store, parts.recorder.emit).run(
            thorough=True, resend=True, progress=_show
        )
    finally:
        await parts.database.close()


def _show(done: Rebuilt) -> None:
    if sys.stderr.isatty():
        print(f"\r{done.looked_at:,} tasks looked at", end="", file=sys.stderr, flush=True)
