"""`pixelmill models`: the weights of learned operations: which there are, what is here, fetch, check, remove."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.cli.state import Globals

if TYPE_CHECKING:
    from pixelmill.config import Settings
    from pixelmill.models.folder import ModelFolder
    from pixelmill.models.registry import Entry

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Assignments = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
]
Folder = Annotated[Path | None, typer.Option("--models", help="The models folder, instead of the configured one.")]
Names = Annotated[list[str], typer.Argument(metavar="NAME", help="Models, as `pixelmill models list` has them.")]
_WORDS = {"here": "the sum is right", "missing": "not here", "wrong": "THE SUM IS WRONG: pull it with --force"}
_WORDS_WITHOUT_SUMS = {
    "here": "whole, and as it was at the last look (the registry has no sum of it)",
    "missing": "not here",
    "wrong": "DAMAGED, OR CHANGED SINCE THE LAST LOOK: pull it with --force",
}
_SIGNS = {"here": "here", "missing": "", "wrong": "DAMAGED"}


@app.command("list")
def list_models(
    context: typer.Context,
    models: Folder = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON array.")] = False,
    assignments: Assignments = None,
) -> None:
    """List the known models, and checkpoints of your own in the models folder."""
    from pixelmill.cli.tables import print_table

    _, folder = _opened(context, models, assignments)
    records = [_record(folder, entry) for entry in folder.registry.values()]
    own = [path.name if path.is_dir() else path.stem for path in folder.own()]
    if as_json:
        print(json.dumps([*records, *({"name": name, "state": "here", "own": True} for name in own)], indent=2))
        return
    rows = [
        (
            record["name"],
            _SIGNS[record["state"]],
            record["task"],
            f"{record['size'] / 1e6:,.1f} MB",
            f"{record['memory'] / 1e6:,.0f} MB",
            record["licence"] + ("" if record["commercial"] else " (not commercial)"),
            record["origin"],
        )
        for record in records
    ]
    rows += [(name, "here", "yours", "", "", "", "") for name in own]
    print_table(("model", "", "task", "file", "memory", "licence", "made by"), rows)
    print(f"`pixelmill models pull NAME` brings one into {folder.path}.")


@app.command()
def pull(
    context: typer.Context,
    names: Names,
    models: Folder = None,
    force: Annotated[bool, typer.Option("--force", help="Fetch them anew, though they are here.")] = False,
    place: Annotated[
        str, typer.Option("--from", metavar="PLACE", help="A folder, or its URL, that has the files: a mirror.")
    ] = "",
    progress: Annotated[bool | None, typer.Option(help="Draw a progress bar, or not (default: on a terminal).")] = None,
    assignments: Assignments = None,
) -> None:
    """Fetch weights: goes on where it stopped, checks the sum, and leaves nothing half done."""
    from pixelmill.cli.progress import Transfer, is_shown
    from pixelmill.models.pull import pull as fetch
    from pixelmill.models.registry import entry_named

    settings, folder = _opened(context, models, assignments)
    entries = [entry_named(name, folder.registry) for name in names]
    for entry in entries:
        with Transfer(shown=is_shown(progress)) as bar:
            fetched = fetch(entry, folder, offline=settings["offline"], force=force, place=place, progress=bar.update)
        print(f"{entry.name}: {f'fetched into {folder.path}' if fetched else f'is in {folder.path} already'}")


@app.command()
def verify(
    context: typer.Context,
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]", help="Models; by default all here.")] = None,
    models: Folder = None,
    assignments: Assignments = None,
) -> None:
    """Compute the sums of weights that are here, and compare them. Exit code 1 if any is wrong or missing."""
    _, folder = _opened(context, models, assignments)
    asked = [_entry(folder, name) for name in names or ()]
    here = [entry for entry in folder.registry.values() if folder.state(entry) != "missing"]
    bad = 0
    for entry in asked or here:
        state = folder.state(entry, check=True)
        bad += state != "here"
        print(f"{entry.name}: {(_WORDS if entry.files[0].digest else _WORDS_WITHOUT_SUMS)[state]}")
    if not asked and not here:
        print(f"No model of the registry is in {folder.path}.")
    if bad:
        raise typer.Exit(1)


@app.command()
def path(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="A model; by default the folder itself.")] = None,
    models: Folder = None,
    assignments: Assignments = None,
) -> None:
    """Print the models folder, or where the weights of a model lie in it."""
    _, folder = _opened(context, models, assignments)
    print(folder.path if name is None else folder.own_named(name) or folder.path / _entry(folder, name).place)


@app.command()
def remove(context: typer.Context, names: Names, models: Folder = None, assignments: Assignments = None) -> None:
    """Delete weights from the models folder. Files that another model here needs stay."""
    _, folder = _opened(context, models, assignments)
    for entry in [_entry(folder, name) for name in names]:
        gone = folder.remove(entry)
        print(f"{entry.name}: {f'{gone / 1e6:,.1f} MB deleted' if gone else 'was not here'}")


def _opened(context: typer.Context, models: Path | None, assignments: list[str] | None) -> tuple[Settings, ModelFolder]:
    from pixelmill.cli.settings import models_folder
    from pixelmill.models.folder import ModelFolder

    options: Globals = context.obj
    settings = options.settings(assignments or (), models=None if models is None else str(models))
    return settings, ModelFolder(models_folder(settings), allow_pickle=settings["allow_pickle"])


def _entry(folder: ModelFolder, name: str) -> Entry:
    """The row of that name; raises :class:`InvalidParameter` for none, and for a checkpoint of the user's own."""
    from pixelmill.errors import InvalidParameter
    from pixelmill.models.registry import entry_named

    own = folder.own_named(name)
    if own is not None:
        raise InvalidParameter(
            f"{name} is a checkpoint of your own ({own}): the registry has no sum of it, and you delete it yourself.",
            parameter="NAME",
        )
    return entry_named(name, folder.registry)


def _record(folder: ModelFolder, entry: Entry) -> dict[str, Any]:
    """A row of the registry, and whether it is here."""
    return {
        "name": entry.name,
        "state": folder.state(entry),
        "task": entry.task,
        "family": entry.family,
        "size": entry.size,
        "memory": entry.memory,
        "licence": entry.licence,
        "commercial": entry.commercial,
        "origin": entry.origin,
        "files": [{"file": item.file, "url": item.url, "digest": item.digest} for item in entry.files],
    }
