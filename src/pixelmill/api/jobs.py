"""Jobs: submit, grow, list, look at, cancel, retry, delete, and their results in one ZIP."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from pixelmill.api.auth import check_scope
from pixelmill.api.dto import job_body, page_body, task_body, webhook_body
from pixelmill.api.edge import Call
from pixelmill.api.intake import idempotency_key, job_intake, tasks_intake
from pixelmill.api.naming import content_disposition
from pixelmill.api.responses import ByteStream, begun, json_response
from pixelmill.api.routes import BINARY, CURSOR, LIMIT, STATE, Routes, content_of, parameter, path_id
from pixelmill.api.schemas import (
    JOB_ID,
    PIPELINE_EXAMPLE,
    JobBody,
    JobList,
    JobRequest,
    MoreTasks,
    TaskList,
)
from pixelmill.api.search import SEARCHED, check_state, wanted_search
from pixelmill.errors import RequestError
from pixelmill.jobs.listing import MAX_SEARCH
from pixelmill.jobs.model import UNBOUND, JobBounds, State

MAX_PAGE = 1_000

routes = Routes("jobs")

_ID = path_id("job_id", JOB_ID)
_SEARCH = parameter(
    "q",
    "Only jobs with this in their name, or with this id; letters of either case",
    {"type": "string", "maxLength": MAX_SEARCH},
)
_ALL = parameter("all", "`1`: of all owners, which needs the scope `admin`", {"type": "string", "enum": ["0", "1"]})
_OWNER = parameter("owner", "Only those of this owner; others than oneself need the scope `admin`", {"type": "string"})
_FILES = {"type": "array", "items": {"type": "string", "format": "binary"}}
_LOCATION = {"Location": {"description": "The job", "schema": {"type": "string"}, "example": f"/v1/jobs/{JOB_ID}"}}
_REPLAYED = {"Idempotency-Replayed": {"description": "`true`: the job was there already", "schema": {"type": "string"}}}


def _form_of(**properties: Any) -> dict[str, Any]:
    return {"multipart/form-data": {"schema": {"type": "object", "properties": properties}}}


@routes.add(
    "POST",
    "/v1/jobs",
    scope="jobs:write",
    summary="Submit a job",
    problems=(400, 404, 409, 413, 415, 422, 429, 507),
    model=JobBody,
    status=202,
    answers={202: {"description": "Job and inputs are durable", "headers": {**_LOCATION, **_REPLAYED}}},
    parameters=(
        parameter(
            "Idempotency-Key",
            "The same key with the same request gives the same job, with another request 409",
            {"type": "string", "maxLength": 255},
            where="header",
        ),
    ),
    body={
        **_form_of(
            pipeline={"type": "string", "examples": [PIPELINE_EXAMPLE]},
            files=_FILES,
            name={"type": "string"},
            priority={"type": "string", "enum": ["interactive", "normal", "batch"]},
            tags={"type": "string", "description": "`key=value,…` or a JSON object"},
            webhook={"type": "string", "description": "Address that is told when the job ends"},
            sealed={"type": "string", "description": "`false`: the job takes more tasks until it is sealed"},
            mpi={"type": "string", "description": "MPI ranks that each image is spread over, such as `4`"},
        ),
        **content_of(JobRequest),
    },
)
async def submit_job(call: Call) -> Response:
    """As a multipart form with `pipeline` and any number of `files`, or as JSON with ids of uploads and sources.

    The files of a form are streamed to the store as they arrive; send `pipeline` first, so that a mistake in it is
    found before. Sources are `file://` addresses below a source root, globs allowed. Very large jobs grow by pages:
    submit with `sealed` false, add with `POST /v1/jobs/{job_id}/tasks`, then seal.
    """
    key = idempotency_key(call)
    intake = await job_intake(call, fingerprint=key is not None)
    assert intake.pipeline is not None, "job_intake() refuses a job without a pipeline"
    webhook = call.service.webhooks.new(call.owner, intake.webhook) if intake.webhook else None
    job, created = await call.service.submit(
        call.owner,
        call.pipeline(intake.pipeline),
        uploads=intake.uploads,
        sources=intake.sources,
        name=intake.name,
        priority=intake.priority,
        tags=intake.tags,
        sealed=intake.sealed,
        idempotency_key=key,
        fingerprint=intake.fingerprint,
        webhook=webhook,
        bounds=JobBounds(ranks=intake.ranks) if intake.ranks else UNBOUND,
    )
    body = job_body(job)
    headers = {"location": body["links"]["self"]}
    if created and webhook is not None:
        body["webhook"] = {**webhook_body(webhook), "job": job.id, "secret": webhook.secret}
    if not created:
        headers["idempotency-replayed"] = "true"
    return json_response(body, 202, headers)


@routes.add(
    "POST",
    "/v1/jobs/{job_id}/tasks",
    scope="jobs:write",
    summary="Add a page of tasks to a job",
    problems=(400, 404, 409, 413, 415, 422, 429, 507),
    model=JobBody,
    status=202,
    parameters=(_ID,),
    body={**content_of(MoreTasks), **_form_of(files=_FILES, seal={"type": "string"})},
)
async def add_tasks(call: Call) -> Response:
    """To a job that is not sealed; `seal` ends it with this page."""
    # Asked first: files are not taken for a job that is not there.
    await call.service.job(call.owner, call.path("job_id"))
    more = await tasks_intake(call)
    job = await call.service.extend(
        call.owner, call.path("job_id"), uploads=more.uploads, sources=more.sources, seal=more.sealed
    )
    return json_response(job_body(job), 202)


@routes.add(
    "POST",
    "/v1/jobs/{job_id}/seal",
    scope="jobs:write",
    summary="Seal a job",
    problems=(404, 409),
    model=JobBody,
    parameters=(_ID,),
)
async def seal_job(call: Call) -> Response:
    """No more tasks will be added; the job ends when those it has have ended."""
    return json_response(job_body(await call.service.extend(call.owner, call.path("job_id"), seal=True)))


@routes.add(
    "GET",
    "/v1/jobs",
    scope="jobs:read",
    summary="List jobs",
    problems=(400,),
    model=JobList,
    parameters=(LIMIT, CURSOR, STATE, _SEARCH, _ALL, _OWNER),
)
async def list_jobs(call: Call) -> Response:
    """Newest first; `next` is the cursor of the next page, to be used with the same filters."""
    page = await call.service.jobs(
        _whose(call),
        limit=call.number("limit", 50, 1, MAX_PAGE),
        cursor=call.query("cursor") or None,
        state=call.choice("state", State),
        search=_search(call),
    )
    return json_response(page_body(page, job_body))


def _whose(call: Call) -> str | None:
    """The owner whose jobs are listed, None for all; raises :class:`Forbidden` for one who may not see them."""
    every, owner = call.every_owner(), call.query("owner")
    if owner and owner != call.owner and not every and call.caller is not None:
        check_scope(call.caller, "admin")
    return owner or (None if every else call.owner)


def _search(call: Call) -> str:
    text = (call.query("q") or "").strip()
    if len(text) > MAX_SEARCH:
        raise RequestError(f"q has {len(text):,} characters; at most {MAX_SEARCH} are searched for.", parameter="q")
    return text


@routes.add(
    "GET",
    "/v1/jobs/{job_id}",
    scope="jobs:read",
    summary="Look at a job",
    problems=(404,),
    model=JobBody,
    parameters=(_ID,),
)
async def get_job(call: Call) -> Response:
    """State, counts, pipeline, times, and what its tasks were tagged with."""
    job = await call.service.job(await call.owner_of_job(), call.path("job_id"))
    return json_response({**job_body(job), "labels": await call.service.found.labels(job.owner, job.id)})


@routes.add(
    "DELETE",
    "/v1/jobs/{job_id}",
    scope="jobs:write",
    summary="Delete a job with its results",
    problems=(404,),
    status=204,
    parameters=(_ID,),
)
async def delete_job(call: Call) -> Response:
    """What still runs is cancelled. Inputs go too, unless another job uses them."""
    await call.service.delete(await call.owner_of_job(), call.path("job_id"))
    return Response(status_code=204)


@routes.add(
    "GET",
    "/v1/jobs/{job_id}/tasks",
    scope="jobs:read",
    summary="List the tasks of a job",
    problems=(400, 404),
    model=TaskList,
    parameters=(_ID, LIMIT, CURSOR, STATE, *SEARCHED),
)
async def list_tasks(call: Call) -> Response:
    """In the order they were submitted; those that a search finds, the last that ended first."""
    search, state = wanted_search(call), call.choice("state", State)
    owner, job = await call.owner_of_job(), call.path("job_id")
    limit, cursor = call.number("limit", 100, 1, MAX_PAGE), call.query("cursor") or None
    if search is None:
        page = await call.service.tasks(owner, job, limit=limit, cursor=cursor, state=state)
    else:
        check_state(state)
        page = await call.service.found.tasks(owner, search, job=job, limit=limit, cursor=cursor)
    return json_response(page_body(page, task_body))


@routes.add(
    "POST",
    "/v1/jobs/{job_id}/cancel",
    scope="jobs:write",
    summary="Cancel a job",
    problems=(404, 409),
    model=JobBody,
    parameters=(_ID,),
)
async def cancel_job(call: Call) -> Response:
    """Tasks that wait are cancelled, tasks that run are stopped, results that are there stay."""
    return json_response(job_body(await call.service.cancel(await call.owner_of_job(), call.path("job_id"))))


@routes.add(
    "POST",
    "/v1/jobs/{job_id}/retry",
    scope="jobs:write",
    summary="Retry the failed and cancelled tasks of a job",
    problems=(404, 409, 429),
    model=JobBody,
    parameters=(_ID,),
)
async def retry_job(call: Call) -> Response:
    """They are queued again, in a new run; results that are there stay."""
    return json_response(job_body(await call.service.retry(await call.owner_of_job(), call.path("job_id"))))


@routes.add(
    "GET",
    "/v1/jobs/{job_id}/archive",
    scope="jobs:read",
    summary="Download all results as one ZIP file",
    problems=(404,),
    answers={200: {"description": "A ZIP file, streamed", "content": {"application/zip": dict(BINARY)}}},
    parameters=(_ID,),
)
async def get_archive(call: Call) -> Response:
    """Results that are there now, with safe and distinct names; data as `STEM.json`."""
    job = await call.service.job(await call.owner_of_job(), call.path("job_id"))
    body = await begun(call.service.archive(job.owner, job.id))
    headers = {
        "content-type": "application/zip",
        "content-disposition": content_disposition(f"{job.name or job.id}.zip", inline=False),
        "cache-control": "no-store",
    }
    return ByteStream(body, headers)
