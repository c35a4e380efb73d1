"""Dead letters: tasks that failed because their attempts were used up, and running them again."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import ConfigDict, Field
from starlette.responses import Response

from pixelmill.api.auth import check_scope
from pixelmill.api.dto import failure_body, moment, page_body
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import CURSOR, LIMIT, Routes, content_of, parameter
from pixelmill.api.schemas import JOB_ID, TASK_ID, Answer, FailureBody, Moment, Wanted
from pixelmill.errors import RequestError
from pixelmill.jobs.dead_letters import MAX_REDRIVEN
from pixelmill.jobs.model import Task

MAX_PAGE = 1_000

routes = Routes("dead letters")

_JOB = parameter("job", "Only those of this job", {"type": "string"})
_ALL = parameter("all", "`1`: of all owners, which needs the scope `admin`", {"type": "string", "enum": ["0", "1"]})


class DeadLetterBody(Answer):
    """A task that failed because its attempts were used up; ``error`` is why the last one failed."""

    task: Annotated[str, Field(examples=[TASK_ID])]
    job: Annotated[str, Field(examples=[JOB_ID])]
    owner: Annotated[str, Field(examples=["ann"])]
    name: Annotated[str, Field(examples=["beach.jpg"])]
    run: int
    attempts: int
    ended: Moment | None
    error: FailureBody | None
    links: dict[str, str]


class DeadLetterList(Answer):
    """A page of dead letters, the latest first."""

    items: list[DeadLetterBody]
    next: Annotated[str | None, Field(description="Cursor of the next page")]


class RedriveRequest(Wanted):
    """Which to run again: ``tasks``, or all of ``job``."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"tasks": [TASK_ID]}, {"job": JOB_ID}]})
    tasks: Annotated[list[str], Field(default_factory=list, max_length=MAX_REDRIVEN)]
    job: Annotated[str, Field(max_length=200)] = ""
    all: Annotated[bool, Field(description="Of any owner, which needs the scope `admin`")] = False


class RedrivenBody(Answer):
    """The tasks that were queued again; what is not named had no dead letter (any more)."""

    tasks: list[str]


def _owner(call: Call, *, everybody: bool) -> str | None:
    if not everybody or call.caller is None:
        return call.owner
    check_scope(call.caller, "admin")
    return None


@routes.add(
    "GET",
    "/v1/dead-letters",
    scope="jobs:read",
    summary="List dead letters",
    problems=(400,),
    model=DeadLetterList,
    parameters=(LIMIT, CURSOR, _JOB, _ALL),
)
async def list_dead_letters(call: Call) -> Response:
    """Tasks that failed because their attempts were used up, with the reason, the latest first.

    Such a task crashed its process, or lost its machine, each time it was tried. What an image or a pipeline is
    to blame for by itself (a damaged file) is no dead letter: it fails at once, and would again.
    """
    page = await call.service.dead_letters.list(
        _owner(call, everybody=call.flag("all")),
        limit=call.number("limit", 100, 1, MAX_PAGE),
        cursor=call.query("cursor") or None,
        job=call.query("job") or None,
    )
    return json_response(page_body(page, dead_letter_body))


@routes.add(
    "POST",
    "/v1/dead-letters/redrive",
    scope="jobs:write",
    summary="Run dead letters again",
    problems=(400, 413, 422),
    model=RedrivenBody,
    body=content_of(RedriveRequest),
)
async def redrive_dead_letters(call: Call) -> Response:
    """They are queued again in a new run, with all their attempts; other tasks of their jobs are left alone.

    What has no dead letter (any more), or is another owner's, is left out: sent twice it does nothing more.
    """
    wanted = await call.json(RedriveRequest)
    if bool(wanted.tasks) == bool(wanted.job):
        raise RequestError("Name either tasks (their ids) or job (one id): that says what is to run again.")
    owner, verbs = _owner(call, everybody=wanted.all), call.service.dead_letters
    done = await (verbs.redrive_job(owner, wanted.job) if wanted.job else verbs.redrive(owner, wanted.tasks))
    return json_response({"tasks": list(done.tasks)})


def dead_letter_body(task: Task) -> dict[str, Any]:
    """A dead letter."""
    return {
        "task": task.id,
        "job": task.job,
        "owner": task.owner,
        "name": task.name,
        "run": task.run,
        "attempts": task.attempts,
        "ended": moment(task.ended),
        "error": None if task.error is None else failure_body(task.error),
        "links": {"task": f"/v1/tasks/{task.id}", "job": f"/v1/jobs/{task.job}"},
    }
