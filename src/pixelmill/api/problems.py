"""Errors as RFC 9457 problem documents, and the one table from error types to HTTP status.

Everything that goes wrong leaves the service through here, FastAPI's own errors included. Details of unexpected
exceptions go to the log, never to the client.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelmill.errors import ERROR_TYPES, NotFound, PixelmillError, RequestError

MEDIA_TYPE = "application/problem+json"
PREFIX = "/v1/problems/"
DEFAULT_RETRY_AFTER_S = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """How one error type is answered: its status, and what a person may do about it (for the explanation page)."""

    status: int
    advice: str


KINDS: Mapping[str, Kind] = {
    "internal": Kind(500, "A defect in Pixelmill. The log has the details under the request id."),
    "invalid-image": Kind(422, "The image can't be processed. Look at it with `pixelmill inspect FILE`."),
    "unsupported-format": Kind(
        415,
        "Send a JPEG, PNG, WebP, AVIF, GIF or other image that is read. Declared types and extensions don't count.",
    ),
    "corrupt-image": Kind(422, "The file is truncated or broken. Send it again from its source."),
    "limit-exceeded": Kind(422, "The image is too large: 413 for bytes, else 422. Shrink it, or raise the limit."),
    "invalid-pipeline": Kind(422, "The pipeline can't be run as written."),
    "pipeline-syntax": Kind(422, "Check the text or JSON form of the pipeline at the position given."),
    "unknown-operation": Kind(422, "See /v1/operations for all names; `context.nearest` has the nearest ones."),
    "invalid-parameter": Kind(422, "See /v1/operations/NAME for parameters and ranges."),
    "not-applicable": Kind(422, "The operation is valid, but not for this image."),
    "not-tileable": Kind(
        422,
        "The image is too large to be held whole, and a step needs it whole. Shrink it, or leave the step out.",
    ),
    "run-failed": Kind(500, "The attempt failed for a reason of the machine. Try again; then look at the log."),
    "task-timeout": Kind(422, "The work takes longer than allowed, and will again. Use a smaller image or less work."),
    "out-of-memory": Kind(422, "The work needs more memory than a process may have. Use a smaller image."),
    "node-lost": Kind(500, "The machine went away under the task. It may be retried."),
    "target-unavailable": Kind(503, "The place that was chosen did not take the task. Try again."),
    "worker-crashed": Kind(500, "The process died under the task. It may be retried; report it if it happens again."),
    "cancelled": Kind(409, "Somebody cancelled the work. Retry the job if you still want it."),
    "storage-error": Kind(500, "Bytes could not be read or written. The log says why."),
    "invalid-uri": Kind(422, "Sources are addresses such as file:///folder/photo.jpg, or ids of uploads."),
    "source-refused": Kind(403, "The service reads files only below its source roots (`--source-root`)."),
    "object-not-found": Kind(404, "The bytes are no longer there: they have expired or were removed."),
    "object-exists": Kind(409, "Something else is stored there already."),
    "storage-full": Kind(507, "The disk is full. Free some space, then try again."),
    "storage-denied": Kind(503, "The service may not write to its store. Check permissions of the data folder."),
    "storage-unavailable": Kind(503, "The store does not answer. Try again later."),
    "job-error": Kind(409, "The job does not allow this."),
    "not-found": Kind(404, "There is no such thing, or it belongs to somebody else."),
    "illegal-transition": Kind(409, "The state does not allow this. Read it first."),
    "no-image": Kind(409, "The pipeline gives data and no image. Read the task: its outcome has the data."),
    "idempotency-conflict": Kind(409, "The key was used for another request. Use a new key."),
    "no-capacity": Kind(503, "No room now. Try again after the time in Retry-After."),
    "busy": Kind(429, "All workers are busy. Try again after the time in Retry-After, or submit a job."),
    "queue-full": Kind(429, "Too much work waits. Try again after the time in Retry-After."),
    "shutting-down": Kind(503, "This process is draining. Try again after the time in Retry-After."),
    "model-error": Kind(500, "A model could not be used. The detail says why."),
    "model-missing": Kind(501, "Weights of a model are missing on the service; the detail names the command."),
    "model-refused": Kind(500, "Weights are broken or of another kind: `pixelmill models verify` says which."),
    "access-error": Kind(403, "Access was refused."),
    "unauthenticated": Kind(401, "Send `Authorization: Bearer pm_…`; `pixelmill tokens create` makes a token."),
    "forbidden": Kind(403, "The token's scopes don't cover this, or a browser page of another site asked."),
    "invalid-request": Kind(400, "The request has not the form it must have: 400, or a more exact status."),
    "connection-failed": Kind(502, "Another service could not be reached."),
    "invalid-configuration": Kind(500, "A setting of the service is wrong. The log names it."),
    "missing-extra": Kind(501, "An optional part is not installed on the service; the detail names the command."),
}
"""Every error type of the tree. Timeouts are 422, not 504: gateways and clients retry a 504, and the same minute of
work would be lost again."""

WITH_RETRY_AFTER = frozenset({429, 503, 507})


def status_of(error: PixelmillError) -> int:
    """The HTTP status of an error; of a type that is not in the table, 500."""
    if error.type == "limit-exceeded" and error.context.get("limit") == "bytes":
        return 413
    if error.type == "invalid-request":
        status = error.context.get("status", 400)
        return status if isinstance(status, int) and 400 <= status < 500 else 400
    kind = KINDS.get(error.type)
    return kind.status if kind else 500


def type_uri(slug: str) -> str:
    """The stable reference of an error type, which the service itself explains."""
    return PREFIX + slug


def problem(error: PixelmillError, *, instance: str, request_id: str) -> dict[str, Any]:
    """The problem document: RFC 9457's members, and ``request_id``, ``retryable`` and ``context`` beside them."""
    status = status_of(error)
    hidden = status == 500 and error.type == "internal"
    return {
        "type": type_uri(error.type),
        "title": error.title,
        "status": status,
        "detail": "Something went wrong inside the service." if hidden else error.detail,
        "instance": instance,
        "request_id": request_id,
        "retryable": error.retryable,
        "context": {} if hidden else {name: value for name, value in error.context.items() if name != "status"},
    }


