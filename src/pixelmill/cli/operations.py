"""`pixelmill operations`: the table of operations, or one of them with its parameters and their ranges."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from pixelmill.operations.operation import Operation


def operations(
    name: Annotated[str | None, typer.Argument(help="One operation, to see its parameters.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, with the schema of the parameters.")] = False,
) -> None:
    """List operations, or explain one with its parameters."""
    from pixelmill.operations.table import all_operations, operation_named

    if name is not None:
        found = operation_named(name)
        print(json.dumps(_record(found), indent=2)) if as_json else _explain(found)
        return
    everything = all_operations()
    if as_json:
        print(json.dumps([_record(operation) for operation in everything], indent=2))
        return
    from pixelmill.cli.tables import print_table

    rows = ((operation.name, operation.family, operation.summary, usage(operation)) for operation in everything)
    print_table(("operation", "family", "what it does", "form"), rows)
    print("`pixelmill operations NAME` explains one.")


def _record(operation: type[Operation]) -> dict[str, Any]:
    schema = operation.model_json_schema()
    facts = _example(operation).facts()
    return {
        "name": operation.name,
        "family": operation.family,
        "summary": operation.summary,
        "kind": facts.kind,
        "tier": facts.tier,
        "parameters": schema,
        "examples": [usage(operation)],
    }


def usage(operation: type[Operation]) -> str:
    """The text form with the operation's example."""
    return f"{operation.name}:{operation.example}" if operation.example else operation.name


def _example(operation: type[Operation]) -> Operation:
    from pixelmill.pipelines.spec import Pipeline

    return Pipeline.parse(usage(operation)).operations[0]


def _tiles(operation: Operation) -> str:
    """Whether it runs over tiles of a large photograph, with the parameters of its example."""
    import numpy as np

    from pixelmill.errors import NotApplicable, NotTileable
    from pixelmill.images.image import Size
    from pixelmill.operations.passes import Form

    form = Form(Size(40_000, 30_000), 3, np.dtype(np.uint8))
    try:
        for part in operation.resolve(form.size):
            part.tiled(form)
    except (NotTileable, NotApplicable):
        return "needs the whole image"
    return "runs in tiles"


def _explain(operation: type[Operation]) -> None:
    from pixelmill.cli.tables import print_parameters

    print(f"{operation.name} ({operation.family}): {operation.summary}\n")
    description = " ".join((operation.__doc__ or "").replace("``", "`").split())
    if description:
        print(f"{description}\n")
    print_parameters(operation)
    facts = _example(operation).facts()
    print(f"Kind: {facts.kind}, {facts.tier}; {_tiles(_example(operation))} (docs/large-images.md)")
    print(f"Example: pixelmill run {usage(operation)} photo.jpg -o out/")
