"""HTTP requests by way of a Function URL, API Gateway (payload formats 1.0 and 2.0) or an Application Load Balancer.

``POST`` an image with ``?pipeline=…`` and the answer is the result; without, ``PIPELINE`` is run. Answers are those of
``POST /v1/process``: an image, or JSON where that is asked for or there is data only; errors are problem documents. A
body of ``application/json`` is a document of ``targets/invocation.py``. ``GET …/healthz`` is for who watches.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from pixelmill import __version__, tracing
from pixelmill.errors import (
    AccessError,
    CapacityError,
    InputError,
    InvalidParameter,
    JobError,
    LimitExceeded,
    NotFound,
    PipelineError,
    PixelmillError,
    RequestError,
    Unauthenticated,
)
from pixelmill.functions.direct import MAX_INLINE, answer, in_trace
from pixelmill.functions.settings import FunctionSettings
from pixelmill.functions.work import Work, run_here
from pixelmill.images.formats import format_named
from pixelmill.pipelines.outcome import Outcome

LINK_S = 3_600
"""How long the link to a result works that is too large to be answered."""
TARGET = "lambda"

_STATUS: Mapping[str, int] = {
    "unsupported-format": 415,
    "task-timeout": 422,
    "out-of-memory": 422,
    "cancelled": 409,
    "invalid-uri": 422,
    "source-refused": 403,
    "object-not-found": 404,
    "object-exists": 409,
    "storage-full": 507,
    "storage-denied": 503,
    "storage-unavailable": 503,
    "not-found": 404,
    "busy": 429,
    "queue-full": 429,
    "model-missing": 501,
    "missing-extra": 501,
    "unauthenticated": 401,
    "connection-failed": 502,
}
"""Statuses that are not their group's; the REST service's own, see docs/errors.md."""
_GROUPS: Mapping[type[PixelmillError], int] = {
    InputError: 422,
    PipelineError: 422,
    JobError: 409,
    CapacityError: 503,
    AccessError: 403,
}
"""Of the others 500."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, whichever way it came. Names of headers are small; of a repeated parameter the last one counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    many_headers: bool = False
    """A load balancer that sends headers as lists takes them as lists only."""
    known: bool = False
    """Who is in front of the function has proved who calls."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a request is done with: ``left_s`` seconds are left for it, ``cold`` where it is the first of its process.

    Types of errors are counted in ``errors``, sizes in ``more``.
    """

    work: Work
    left_s: float
    cold: bool
    errors: Counter[str]
    more: dict[str, float]


def answer_http(event: Mapping[str, Any], call: Call) -> Mapping[str, Any]:
    """The answer to a request."""
    many = "multiValueHeaders" in event and "elb" in event.get("requestContext", {})
    path = "/"
    try:
        request = read_request(event)
        path, many = request.path, request.many_headers
        headers = request.headers
        with in_trace(tracing.parse(headers.get("traceparent", ""), headers.get("tracestate", ""))):
            return _said(*_handled(request, call), many=many)
    except PixelmillError as error:
        call.errors[error.type] += 1
        return _said(*_problem(error, path), many=many)


def read_request(event: Mapping[str, Any]) -> Request:
    """The request in an event; raises :class:`RequestError` for a body that is not what it says."""
    context = event.get("requestContext") or {}
    http = context.get("http")
    if isinstance(http, Mapping):
        query = dict(parse_qsl(event.get("rawQueryString") or "", keep_blank_values=True))
        method, path = str(http.get("method", "GET")), str(event.get("rawPath") or "/")
        many = False
    else:
        method, path = str(event.get("httpMethod", "GET")), str(event.get("path") or "/")
        lists = event.get("multiValueQueryStringParameters") or {}
        query = {
            **(event.get("queryStringParameters") or {}),
            **{name: values[-1] for name, values in lists.items() if values},
        }
        if "elb" in context:  # which hands parameters over as they stood in the address
            query = {unquote_plus(name): unquote_plus(value) for name, value in query.items()}
        many = "elb" in context and "multiValueHeaders" in event
    listed = event.get("multiValueHeaders") or {}
    headers = {name: ", ".join(values) for name, values in listed.items()} | (event.get("headers") or {})
    headers = {name.lower(): value for name, value in headers.items()}
    return Request(method.upper(), path, query, headers, _body(event), many, _is_known(context))