def problem_headers(error: PixelmillError) -> list[tuple[bytes, bytes]]:
    """Headers that belong to the status: ``Retry-After`` in whole seconds, ``WWW-Authenticate``, ``Allow``."""
    status = status_of(error)
    headers = []
    if status in WITH_RETRY_AFTER and (error.retryable or "retry_after" in error.context):
        seconds = error.context.get("retry_after", DEFAULT_RETRY_AFTER_S)
        whole = max(1, round(seconds)) if isinstance(seconds, int | float) else DEFAULT_RETRY_AFTER_S
        headers.append((b"retry-after", str(whole).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b'Bearer realm="pixelmill"'))
    if status == 405 and "allow" in error.context:
        headers.append((b"allow", ", ".join(error.context["allow"]).encode()))
    if error.type == "shutting-down":
        headers.append((b"connection", b"close"))
    return headers


def encode_problem(error: PixelmillError, *, instance: str, request_id: str) -> bytes:
    """The document as JSON; values that JSON doesn't know become text."""
    return json.dumps(problem(error, instance=instance, request_id=request_id), default=str).encode()


def from_http_status(status: int, path: str, method: str, allowed: Sequence[str] = ()) -> PixelmillError:
    """What Starlette's own HTTP errors mean here; ``allowed`` are the methods that the path takes."""
    if status == 404:
        return NotFound(f"There is nothing at {path}. / lists what there is.", path=path)
    if status == 405:
        named = " and ".join(allowed)
        return RequestError(f"{path} doesn't take {method}; it takes {named}.", status=405, allow=list(allowed))
    return RequestError(f"The request can't be understood ({status}).", status=status)


def from_validation(errors: Sequence[Mapping[str, Any]]) -> RequestError:
    """The first few of pydantic's complaints as one sentence, all of them (without the input) in the context."""
    listed = [
        {"where": ".".join(str(part) for part in item.get("loc", ())), "why": str(item.get("msg", "")).rstrip(".")}
        for item in errors[:20]
    ]
    sentence = "; ".join(f"{item['where'] or 'the body'}: {item['why']}" for item in listed[:3])
    return RequestError(f"The request is not of the right form: {sentence}.", errors=listed)


def explain(slug: str) -> dict[str, Any]:
    """What ``/v1/problems/SLUG`` says; raises :class:`NotFound`."""
    cls, kind = ERROR_TYPES.get(slug), KINDS.get(slug)
    if cls is None or kind is None:
        raise NotFound(f"There is no problem type {slug!r}.", nearest=[])
    return {
        "type": type_uri(slug),
        "title": cls.title,
        "status": kind.status,
        "retryable": cls.retryable,
        "meaning": " ".join((cls.__doc__ or "").replace("``", "`").replace(":class:", "").split()),
        "advice": kind.advice,
    }


def errors_page() -> str:
    """``docs/errors.md``: every type with its status; a test keeps the file equal to this."""
    lines = [
        "# Errors",
        "",
        "Every error of the REST service is a problem document (RFC 9457, `application/problem+json`) with `type`,",
        "`title`, `status`, `detail` (what happened, why, what to do), `instance` (the path asked for), `request_id`",
        "(also in `X-Request-ID`, and in the log), `retryable`, and `context` (values for programs). Match on the last",
        "part of `type`: it is stable. The command line and the Python client raise the same types. The service",
        f"explains each at `{PREFIX}TYPE`. This page is made by `python -m pixelmill.api.docs`.",
        "",
        "| type | status | may be retried | title | what to do |",
        "|---|---|---|---|---|",
    ]
    for slug, kind in KINDS.items():
        cls = ERROR_TYPES[slug]
        status = {"limit-exceeded": "413 or 422", "invalid-request": "4xx"}.get(slug, str(kind.status))
        lines.append(f"| `{slug}` | {status} | {'yes' if cls.retryable else 'no'} | {cls.title} | {kind.advice} |")
    lines += [
        "",
        "429, 503 and 507 carry `Retry-After` in seconds where another attempt may succeed, 401 `WWW-Authenticate`,",
        "405 `Allow`. Work that takes longer than its time limit is 422, not 504: gateways and clients retry a 504, so",
        "the same work would be lost again. Requests that HTTP itself forbids (a broken request line, headers",
        "larger than 64 KB, or none within 20 s) end before the service sees them: 400, 431 or 408.",
        "",
    ]
    return "\n".join(lines)
