"""`pixelmill backup` and `pixelmill restore`: the state of a service to one file, and back."""

from __future__ import annotations

import asyncio
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.state import Globals

if TYPE_CHECKING:
    from pixelmill.service.backup import Manifest
    from pixelmill.service.settings import ServiceConfig

DataOption = Annotated[str | None, typer.Option(help="The service's data folder.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
]


def backup(
    context: typer.Context,
    target: Annotated[Path, typer.Argument(metavar="DEST", help="File to write, or a folder for one named by time.")],
    data: DataOption = None,
    objects: Annotated[
        bool, typer.Option("--objects", help="Inputs and results too, where the store is a folder.")
    ] = False,
    assignments: SetOption = None,
) -> None:
    """Write the state of a service to a file.

    The service may run meanwhile. The file holds the database at one moment, and the secrets of the data folder: keep
    it as safe as that. With the state in PostgreSQL it prints the commands to run instead.
    """
    config = _config(context, data, assignments)
    _refuse_postgresql(config, target, "backup")
    from pixelmill.service.backup import write_backup

    if target.is_dir():
        target /= time.strftime("pixelmill-%Y%m%d-%H%M%SZ.tar", time.gmtime())
    _say(f"{target} holds", asyncio.run(write_backup(config, target, objects=objects)))


def restore(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(metavar="SOURCE", help="File that `pixelmill backup` wrote.")],
    data: DataOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the state that is there; it is kept aside.")] = False,
    assignments: SetOption = None,
) -> None:
    """Make a backup the state of a data folder.

    The folder must be empty, and no service may use it. The service that starts there next looks for results that the
    backup did not know yet, and queues again what has none.
    """
    config = _config(context, data, assignments)
    _refuse_postgresql(config, source, "restore")
    from pixelmill.service.restore import restore_backup

    _say(f"{config.data} holds", asyncio.run(restore_backup(config, source, force=force)))


def _config(context: typer.Context, data: str | None, assignments: list[str] | None) -> ServiceConfig:
    from pixelmill.cli.settings import service_config

    options: Globals = context.obj
    return service_config(options.settings(assignments or (), data=data))


def _refuse_postgresql(config: ServiceConfig, file: Path, verb: str) -> None:
    """Raise :class:`ConfigError` with the commands of PostgreSQL's own tools; they ask for the password."""
    from pixelmill.errors import ConfigError
    from pixelmill.service.backup import SMALL_FILES, sqlite_file

    if sqlite_file(config) is not None:
        return
    from pixelmill.jobs.connections import parse_url

    url = parse_url(config.database_url)
    url = url.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    address = shlex.quote(f"--dbname={url.render_as_string()}")
    commands = {
        "backup": f"pg_dump --format=custom --file={shlex.quote(str(file))} {address}",
        "restore": f"pg_restore --clean --if-exists --single-transaction {address} {shlex.quote(str(file))}",
    }
    files = " and ".join(str(config.data / name) for name in SMALL_FILES)
    raise ConfigError(
        f"The state is in PostgreSQL, whose own tools {'copy' if verb == 'backup' else 'restore'} it. Run\n\n"
        f"    {commands[verb]}\n\n"
        f"with the password in PGPASSWORD or ~/.pgpass{', and no service running' if verb == 'restore' else ''}; "
        f"{files}, where they exist, are files of their own to copy. See docs/operating.md.",
        setting="database_url",
    )


def _say(what: str, manifest: Manifest) -> None:
    counts = ", ".join(f"{count:,} {name}" for name, count in manifest.counts.items())
    print(f"{what} {counts}; schema {manifest.schema}, version {manifest.version}, of {manifest.at}.")
    if manifest.objects is not None:
        print(f"With {manifest.objects.count:,} objects of {manifest.objects.bytes:,} bytes.")
    else:
        print("Inputs and results are not in it; see docs/operating.md.", file=sys.stderr)
