"""`pixelmill formats`: what is read and written, or the options with which one is written."""

from __future__ import annotations

import json
from typing import Annotated

import typer


def formats(
    name: Annotated[str | None, typer.Argument(help="One format that is written, to see its options.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the schema of the options.")] = False,
) -> None:
    """List formats, or explain the options of format:NAME."""
    from pixelmill.images.encoders import AUTO
    from pixelmill.images.formats import written_format
    from pixelmill.operations.listing import format_records

    records = {record["name"]: record for record in format_records()}
    if name is not None:
        found = AUTO if name == AUTO else written_format(name).name
        print(json.dumps(records[found], indent=2)) if as_json else _explain(found)
        return
    if as_json:
        print(json.dumps(list(records.values()), indent=2))
        return
    from pixelmill.cli.tables import print_table

    rows = (
        (
            record["name"],
            " ".join(record["extensions"]),
            "yes" if record["read"] else "",
            "yes" if record["written"] else "",
            "yes" if record["animated"] else "",
            f"pixelmill[{record['extra']}]" if record["extra"] else "",
        )
        for record in records.values()
    )
    print_table(("format", "extensions", "read", "written", "frames", "needs"), rows)
    print("`pixelmill formats NAME` explains the options of format:NAME.")


def _explain(name: str) -> None:
    from pixelmill.cli.tables import print_parameters
    from pixelmill.images.encoders import ENDS

    model = ENDS[name]
    print(f"format:{name}: {' '.join((model.__doc__ or '').replace('``', '`').split())}\n")
    print_parameters(model)
    print(f"Example: pixelmill run resize:640/format:{name} photo.jpg -o out/")
