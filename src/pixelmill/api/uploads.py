"""``PUT /v1/uploads/{name}``: bytes that wait to be used by a job."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.body import declared_length, limited
from pixelmill.api.dto import upload_body
from pixelmill.api.edge import Call
from pixelmill.api.naming import clean_name
from pixelmill.api.responses import json_response
from pixelmill.api.routes import BINARY, Routes, parameter
from pixelmill.api.schemas import UploadBody

routes = Routes("uploads")


@routes.add(
    "PUT",
    "/v1/uploads/{name:path}",
    scope="jobs:write",
    summary="Upload a file for a job",
    problems=(400, 413, 507),
    model=UploadBody,
    status=201,
    parameters=(
        parameter("name", "The file's name", {"type": "string"}, where="path", example="beach.jpg", must=True),
    ),
    body={"application/octet-stream": dict(BINARY), "image/*": dict(BINARY)},
)
async def upload(call: Call) -> Response:
    """The raw body is streamed to the store. Each upload gets its own id, whatever its name; unused ones expire.

    Several in parallel are the fastest way to send many files from a page or a script.
    """
    check = call.service.check_upload
    declared = declared_length(call.request)
    if declared is not None:
        check(declared)
    name = clean_name(call.path("name"))
    made = await call.service.put_upload(call.owner, name, limited(call.chunks(), check))
    return json_response(upload_body(made), 201)
