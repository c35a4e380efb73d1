"""Jobs, tasks, uploads, outcomes and events as the JSON of the REST service.

Pure; ``schemas.py`` documents the shapes.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from pixelmill import tracing
from pixelmill.api.problems import type_uri
from pixelmill.errors import ERROR_TYPES, PixelmillError
from pixelmill.jobs.model import Counts, Job, LoggedEvent, Page, Task, Upload
from pixelmill.jobs.notices import NewWebhook
from pixelmill.jobs.webhooks import Delivery, Webhook
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.spec import Pipeline
from pixelmill.targets.target import RunResult


def moment(seconds: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds and ``Z``."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _trace_id(trace: str) -> str | None:
    context = tracing.from_text(trace)
    return None if context is None else context.trace_id


def counts_body(counts: Counts) -> dict[str, int]:
    """Tasks by state, and their sum."""
    return {
        "queued": counts.queued,
        "running": counts.running,
        "succeeded": counts.succeeded,
        "failed": counts.failed,
        "cancelled": counts.cancelled,
        "total": counts.total,
    }


@lru_cache(maxsize=256)
def _text_form(pipeline: str) -> str:
    """The text form of canonical JSON; lists of jobs repeat the same few pipelines."""
    return Pipeline.parse(pipeline).to_text()


def job_body(job: Job) -> dict[str, Any]:
    """A job."""
    here = f"/v1/jobs/{quote(job.id)}"
    return {
        "id": job.id,
        "owner": job.owner,
        "state": job.state.value,
        "name": job.name,
        "priority": job.priority.value,
        "tags": dict(job.tags),
        "pipeline": _text_form(job.pipeline),
        "counts": counts_body(job.counts),
        "sealed": job.sealed,
        "created": moment(job.created),
        "started": moment(job.started),
        "ended": moment(job.ended),
        "expires": moment(job.expires),
        "trace_id": _trace_id(job.trace),
        "mpi": {"ranks": job.bounds.ranks} if job.bounds.ranks else None,
        "links": {"self": here, "tasks": f"{here}/tasks", "events": f"{here}/events", "archive": f"{here}/archive"},
    }


def task_body(task: Task) -> dict[str, Any]:
    """A task. Keys of the store are not shown; addresses of sources are."""
    here = f"/v1/tasks/{quote(task.id)}"
    links = {"self": here, "job": f"/v1/jobs/{quote(task.job)}", "input": f"{here}/input"}
    if task.outcome is not None:
        links["result"] = f"{here}/result"
        if task.outcome.get("format"):
            links["result_link"] = f"{here}/result/link"
            links["thumbnail"] = f"{here}/thumbnail"
    return {
        "id": task.id,
        "job": task.job,
        "seq": task.seq,
        "state": task.state.value,
        "name": task.name,
        "source": {"name": task.name, "uri": None if task.source.startswith("key:") else task.source},
        "run": task.run,
        "attempts": task.attempts,
        "queued": moment(task.queued),
        "started": moment(task.started),
        "ended": moment(task.ended),
        "target": task.target,
        "worker": task.worker,
        "why": task.why,
        "cost": task.cost,
        "trace_id": _trace_id(task.trace),
        "outcome": None if task.outcome is None else outcome_body(task.outcome),
        "error": None if task.error is None else failure_body(task.error),
        "links": links,
    }


def task_detail_body(task: Task, lost: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A task with its lost attempts."""
    return {**task_body(task), "lost_attempts": [_attempt(record) for record in lost]}


def _attempt(record: Mapping[str, Any]) -> dict[str, Any]:
    shown = dict(record)
    for name in ("started", "ended"):
        if isinstance(shown.get(name), int | float):
            shown[name] = moment(shown[name])
    if isinstance(shown.get("error"), Mapping):
        shown["error"] = failure_body(shown["error"])
    return shown


def outcome_body(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a task ended with, from its record."""
    names = ("format", "media_type", "size", "source_size", "source_format", "frames", "bytes", "source_bytes")
    shown = {name: record.get(name) for name in (*names, "data", "timings")}
    return shown | {"cold": bool(record.get("cold"))}


def failure_body(record: Mapping[str, Any]) -> dict[str, Any]:
    """Why a task failed, with the same ``type`` as in problem documents."""
    slug = str(record.get("type", PixelmillError.type))
    cls = ERROR_TYPES.get(slug, PixelmillError)
    return {
        "type": type_uri(slug),
        "title": cls.title,
        "detail": str(record.get("detail", "")),
        "context": dict(record.get("context") or {}),
    }


def upload_body(upload: Upload) -> dict[str, Any]:
    """An upload."""
    return {
        "id": upload.id,
        "name": upload.name,
        "size": upload.size,
        "created": moment(upload.created),
        "expires": moment(upload.expires),
    }


def webhook_body(webhook: Webhook | NewWebhook) -> dict[str, Any]:
    """A webhook, without its secret."""
    return {"id": webhook.id, "url": webhook.url, "job": webhook.job, "created": moment(webhook.created)}


def delivery_body(delivery: Delivery) -> dict[str, Any]:
    """What has become of one message to a webhook."""
    waits = delivery.state == "waiting"
    return {
        "id": delivery.id,
        "webhook": delivery.webhook,
        "job": delivery.job,
        "type": delivery.type,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "next_attempt": moment(max(delivery.due, delivery.created)) if waits else None,
        "status": delivery.status,
        "error": delivery.error,
        "created": moment(delivery.created),
        "ended": moment(delivery.ended),
    }


def page_body(page: Page, body: Any) -> dict[str, Any]:
    """A page of a list; ``body`` turns one item into JSON."""
    return {"items": [body(item) for item in page.items], "next": page.next}


def processed_body(result: RunResult, *, with_image: bool) -> dict[str, Any]:
    """The outcome of one image, with its bytes in Base64 if asked."""
    outcome: Outcome = result.outcome
    image = base64.b64encode(outcome.bytes).decode() if with_image and outcome.bytes is not None else None
    return {**outcome.to_dict(), "target": result.target, "cold": result.cold, "image": image}


def event_text(event: LoggedEvent, *, with_owner: bool = False) -> bytes:
    """One entry of the log as a server-sent event (WHATWG HTML): JSON never holds a line end."""
    whose = {"owner": event.owner} if with_owner else {}
    data = json.dumps({"job": event.job, **whose, "at": moment(event.at), **event.data}, separators=(",", ":"))
    return f"id: {event.id}\nevent: {event.type}\ndata: {data}\n\n".encode()
