"""Searches over what operations found in tasks: the query parameters, and the list across jobs."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.auth import check_scope
from pixelmill.api.dto import page_body, task_body
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import CURSOR, LIMIT, Routes, parameter
from pixelmill.api.schemas import JOB_ID, FoundTasks
from pixelmill.errors import RequestError
from pixelmill.jobs.model import State
from pixelmill.jobs.records import MAX_PAGE
from pixelmill.jobs.search import MAX_ASKED, Search

routes = Routes("tasks")

SEARCHED = (
    parameter(
        "label",
        "Only tasks in which `classify` or `auto_tag` saw this: a whole label or one word of it, in either case; "
        "commas part several, or they are given one by one",
        {"type": "string", "maxLength": MAX_ASKED},
        example="cat",
    ),
    parameter(
        "min_score",
        "How sure it must have been of each `label`",
        {"type": "number", "minimum": 0, "maximum": 1},
    ),
    parameter(
        "caption",
        "Only tasks whose caption has all of these words, in either case",
        {"type": "string", "maxLength": MAX_ASKED},
    ),
    parameter(
        "faces",
        "Only tasks in which `faces` found so many: a number, or a range with its ends (`1..`, `2..5`, `..4`)",
        {"type": "string", "pattern": r"^(\d{1,7}|\d{1,7}\.\.\d{0,7}|\.\.\d{1,7})$"},
    ),
)
_JOB = parameter("job", "Only tasks of this job", {"type": "string"}, example=JOB_ID)
_OWNER = parameter("owner", "Those of this owner; others than oneself need the scope `admin`", {"type": "string"})


def wanted_search(call: Call) -> Search | None:
    """What the query parameters search for, None where they name nothing; raises :class:`RequestError`."""
    return Search.of(
        labels=call.request.query_params.getlist("label"),
        min_score=call.query("min_score"),
        caption=call.query("caption"),
        faces=call.query("faces"),
    )


def check_state(state: State | None) -> None:
    """Raise :class:`RequestError` for tasks in a state in which there is nothing to be searched for."""
    if state not in (None, State.SUCCEEDED):
        raise RequestError(
            f"Only tasks that succeeded have data that can be searched for: leave out state={state}.", parameter="state"
        )


@routes.add(
    "GET",
    "/v1/tasks",
    scope="jobs:read",
    summary="Search tasks by what was found in them",
    problems=(400, 404),
    model=FoundTasks,
    parameters=(*SEARCHED, _JOB, LIMIT, CURSOR, _OWNER),
)
async def search_tasks(call: Call) -> Response:
    """Across jobs; at least one of `label`, `caption` and `faces` must be given, and a task must fulfil all.

    The last that ended first. `next` is the cursor of the next page, to be used with the same search.
    """
    search = wanted_search(call)
    if search is None:
        raise RequestError(
            "Say what to search for: label, caption or faces. GET /v1/jobs/{job_id}/tasks lists all tasks of a job.",
            parameter="label",
        )
    owner = call.query("owner") or call.owner
    if owner != call.owner and call.caller is not None:
        check_scope(call.caller, "admin")
    page = await call.service.found.tasks(
        owner,
        search,
        job=call.query("job") or None,
        limit=call.number("limit", 100, 1, MAX_PAGE),
        cursor=call.query("cursor") or None,
    )
    return json_response(page_body(page, task_body))