def _is_known(context: Mapping[str, Any]) -> bool:
    """Whether AWS has let the caller through by IAM or by an authorizer: it says so in the context, not the caller.

    A load balancer's own authentication is not told there.
    """
    identity = context.get("identity") or {}
    return bool(context.get("authorizer") or identity.get("userArn"))


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode()
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RequestError(f"The body is no valid Base64: {error}.") from error


_Answer = tuple[int, dict[str, str], bytes]


def _handled(request: Request, call: Call) -> _Answer:
    name = request.path.rstrip("/").rpartition("/")[2]
    if request.method in ("GET", "HEAD"):
        if name in ("healthz", "readyz"):
            return _json(200, {"ok": True, "version": __version__})
        raise NotFound(f"There is nothing at {request.path}. POST an image, with ?pipeline=…", path=request.path)
    if request.method != "POST":
        raise RequestError(f"This function takes POST, not {request.method}.", status=405, allow=["GET", "POST"])
    settings = call.work.settings
    _authenticate(request, settings)
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
        return _direct(request, call)
    pipeline = request.query.get("pipeline") or settings.pipeline
    if not pipeline:
        raise InvalidParameter(
            "No pipeline was named. Add ?pipeline=grayscale/resize:256,256 to the address, or set PIPELINE in the "
            "function's environment.",
            operation="",
            parameter="pipeline",
        )
    if not request.body:
        raise RequestError("The body is empty: send the bytes of an image.")
    settings.limits.check_bytes(len(request.body))
    begun = time.perf_counter()
    outcome = run_here(settings.memory, settings.models)(pipeline, request.body, settings.limits)
    call.more["BytesIn"] = len(request.body)
    call.more["BytesOut"] = len(outcome.bytes or b"")
    call.more["Megapixels"] = outcome.source_size.pixels / 1e6
    return _result(request, outcome, call.work, (time.perf_counter() - begun) * 1e3)


def _authenticate(request: Request, settings: FunctionSettings) -> None:
    if not settings.token:
        if request.known or settings.insecure:
            return
        raise Unauthenticated(
            "This function would work for everybody. Set PIXELMILL_TOKEN in its environment and show it, or let AWS "
            "ask who calls (AuthType AWS_IAM, an authorizer); or set PIXELMILL_INSECURE=true where it is to be open."
        )
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    shown = hashlib.sha256(token.strip().encode("utf-8", "replace")).digest()
    if kind.lower() != "bearer" or not hmac.compare_digest(shown, hashlib.sha256(settings.token.encode()).digest()):
        raise Unauthenticated("Send the function's token (PIXELMILL_TOKEN) as Authorization: Bearer TOKEN.")


def _direct(request: Request, call: Call) -> _Answer:
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"The body is no JSON: {str(error)[:200]}.") from error
    if not isinstance(document, Mapping):
        raise RequestError("The document must be an object.")
    settings = call.work.settings
    follows = request.known or bool(settings.token)  # which was shown; of everybody the function fetches nothing
    return _json(200, answer(document, settings, call.left_s, call.errors, cold=call.cold, follows=follows))


