"""Links that work without a token: to a result, and to put an upload. Those of stores that can't sign end here."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.responses import Response

from pixelmill.api.body import declared_length, limited
from pixelmill.api.dto import moment, upload_body
from pixelmill.api.edge import Call
from pixelmill.api.naming import clean_name, content_disposition
from pixelmill.api.ranges import ranged
from pixelmill.api.responses import json_response
from pixelmill.api.routes import BINARY, Routes, content_of, parameter, path_id
from pixelmill.api.schemas import TASK_ID, UPLOAD_ID, LinkBody, LinkWanted, UploadBody, UploadDone, UploadLinkBody
from pixelmill.api.tasks import SANDBOX
from pixelmill.errors import LimitExceeded
from pixelmill.service.links import DEFAULT_S, LONGEST_S, Link

routes = Routes("links")

_BYTES = {"application/octet-stream": dict(BINARY), "image/*": dict(BINARY)}
_KEY = parameter("key", "The object", {"type": "string"}, where="path", example="results", must=True)
_SIGNED = (
    _KEY,
    parameter("method", "What the link is for", {"enum": ["GET", "PUT"]}, must=True),
    parameter("expires", "Seconds since the epoch", {"type": "integer"}, must=True),
    parameter("max_bytes", "Most bytes that are taken", {"type": "integer"}),
    parameter("name", "What a download is called", {"type": "string"}),
    parameter("type", "Its media type", {"type": "string"}),
    parameter("key_id", "The key of the signature", {"type": "string"}, must=True),
    parameter("signature", "HMAC-SHA256 of all the others", {"type": "string"}, must=True),
)


def _link_body(link: Link) -> dict[str, Any]:
    return {
        "url": link.url,
        "method": link.method,
        "headers": dict(link.headers),
        "expires": moment(link.expires),
    }


@routes.add(
    "GET",
    "/v1/tasks/{task_id}/result/link",
    scope="jobs:read",
    summary="Make a link to the result of a task",
    problems=(400, 404, 409),
    model=LinkBody,
    parameters=(
        path_id("task_id", TASK_ID),
        parameter(
            "expires",
            f"Seconds that the link works; {DEFAULT_S} if not given",
            {"type": "integer", "minimum": 1, "maximum": LONGEST_S},
        ),
    ),
)
async def get_result_link(call: Call) -> Response:
    """Whoever has the link can take the image without a token, until it expires or the result is removed.

    From a bucket the link is the cloud's own, and no bytes pass through the service; from a folder it is one of this
    service, and has no host. With temporary credentials a bucket's link ends with them, if that is sooner.
    """
    expires = call.number("expires", DEFAULT_S, 1, LONGEST_S)
    link = await call.service.links.result(await call.owner_of_task(), call.path("task_id"), expires)
    return json_response(_link_body(link), headers={"cache-control": "no-store"})


@routes.add(
    "POST",
    "/v1/uploads/link",
    scope="jobs:write",
    summary="Make a link to upload a file by",
    problems=(400, 413, 415),
    model=UploadLinkBody,
    status=201,
    body=content_of(LinkWanted),
)
async def make_upload_link(call: Call) -> Response:
    """PUT the bytes to `url` with all of `headers`, then complete the upload; it can be used by jobs from then on.

    A link of this service takes `max_bytes` at most; a bucket's takes more, and completing it then deletes them.
    """
    wanted = await call.json(LinkWanted)
    link = await call.service.links.upload(call.owner, wanted.expires)
    body = {"id": link.upload, **_link_body(link), "max_bytes": link.max_bytes}
    body["links"] = {"complete": f"/v1/uploads/{link.upload}/complete"}
    return json_response(body, 201, {"cache-control": "no-store"})


@routes.add(
    "POST",
    "/v1/uploads/{upload_id}/complete",
    scope="jobs:write",
    summary="Complete an upload that was put by a link",
    problems=(400, 404, 409, 413, 415, 507),
    model=UploadBody,
    status=201,
    parameters=(path_id("upload_id", UPLOAD_ID),),
    body=content_of(UploadDone),
)
async def complete_upload(call: Call) -> Response:
    """Checks the size and keeps the bytes as they are now. A second call gives the same upload."""
    done = await call.json(UploadDone)
    made = await call.service.links.complete(call.owner, call.path("upload_id"), clean_name(done.name))
    return json_response(upload_body(made), 201)


@routes.add(
    "GET",
    "/v1/objects/{key:path}",
    scope=None,
    summary="Download by a link of this service",
    problems=(403, 404, 503),
    answers={
        200: {"description": "The bytes", "content": dict(_BYTES)},
        206: {"description": "The range that was asked for"},
    },
    parameters=_SIGNED,
)
async def get_by_link(call: Call) -> Response:
    """The link is made by `GET /v1/tasks/{task_id}/result/link`; an altered or expired one is refused."""
    links, request = call.service.links, call.request
    grant = await links.granted("GET", call.path("key"), request.query_params)
    info, body = await links.open(grant)
    etag = hashlib.sha256(f"{info.key}\n{info.size}\n{info.modified}".encode()).hexdigest()[:32]
    headers = {
        "content-type": grant.media_type or "application/octet-stream",
        "content-disposition": content_disposition(grant.name or "object", inline=bool(grant.media_type)),
        "cache-control": "private, no-cache",
        "content-security-policy": SANDBOX,
    }
    part = lambda start, length: links.part(grant.key, start, length)  # noqa: E731 -- a name for an argument
    return await ranged(call, body, part, info.size, f'"{etag}"', headers)


@routes.add(
    "PUT",
    "/v1/objects/{key:path}",
    scope=None,
    summary="Upload by a link of this service",
    problems=(403, 413, 503, 507),
    status=201,
    answers={201: {"description": "Stored; complete the upload now"}},
    parameters=_SIGNED,
    body=_BYTES,
)
async def put_by_link(call: Call) -> Response:
    """The link is made by `POST /v1/uploads/link`; an altered or expired one is refused, and so are too many bytes."""
    links = call.service.links
    grant = await links.granted("PUT", call.path("key"), call.request.query_params)

    def check(total: int) -> None:
        if total > grant.max_bytes:
            raise LimitExceeded(
                f"The link takes {grant.max_bytes:,} bytes at most. Send a smaller file.",
                limit="bytes",
                value=total,
                maximum=grant.max_bytes,
            )

    check(declared_length(call.request) or 0)
    await links.put(grant, limited(call.chunks(), check))
    return Response(status_code=201)
