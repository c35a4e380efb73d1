"""What can be done to an image: names, parameters as JSON Schema, planning facts, examples."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes, parameter
from pixelmill.api.schemas import OperationBody, OperationList
from pixelmill.errors import NotFound, UnknownOperation
from pixelmill.models.folder import ModelFolder
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import all_operations, operation_named
from pixelmill.pipelines.lacks import lacks_of
from pixelmill.pipelines.spec import Pipeline

routes = Routes("operations")


def operation_body(cls: type[Operation], models: ModelFolder | None = None) -> dict[str, Any]:
    """One operation as JSON. Kind and tier may depend on parameters; shown are those of its example."""
    example = Pipeline.parse(f"{cls.name}:{cls.example}" if cls.example else cls.name)
    facts = example.operations[0].facts()
    return {
        "name": cls.name,
        "family": cls.family,
        "summary": cls.summary,
        "description": " ".join((cls.__doc__ or "").replace("``", "`").split()),
        "kind": facts.kind,
        "tier": facts.tier,
        "output": cls.output,
        "missing": [lack.to_dict() for lack in lacks_of(Pipeline(example.operations[:1]), models)],
        "parameters": {name: value for name, value in cls.model_json_schema().items() if name != "description"},
        "positional": cls.positional,
        "examples": [example.to_text()],
    }


@routes.add("GET", "/v1/operations", scope="process", summary="List all operations", model=OperationList)
async def list_operations(call: Call) -> Response:
    """With the JSON Schema of their parameters: enough to draw a form.

    Every parameter has `title`, `description` and `type`, and `default` unless it is required (null: left out). Numbers
    have bounds or an `enum`, and perhaps a `unit`. `format` is `color` (hex), `image` (a reference, such as
    `upload:ID`), `font` or `model` (a name); lists have `items`, `minItems` and `maxItems`. `output` says what the
    operation gives.
    """
    models = call.edge.models
    return json_response({"items": [operation_body(cls, models) for cls in all_operations()], "next": None})


@routes.add(
    "GET",
    "/v1/operations/{name}",
    scope="process",
    summary="Look at an operation",
    problems=(404,),
    model=OperationBody,
    parameters=(parameter("name", "The operation", {"type": "string"}, where="path", example="resize", must=True),),
)
async def get_operation(call: Call) -> Response:
    """An unknown name gets the nearest known ones."""
    try:
        cls = operation_named(call.path("name"))
    except UnknownOperation as error:
        raise NotFound(error.detail, **error.context) from error
    return json_response(operation_body(cls, call.edge.models))
