"""``GET /v1/tasks/{task_id}/thumbnail``: a small picture of a result or an input, for lists."""

from __future__ import annotations

from enum import StrEnum

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.negotiation import accepted
from pixelmill.api.process import while_connected
from pixelmill.api.routes import BINARY, Routes, parameter, path_id
from pixelmill.api.schemas import TASK_ID
from pixelmill.api.tasks import SANDBOX, unchanged
from pixelmill.service.thumbnails import Wanted, check_image, stays

LEAST, DEFAULT, MOST = 16, 256, 1024
SAFE = ("jpeg", "png")
WEBP = ("webp",)
UNCHANGING = "private, max-age=86400, immutable"
CHANGING = "private, no-cache"

routes = Routes("tasks")


class Of(StrEnum):
    """What is shown."""

    RESULT = "result"
    INPUT = "input"


@routes.add(
    "GET",
    "/v1/tasks/{task_id}/thumbnail",
    scope="jobs:read",
    summary="A small picture of the result or the input",
    problems=(400, 404, 409, 415, 422, 429),
    answers={
        200: {
            "description": "The picture: WebP where `Accept` takes it, else PNG with transparency, else JPEG",
            "content": {name: dict(BINARY) for name in ("image/webp", "image/png", "image/jpeg")},
            "headers": {
                "ETag": {"description": "Of this picture", "schema": {"type": "string"}},
                "Vary": {"description": "`Accept`", "schema": {"type": "string"}},
            },
        },
        304: {"description": "The same as with that ETag"},
    },
    parameters=(
        path_id("task_id", TASK_ID),
        parameter("of", "What is shown", {"type": "string", "enum": [one.value for one in Of], "default": "result"}),
        parameter(
            "size",
            "Pixels of the square that it fits into; it is never enlarged",
            {"type": "integer", "minimum": LEAST, "maximum": MOST, "default": DEFAULT},
        ),
        parameter("Accept", "Types that the client takes", {"type": "string"}, where="header", example="image/webp"),
        parameter("If-None-Match", "An ETag that is already there", {"type": "string"}, where="header"),
    ),
)
async def get_thumbnail(call: Call) -> Response:
    """The first frame, with its transparency. 409 while there is no result, and (`no-image`) where it is data only.

    It is made when it is asked for, as interactive work of this service's own machines: 429 when no worker comes free.
    A result's picture never changes, so clients may keep it.
    """
    of = call.choice("of", Of) or Of.RESULT
    size = call.number("size", DEFAULT, LEAST, MOST)
    formats = WEBP if "webp" in accepted(call.header("accept")) else SAFE
    task = await call.service.task(await call.owner_of_task(), call.path("task_id"))
    if of is Of.RESULT:
        check_image(task)
    steady = stays(task, of.value)
    headers = {
        "cache-control": UNCHANGING if steady else CHANGING,
        "vary": "Accept",
        "content-security-policy": SANDBOX,
    }
    if steady:
        headers["etag"] = f'"{task.id}.{task.run}.{of}.{size}.{formats[0]}"'
        if unchanged(call, headers["etag"]):
            return Response(status_code=304, headers=headers)
    found = await while_connected(call, call.service.thumbnail(task, Wanted(of.value, size, formats)))
    return Response(found.body, 200, headers, found.media_type)
