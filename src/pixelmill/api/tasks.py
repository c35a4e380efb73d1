"""Tasks: look at one, and take its result or its input."""

from __future__ import annotations

from collections.abc import AsyncIterator

from starlette.responses import Response

from pixelmill.api.dto import outcome_body, task_detail_body
from pixelmill.api.edge import Call
from pixelmill.api.naming import content_disposition, result_name
from pixelmill.api.ranges import ranged
from pixelmill.api.responses import ByteStream, begun, close, json_response
from pixelmill.api.routes import BINARY, Routes, parameter, path_id
from pixelmill.api.schemas import TASK_ID, TaskDetailBody
from pixelmill.images.formats import WRITTEN, format_named
from pixelmill.jobs.model import Task

routes = Routes("tasks")

_ID = path_id("task_id", TASK_ID)
_DOWNLOAD = parameter("download", "`1`: offered for saving, not for showing", {"type": "string", "enum": ["0", "1"]})
_MATCH = parameter("If-None-Match", "An ETag that is already there", {"type": "string"}, where="header")
_RANGE = parameter("Range", "`bytes=FIRST-LAST`", {"type": "string"}, where="header")
_IF_RANGE = parameter("If-Range", "The ETag that the range must be of", {"type": "string"}, where="header")
_ETAG = {"ETag": {"description": "Changes when the task is retried", "schema": {"type": "string"}}}
_UNCHANGED = {304: {"description": "The same as with that ETag"}}
# A document in the store must never run as a page of this origin, whatever its bytes say.
SANDBOX = "default-src 'none'; style-src 'unsafe-inline'; sandbox"


@routes.add(
    "GET",
    "/v1/tasks/{task_id}",
    scope="jobs:read",
    summary="Look at a task",
    problems=(404,),
    model=TaskDetailBody,
    parameters=(_ID,),
)
async def get_task(call: Call) -> Response:
    """State, outcome or error, times, where it ran, and the attempts that were lost before."""
    task = await call.service.task(await call.owner_of_task(), call.path("task_id"))
    lost = await call.service.attempts(task.owner, task.id)
    return json_response(task_detail_body(task, lost))


@routes.add(
    "GET",
    "/v1/tasks/{task_id}/result",
    scope="jobs:read",
    summary="Download the result of a task",
    problems=(404, 409, 416),
    answers={
        200: {
            "description": "The image; JSON where the task gave data only",
            "content": {fmt.media_type: dict(BINARY) for fmt in WRITTEN.values()},
            "headers": _ETAG,
        },
        206: {"description": "The range that was asked for", "headers": _ETAG},
        **_UNCHANGED,
    },
    parameters=(_ID, _DOWNLOAD, _MATCH, _RANGE, _IF_RANGE),
)
async def get_result(call: Call) -> Response:
    """409 until the task has succeeded. An image may be taken in parts: one range at a time."""
    task, body = await call.service.result(await call.owner_of_task(), call.path("task_id"))
    outcome = task.outcome or {}
    etag = f'"{task.id}.{task.run}"'
    if unchanged(call, etag):
        return await _not_modified(etag, body)
    if body is None:
        return json_response(outcome_body(outcome), headers={"etag": etag, "cache-control": "private, no-cache"})
    image_format = format_named(str(outcome["format"]))
    name = result_name(task.name, image_format.extension)
    headers = _headers(call, str(outcome["media_type"]), name, inline=True)
    part = lambda start, length: call.service.links.result_part(task, start, length)  # noqa: E731 -- names an argument
    return await ranged(call, body, part, int(outcome["bytes"]), etag, headers)


@routes.add(
    "GET",
    "/v1/tasks/{task_id}/input",
    scope="jobs:read",
    summary="Download the input of a task",
    problems=(404,),
    answers={
        200: {
            "description": "The bytes as they were sent",
            "content": {"application/octet-stream": dict(BINARY), "image/*": dict(BINARY)},
            "headers": _ETAG,
        },
        **_UNCHANGED,
    },
    parameters=(_ID, _DOWNLOAD, _MATCH),
)
async def get_input(call: Call) -> Response:
    """The type is what the service recognized; bytes that it didn't are offered for saving only."""
    task, body = await call.service.input(await call.owner_of_task(), call.path("task_id"))
    etag = f'W/"{task.id}.input"'
    if unchanged(call, etag):
        return await _not_modified(etag, body)
    media = _source_type(task)
    headers = _headers(call, media or "application/octet-stream", task.name, inline=media is not None)
    return ByteStream(await begun(body), {**headers, "etag": etag})


def _source_type(task: Task) -> str | None:
    source_format = (task.outcome or {}).get("source_format")
    return format_named(str(source_format)).media_type if source_format else None


def unchanged(call: Call, etag: str) -> bool:
    """Whether the client has what an ETag stands for (RFC 9110 13.1.2: weak comparison)."""
    given = {item.strip().removeprefix("W/") for item in call.header("if-none-match").split(",")}
    return "*" in given or etag.removeprefix("W/") in given


async def _not_modified(etag: str, body: AsyncIterator[bytes] | None) -> Response:
    await close(body)
    return Response(status_code=304, headers={"etag": etag, "cache-control": "private, no-cache"})


def _headers(call: Call, media: str, name: str, *, inline: bool) -> dict[str, str]:
    return {
        "content-type": media,
        "content-disposition": content_disposition(name, inline=inline and not call.flag("download")),
        "cache-control": "private, no-cache",
        "content-security-policy": SANDBOX,
    }
