"""``POST /v1/process``: one image through a pipeline, now."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from starlette.responses import Response

from pixelmill.api.body import collect, declared_length
from pixelmill.api.dto import processed_body
from pixelmill.api.edge import Call
from pixelmill.api.naming import clean_name, content_disposition, result_name
from pixelmill.api.negotiation import negotiated
from pixelmill.api.responses import json_bytes, json_response
from pixelmill.api.routes import BINARY, Routes, parameter
from pixelmill.api.schemas import PIPELINE_EXAMPLE, ProcessedBody
from pixelmill.errors import Cancelled, RequestError
from pixelmill.images.formats import WRITTEN, format_named
from pixelmill.targets.target import RunResult

MAX_DATA_HEADER = 4_000
PATIENCE_S = 0.2
# What a form may be larger than its file: boundaries, headers, the pipeline.
FORM_OVERHEAD = 1_100_000

routes = Routes("process")

IMAGES = {fmt.media_type: dict(BINARY) for fmt in WRITTEN.values()}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {"file": {"type": "string", "format": "binary"}, "pipeline": {"type": "string"}},
    }
}
IMAGE_HEADERS = {
    "Server-Timing": {
        "description": "Milliseconds of decode, apply, encode, and queue (waiting, and the way to the pool and back)",
        "schema": {"type": "string"},
        "example": "decode;dur=2.10, apply;dur=0.42, encode;dur=0.61, queue;dur=0.55",
    },
    "X-Pixelmill-Target": {"description": "Where it ran", "schema": {"type": "string"}, "example": "local"},
    "X-Pixelmill-Data": {
        "description": "What operations found out beside the image, as ASCII JSON; `too-large` above 4,000 bytes",
        "schema": {"type": "string"},
    },
}

_VARY = {"description": "`Accept`, where it had a say in the format", "schema": {"type": "string"}}


@routes.add(
    "POST",
    "/v1/process",
    scope="process",
    summary="Run one image through a pipeline now",
    problems=(400, 413, 415, 422, 429),
    status=200,
    answers={
        200: {
            "description": "The image; JSON where the pipeline gives data only, or where JSON was asked for",
            "content": {
                **IMAGES,
                "application/json": {"schema": {"$ref": f"#/components/schemas/{ProcessedBody.__name__}"}},
            },
            "headers": {**IMAGE_HEADERS, "Vary": _VARY},
        }
    },
    parameters=(
        parameter("pipeline", "Text or JSON form", {"type": "string"}, example=PIPELINE_EXAMPLE),
        parameter("data", "`1`: the outcome as JSON without the image", {"type": "string", "enum": ["0", "1"]}),
        parameter("name", "A name for messages and for the answer's file name", {"type": "string"}),
    ),
    body={**IMAGES, "application/octet-stream": dict(BINARY), "multipart/form-data": _FORM},
)
async def process(call: Call) -> Response:
    """Send the image as the raw body, or in the field `file` of a multipart form.

    The answer is the image. Data that operations found out comes in `X-Pixelmill-Data`; with `?data=1` the answer is
    the outcome as JSON without the image, with `Accept: application/json` the same with the image in Base64. A
    pipeline that gives data only answers JSON. With `format:auto` that has no `accept` of its own, the formats named in
    `Accept` may be chosen, and the answer varies with it. When no worker comes free in time the answer is 429.
    """
    text = call.query("pipeline")
    pipeline = call.pipeline(text) if text is not None else None
    name = clean_name(call.query("name") or "image")
    with call.edge.budget.share() as take:
        if call.is_form:
            form = _Form()
            await form.read(call, take)
            body, name = form.file, form.name or name
            if form.pipeline is not None:
                pipeline = call.pipeline(form.pipeline)
        else:
            body = await collect(call.chunks(), call.edge.limits.check_bytes, take, declared_length(call.request))
        if pipeline is None:
            raise RequestError("Which pipeline? Add ?pipeline=…, such as ?pipeline=grayscale/resize:256.")
        if not body:
            raise RequestError("The request has no image: send it as the body, or in the form's field 'file'.")
        negotiation = negotiated(pipeline, call.header("accept"))
        pipeline = negotiation or pipeline
        start = time.perf_counter()
        result = await while_connected(call, call.service.process(call.owner, pipeline, body, name))
        wall_ms = (time.perf_counter() - start) * 1000
    response = answer(call, result, name, wall_ms)
    if negotiation is not None:
        response.headers["vary"] = "Accept"
    return response


async def while_connected(call: Call, work: Coroutine[Any, Any, RunResult]) -> RunResult:
    """The result of ``work``; it is cancelled, and its slot free, when the client hangs up before it is done.

    Who gives up waiting usually asks again: without this, an overload would feed itself. The connection is watched only
    after ``PATIENCE_S``, so that quick work pays nothing for it.
    """
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        if not done:
            gone = asyncio.ensure_future(_until_gone(call))
            try:
                await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone.cancel()
    finally:
        if not task.done():
            task.cancel()
    try:
        return await task
    except asyncio.CancelledError:
        raise Cancelled("The client hung up before its image was done.") from None


async def _until_gone(call: Call) -> None:
    while (await call.request.receive())["type"] != "http.disconnect":
        pass


class _Form:
    """The fields ``file`` and ``pipeline`` of a form."""

    def __init__(self) -> None:
        self.file = b""
        self.name = ""
        self.pipeline: str | None = None

    async def read(self, call: Call, take: Callable[[int], None]) -> None:
        """Read the form; raises :class:`RequestError` unless it has exactly one file, and no other fields."""
        declared = declared_length(call.request)
        if declared is not None:
            call.edge.limits.check_bytes(max(0, declared - FORM_OVERHEAD))
        files = 0
        async for part in call.form().parts():
            if part.name == "file":
                files += 1
                if files > 1:
                    raise RequestError("A form for /v1/process has one file. For many, POST /v1/jobs.", field="file")
                self.name = clean_name(part.filename) if part.filename else ""
                self.file = await collect(part.chunks(), call.edge.limits.check_bytes, take)
            elif part.name == "pipeline":
                self.pipeline = await part.text()
            else:
                raise RequestError(
                    f"Unknown field {part.name[:40]!r}; there are 'file' and 'pipeline'.", field=part.name
                )


def answer(call: Call, result: RunResult, name: str, wall_ms: float) -> Response:
    """The image with what is told beside it in headers, or JSON where that was asked for, or there is data only."""
    outcome = result.outcome
    timings = outcome.timings
    queue_ms = max(0.0, wall_ms - timings.total_ms)
    headers = {
        "server-timing": f"decode;dur={timings.decode_ms:.2f}, apply;dur={timings.apply_ms:.2f}, "
        f"encode;dur={timings.encode_ms:.2f}, queue;dur={queue_ms:.2f}",
        "x-pixelmill-target": result.target,
    }
    if call.flag("data"):
        return json_response(processed_body(result, with_image=False), headers=headers)
    if outcome.bytes is None or _wants_json(call.header("accept")):
        return json_response(processed_body(result, with_image=True), headers=headers)
    if outcome.data:
        headers["x-pixelmill-data"] = _data_header(outcome.data)
    headers["content-disposition"] = content_disposition(
        result_name(name, format_named(outcome.format or "").extension), inline=True
    )
    return Response(outcome.bytes, 200, headers, outcome.media_type)


def _wants_json(accept: str) -> bool:
    """True where JSON is named and no image type is: browsers and curl say ``*/*``."""
    return "application/json" in accept and "image/" not in accept


def _data_header(data: object) -> str:
    text = json_bytes(data).decode()
    if not text.isascii():
        text = "".join(c if c.isascii() else "".join(f"\\u{unit:04x}" for unit in _utf16(c)) for c in text)
    return text if len(text) <= MAX_DATA_HEADER else "too-large"


def _utf16(character: str) -> list[int]:
    raw = character.encode("utf-16-be")
    return [int.from_bytes(raw[i : i + 2], "big") for i in range(0, len(raw), 2)]