def _result(request: Request, outcome: Outcome, work: Work, milliseconds: float) -> _Answer:
    timings = outcome.timings
    headers = {
        "server-timing": f"decode;dur={timings.decode_ms:.2f}, apply;dur={timings.apply_ms:.2f}, "
        f"encode;dur={timings.encode_ms:.2f}, all;dur={milliseconds:.2f}",
        "x-pixelmill-target": TARGET,
    }
    accept = request.headers.get("accept", "")
    as_json = "application/json" in accept and "image/" not in accept
    body = outcome.bytes
    if body is not None and len(body) > (MAX_INLINE * 3 // 4 if as_json else MAX_INLINE):
        return _by_link(outcome, body, work, as_json=as_json)
    if body is None or as_json:
        image = None if body is None else base64.b64encode(body).decode()
        status, told, document = _json(200, {**outcome.to_dict(), "target": TARGET, "image": image})
        return status, {**headers, **told}, document
    if outcome.data:
        text = json.dumps(dict(outcome.data), separators=(",", ":"))
        headers["x-pixelmill-data"] = text if len(text) <= 4_000 else "too-large"
    return 200, {**headers, "content-type": outcome.media_type or "application/octet-stream"}, body


def _by_link(outcome: Outcome, body: bytes, work: Work, *, as_json: bool) -> _Answer:
    """What Lambda can't answer goes to the output bucket, and the answer leads there."""
    settings = work.settings
    if not settings.output:
        raise LimitExceeded(
            f"The result has {len(body):,} bytes; {MAX_INLINE:,} fit into an answer of Lambda. Ask for fewer pixels "
            "or a lower quality, or set OUTPUT_BUCKET, so that large results go there and the answer is a link.",
            limit="reply",
            value=len(body),
            maximum=MAX_INLINE,
        )
    base = settings.output if "://" in settings.output else f"s3://{settings.output}"
    extension = format_named(outcome.format or "").extension
    # The name is the content's: the same result again is the same object.
    uri = f"{base}/{settings.prefix}http/{hashlib.sha256(body).hexdigest()}{extension}"
    work.objects.put(uri, body, outcome.media_type or "")
    link = work.objects.link(uri, LINK_S)
    if as_json:
        return _json(200, {**outcome.to_dict(), "target": TARGET, "image": None, "url": link})
    status, headers, document = _json(303, {"url": link, "bytes": len(body), "expires_s": LINK_S})
    return status, {**headers, "location": link}, document


def status_of(error: PixelmillError) -> int:
    """The HTTP status of an error, as the REST service has it."""
    if error.type == "limit-exceeded" and error.context.get("limit") in ("bytes", "reply"):
        return 413
    if error.type == "invalid-request":
        status = error.context.get("status", 400)
        return status if isinstance(status, int) else 400
    if error.type in _STATUS:
        return _STATUS[error.type]
    return next((status for group, status in _GROUPS.items() if isinstance(error, group)), 500)


def _problem(error: PixelmillError, path: str) -> _Answer:
    status = status_of(error)
    document = {
        "type": f"/v1/problems/{error.type}",
        "title": error.title,
        "status": status,
        "detail": error.detail,
        "instance": path,
        "retryable": error.retryable,
        "context": {name: value for name, value in error.context.items() if name != "status"},
    }
    headers = {"content-type": "application/problem+json"}
    if status == 401:
        headers["www-authenticate"] = 'Bearer realm="pixelmill"'
    if status == 405:
        headers["allow"] = ", ".join(error.context.get("allow", ()))
    if status in (429, 503, 507) and error.retryable:
        headers["retry-after"] = "1"
    return status, headers, json.dumps(document, default=str).encode()


def _json(status: int, value: Any) -> _Answer:
    return status, {"content-type": "application/json"}, json.dumps(value, separators=(",", ":")).encode()


def _said(status: int, headers: dict[str, str], body: bytes, *, many: bool) -> Mapping[str, Any]:
    """The answer in Lambda's form; an image in Base64, as everything binary."""
    text = headers.get("content-type", "").partition(";")[0] in ("application/json", "application/problem+json")
    answered: dict[str, Any] = {
        "statusCode": status,
        "headers": headers,
        "body": body.decode() if text else base64.b64encode(body).decode(),
        "isBase64Encoded": not text,
    }
    if many:
        answered["multiValueHeaders"] = {name: [value] for name, value in headers.items()}
        answered["statusDescription"] = f"{status}"
    return answered
