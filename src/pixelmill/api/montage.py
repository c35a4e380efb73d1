"""``GET /v1/jobs/{job_id}/montage``: a contact sheet of a job's results."""

from __future__ import annotations

import time
from typing import Any

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.process import IMAGE_HEADERS, IMAGES, answer, while_connected
from pixelmill.api.routes import Routes, parameter, path_id
from pixelmill.api.schemas import JOB_ID
from pixelmill.operations.arguments import build, schema
from pixelmill.operations.montage import Montage
from pixelmill.pipelines.forms import read_format

DEFAULT_FORMAT = "jpeg"
OWN = frozenset({"format", "data"})
"""Query parameters beside those of the layout."""

routes = Routes("jobs")


def _described(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI parameter of a field of :class:`Montage`."""
    unit = f" ({found['unit']})" if "unit" in found else ""
    hidden = {"title", "description", "unit", *(["default"] if found.get("default") is None else [])}
    return parameter(
        name, f"{found['description']}{unit}", {key: value for key, value in found.items() if key not in hidden}
    )


@routes.add(
    "GET",
    "/v1/jobs/{job_id}/montage",
    scope="jobs:read",
    summary="A contact sheet of the results",
    problems=(400, 404, 409, 422, 429),
    answers={200: {"description": "The sheet", "content": IMAGES, "headers": IMAGE_HEADERS}},
    parameters=(
        path_id("job_id", JOB_ID),
        *(_described(name, found) for name, found in schema(Montage)["properties"].items()),
        parameter(
            "format",
            "Format of the sheet with its options, as in a pipeline",
            {"type": "string", "default": DEFAULT_FORMAT},
            example="jpeg,quality=90",
        ),
        parameter("data", "`1`: what the sheet shows, as JSON without it", {"type": "string", "enum": ["0", "1"]}),
    ),
)
async def get_montage(call: Call) -> Response:
    """Results that are there now, as thumbnails in the order of the tasks, with the names of their sources.

    `X-Pixelmill-Data` says what is shown: `cells`, `columns`, `rows`, cells that are `marked` as without an image,
    ended tasks that are `left_out`, and tasks that are `unfinished`. 409 while there is nothing to show. A sheet that
    would be too large is 422 with what would fit.
    """
    given = {name: value for name, value in call.request.query_params.items() if name not in OWN}
    montage = build(Montage, given, "montage", strict=False)
    output = read_format(call.query("format") or DEFAULT_FORMAT)
    job = await call.service.job(await call.owner_of_job(), call.path("job_id"))
    with call.edge.budget.share() as reserve:
        start = time.perf_counter()
        work = call.service.montage(job.owner, job.id, montage, output, reserve)
        result = await while_connected(call, work)
        wall_ms = (time.perf_counter() - start) * 1000
    response = answer(call, result, f"{job.name or job.id}-montage.{output.format}", wall_ms)
    response.headers["cache-control"] = "no-store"
    return response
