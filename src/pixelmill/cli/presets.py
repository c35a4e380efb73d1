"""`pixelmill presets`: the pipelines that `preset:NAME` stands for, built in and the user's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.state import Globals

if TYPE_CHECKING:
    from pixelmill.pipelines.presets import Preset


def presets(
    context: typer.Context,
    name: Annotated[str | None, typer.Argument(help="One preset, to see its steps written out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List presets: the built-in ones, and yours from [presets] in pixelmill.toml.

    Use one by writing preset:NAME where its steps shall stand.
    """
    from pixelmill.cli.settings import models_folder
    from pixelmill.cli.settings import presets as configured
    from pixelmill.models.folder import ModelFolder
    from pixelmill.pipelines.lacks import availability, described

    options: Globals = context.obj
    settings = options.settings()
    known, models = configured(settings), ModelFolder(models_folder(settings))
    if name is not None:
        record = described(known.named(name), known, models)
        print(json.dumps(record, indent=2) if as_json else record["pipeline"])
        return
    if as_json:
        print(json.dumps([described(preset, known, models) for preset in known], indent=2))
        return
    from pixelmill.cli.tables import print_table

    def purpose(item: Preset) -> str:
        lacks = availability(item, known, models).lacks
        said = item.summary if item.built_in else "yours"
        return f"{said} (not here: {'; '.join(lack.what for lack in lacks)})" if lacks else said

    rows = ((item.name, purpose(item), item.form) for item in known)
    print_table(("preset", "what it is for", "form"), rows)
    print("`pixelmill run preset:NAME photo.jpg -o out/` uses one; `pixelmill presets NAME` writes its steps out.")
