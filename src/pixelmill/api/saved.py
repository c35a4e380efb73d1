"""Pipelines: saved under a name, and checked without running them."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import ConfigDict, Field
from starlette.responses import Response

from pixelmill.api.dto import moment
from pixelmill.api.edge import Call
from pixelmill.api.problems import problem
from pixelmill.api.responses import ID_KEY, json_response
from pixelmill.api.routes import Routes, content_of, parameter
from pixelmill.api.schemas import PIPELINE_EXAMPLE, Answer, LackBody, Moment, ProblemBody, Wanted
from pixelmill.errors import PipelineError
from pixelmill.jobs.saved import MAX_NAME, SavedPipeline
from pixelmill.models.folder import ModelFolder
from pixelmill.pipelines.lacks import lacks_of
from pixelmill.pipelines.spec import Pipeline

routes = Routes("pipelines")

_NAME = parameter(
    "name",
    f"1 to {MAX_NAME} printable characters, no spaces at the ends",
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME},
    where="path",
    example="thumbnails",
    must=True,
)
_JSON_FORM: Any = {"operations": [{"name": "grayscale"}], "output": {"format": "png"}}


class PipelineWanted(Wanted):
    """A pipeline in text or JSON form; presets in it are expanded."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"pipeline": PIPELINE_EXAMPLE}, {"pipeline": _JSON_FORM}]}
    )
    pipeline: str | dict[str, Any]


class SavedPipelineBody(Answer):
    """A saved pipeline: its text form, and the same in JSON."""

    name: Annotated[str, Field(examples=["thumbnails"])]
    pipeline: Annotated[str, Field(examples=[PIPELINE_EXAMPLE])]
    steps: dict[str, Any]
    changed: Moment


class SavedPipelineList(Answer):
    """All saved pipelines of the owner, by name."""

    items: list[SavedPipelineBody]
    next: None


class OutputBody(Answer):
    """What is known of the result before there is an image. ``format`` null: the source's own, or data only."""

    format: Annotated[str | None, Field(examples=["jpeg"])]


class CheckedBody(Answer):
    """Whether a pipeline can be read: its forms, hash and needs where it can, else why not."""

    valid: bool
    text: Annotated[str | None, Field(description="Null where it were too long to be read again")] = None
    json_form: Annotated[dict[str, Any] | None, Field(alias="json")] = None
    hash: str | None = None
    output: OutputBody | None = None
    needs: Annotated[list[LackBody] | None, Field(description="What is missing here to run it")] = None
    error: ProblemBody | None = None
    step: Annotated[int | None, Field(description="The step that is wrong, counted from 0 as written")] = None
    position: Annotated[int | None, Field(description="Where in the text, in characters from 0")] = None


@routes.add("GET", "/v1/pipelines", scope="jobs:read", summary="List your saved pipelines", model=SavedPipelineList)
async def list_pipelines(call: Call) -> Response:
    """By name; at most 200."""
    found = await call.service.saved.list(call.owner)
    return json_response({"items": [saved_body(item) for item in found], "next": None})


@routes.add(
    "PUT",
    "/v1/pipelines/{name:path}",
    scope="jobs:write",
    summary="Save a pipeline under a name",
    problems=(400, 409, 413, 422),
    model=SavedPipelineBody,
    answers={201: {"description": "There was none of that name", "model": SavedPipelineBody}},
    parameters=(_NAME,),
    body=content_of(PipelineWanted),
)
async def put_pipeline(call: Call) -> Response:
    """It takes the place of one of that name (200). Kept is what it means now: presets are expanded."""
    wanted = await call.json(PipelineWanted)
    pipeline = call.pipeline(wanted.pipeline)
    saved, created = await call.service.saved.put(call.owner, call.path("name"), pipeline.to_text(), pipeline.to_json())
    return json_response(saved_body(saved), 201 if created else 200)


@routes.add(
    "DELETE",
    "/v1/pipelines/{name:path}",
    scope="jobs:write",
    summary="Delete a saved pipeline",
    problems=(404,),
    status=204,
    parameters=(_NAME,),
)
async def delete_pipeline(call: Call) -> Response:
    """Jobs that were made from it are left alone."""
    await call.service.saved.remove(call.owner, call.path("name"))
    return Response(status_code=204)


@routes.add(
    "POST",
    "/v1/pipelines/check",
    scope="process",
    summary="Check a pipeline without running it",
    problems=(400, 413),
    model=CheckedBody,
    body=content_of(PipelineWanted),
)
async def check_pipeline(call: Call) -> Response:
    """Always 200 for a request of the right form; `valid` says whether the pipeline can be read.

    `needs` lists what is missing on this service to run it. Images that it refers to are not looked for.
    """
    wanted = await call.json(PipelineWanted)
    try:
        pipeline = call.pipeline(wanted.pipeline)
    except PipelineError as error:
        return json_response(_refused(call, error))
    return json_response(_read(pipeline, call.edge.models))


def saved_body(saved: SavedPipeline) -> dict[str, Any]:
    """A saved pipeline."""
    return {
        "name": saved.name,
        "pipeline": saved.form,
        "steps": json.loads(saved.steps),
        "changed": moment(saved.changed),
    }


def _read(pipeline: Pipeline, models: ModelFolder) -> dict[str, Any]:
    try:
        text: str | None = pipeline.to_text()
    except PipelineError:
        text = None
    return {
        "valid": True,
        "text": text,
        "json": pipeline.to_dict(),
        "hash": pipeline.hash,
        "output": {"format": pipeline.output.format},
        "needs": [lack.to_dict() for lack in lacks_of(pipeline, models)],
    }


def _refused(call: Call, error: PipelineError) -> dict[str, Any]:
    scope = call.request.scope
    step, position = error.context.get("step"), error.context.get("position")
    return {
        "valid": False,
        "error": problem(error, instance=scope["path"], request_id=scope.get(ID_KEY, "")),
        "step": step - 1 if isinstance(step, int) else None,
        "position": position if isinstance(position, int) else None,
    }
