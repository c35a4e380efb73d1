"""``POST /v1/process``: one image through a pipeline, now."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.responses import Response

from pixelmill.api.body import collect, declared_length, media_type, read_json
from pixelmill.api.dto import processed_body
from pixelmill.api.edge import Call
from pixelmill.api.far_links import Links
from pixelmill.api.naming import clean_name, content_disposition, result_name
from pixelmill.api.negotiation import negotiated
from pixelmill.api.responses import json_bytes, json_response
from pixelmill.api.routes import BINARY, Routes, parameter
from pixelmill.api.schemas import PIPELINE_EXAMPLE, ProcessedBody
from pixelmill.errors import Cancelled, RequestError
from pixelmill.images.formats import WRITTEN, format_named
from pixelmill.targets.invocation import MAX_IMAGES, read_document, reply_of
from pixelmill.targets.target import RunResult

MAX_DATA_HEADER = 4_000
PATIENCE_S = 0.2
IMAGE_FIELD = "image:"
"""Fields of a form that hold an image which the pipeline refers to: ``image:REFERENCE``."""
# What a form may be larger than its file: boundaries, headers, the pipeline.
FORM_OVERHEAD = 1_100_000

Made = TypeVar("Made")
routes = Routes("process")

IMAGES = {fmt.media_type: dict(BINARY) for fmt in WRITTEN.values()}
_FORM = {
    "schema": {
        "type": "object",
        "required": ["file"],
        "properties": {
            "file": {"type": "string", "format": "binary"},
            "pipeline": {"type": "string"},
            "timeout": {"type": "number"},
        },
    }
}
_BYTES = {"type": "object", "properties": {"body": {"type": "string"}, "url": {"type": "string"}}}
_DOCUMENT = {
    "schema": {
        "type": "object",
        "description": "A task with bytes in Base64 (`body`), or behind links (`url`) that `link_hosts` allows",
        "required": ["pixelmill", "pipeline", "source"],
        "properties": {
            "pixelmill": {"type": "integer", "enum": [1]},
            "id": {"type": "string"},
            "pipeline": {"oneOf": [{"type": "object"}, {"type": "string"}]},
            "source": _BYTES,
            "images": {"type": "object", "additionalProperties": _BYTES},
            "name": {"type": "string"},
            "timeout_s": {"type": "number"},
            "kind": {"type": "string", "enum": ["image"]},
            "result": {"type": "object", "properties": {"url": {"type": "string"}}},
        },
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
        parameter("timeout", "Seconds that the work may take, below the service's own limit", {"type": "number"}),
        parameter("name", "A name for messages and for the answer's file name", {"type": "string"}),
    ),
    body={
        **IMAGES,
        "application/octet-stream": dict(BINARY),
        "multipart/form-data": _FORM,
        "application/json": _DOCUMENT,
    },
)
async def process(call: Call) -> Response:
    """Send the image as the raw body, or in the field `file` of a multipart form.

    The answer is the image. Data that operations found out comes in `X-Pixelmill-Data`; with `?data=1` the answer is
    the outcome as JSON without the image, with `Accept: application/json` the same with the image in Base64. A
    pipeline that gives data only answers JSON. With `format:auto` that has no `accept` of its own, the formats named in
    `Accept` may be chosen, and the answer varies with it. When no worker comes free in time the answer is 429.

    A JSON body is a task as a document, for services that send their overflow here: its source may lie behind a link,
    and its result be put to one, where `link_hosts` allows that. It is always answered with JSON.
    """
    if media_type(call.request) == "application/json":
        return await _by_document(call)
    text = call.query("pipeline")
    pipeline = call.pipeline(text) if text is not None else None
    name = clean_name(call.query("name") or "image")
    timeout_s = _timeout(call.query("timeout"))
    images: dict[str, bytes] = {}
    with call.edge.budget.share() as take:
        if call.is_form:
            form = _Form()
            await form.read(call, take)
            body, name, images = form.file, form.name or name, form.images
            timeout_s = form.timeout_s or timeout_s
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
        work = call.service.process(call.owner, pipeline, body, name, images=images, timeout_s=timeout_s)
        result = await while_connected(call, work)
        wall_ms = (time.perf_counter() - start) * 1000
    response = answer(call, result, name, wall_ms)
    if negotiation is not None:
        response.headers["vary"] = "Accept"
    return response


async def _by_document(call: Call) -> Response:
    """A task as a document (``targets/invocation.py``), whose bytes may lie behind links of a store that both know."""
    settings = call.edge.settings
    with call.edge.budget.share() as take:
        asked = read_document(await read_json(call.request, settings.max_json, settings.idle_s, call.edge.budget))
        if asked.kind != "image":
            raise RequestError("Contact sheets are made of jobs: POST /v1/jobs/ID/montage.", field="kind")
        pipeline = call.pipeline(asked.pipeline)
        links = Links(settings.link_hosts, private=settings.link_private)
        limits = call.edge.limits
        source = await links.contents(asked.source, limits.check_bytes, take)
        if not source:
            raise RequestError("The source is empty.", field="source")
        images = {ref: await links.contents(part, limits.check_bytes, take) for ref, part in asked.images.items()}
        if asked.result is not None:
            links.check(asked.result.url)  # before work is done for nothing
        name = clean_name(asked.name or "image")
        work = call.service.process(call.owner, pipeline, source, name, images=images, timeout_s=asked.timeout_s)
        result = await while_connected(call, work)
        image = result.outcome.bytes
        if asked.result is None or image is None:
            return json_response(reply_of(result, stored=False))
        await links.put(asked.result.url, image, result.outcome.media_type)
    return json_response(reply_of(result, stored=True))


async def while_connected(call: Call, work: Coroutine[Any, Any, Made]) -> Made:
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
        self.timeout_s: float | None = None
        self.images: dict[str, bytes] = {}

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
            elif part.name == "timeout":
                self.timeout_s = _timeout(await part.text())
            elif part.name.startswith(IMAGE_FIELD) and len(self.images) < MAX_IMAGES:
                reference = part.name.removeprefix(IMAGE_FIELD)
                self.images[reference] = await collect(part.chunks(), call.edge.limits.check_bytes, take)
            else:
                raise RequestError(
                    f"Unknown field {part.name[:40]!r}; there are 'file' and 'pipeline'.", field=part.name
                )


def _timeout(text: str | None) -> float | None:
    """A time limit in seconds; raises :class:`RequestError`."""
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise RequestError(f"timeout={text[:40]!r} must be a number of seconds above 0.", parameter="timeout")
    return seconds


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
