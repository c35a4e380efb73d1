"""Requests and responses as plain values, and how answers and problem documents are read. No I/O.

This is the half of the HTTP API that both clients share; it must not know httpx.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from pixelmill.client.values import Processed, slug_of
from pixelmill.errors import (
    ERROR_TYPES,
    Busy,
    Forbidden,
    NotFound,
    PixelmillError,
    RequestError,
    StorageUnavailable,
    Unauthenticated,
    error_from_dict,
)


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. A ``body`` that is a path is streamed from disk.

    ``answer_s``: seconds that the answer may take to begin, where it is slower than others.
    ``repeatable``: sending it twice does no harm, so a connection that broke in the middle is no reason to give up.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | Path | None = None
    repeatable: bool = True
    answer_s: float | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON; raises :class:`RequestError` where it is none."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise RequestError(
                f"The service answered {self.status} with something that is not JSON. Check that the URL is that of a "
                "Pixelmill service, and that no proxy answers in its place.",
                status=self.status,
            ) from error


def post_json(path: str, body: Any, *, headers: Mapping[str, str] | None = None, repeatable: bool = True) -> Request:
    """A POST of a JSON body."""
    return Request(
        "POST",
        path,
        headers={"content-type": "application/json", **(headers or {})},
        body=json.dumps(body).encode(),
        repeatable=repeatable,
    )


def segment(text: str) -> str:
    """Text as one segment of a URL path."""
    return quote(text, safe="")


def pipeline_text(pipeline: Any) -> str:
    """A pipeline's text or JSON form: text as it is, a list as JSON, anything else as it prints itself."""
    if isinstance(pipeline, (list, dict)):
        return json.dumps(pipeline, separators=(",", ":"))
    return str(pipeline)


# What an answer without a problem document (a proxy's, another program's) means.
_BY_STATUS: Mapping[int, type[PixelmillError]] = {
    401: Unauthenticated,
    403: Forbidden,
    404: NotFound,
    429: Busy,
    502: StorageUnavailable,
    503: Busy,
    504: StorageUnavailable,
}


def read_problem(response: Response) -> PixelmillError:
    """The error that a response of status 400 or above stands for; its context has ``status`` and ``retry_after``."""
    context: dict[str, Any] = {"status": response.status}
    wait = retry_after(response)
    if wait is not None:
        context["retry_after"] = wait
    try:
        record = json.loads(response.body)
    except ValueError:
        record = None
    if not isinstance(record, Mapping):
        cls = _BY_STATUS.get(response.status, RequestError)
        return cls(f"The service answered {response.status} without saying why.", **context)
    slug = slug_of(record.get("type"))
    members = {k: v for k, v in record.items() if k not in {"type", "title", "status", "detail", "instance", "context"}}
    context = {**members, **(record.get("context") or {}), **context}
    context = {name: value for name, value in context.items() if name not in {"self", "detail"}}
    detail = str(record.get("detail") or record.get("title") or f"The service answered {response.status}.")
    if slug not in ERROR_TYPES:
        cls = _BY_STATUS.get(response.status, RequestError)
        return cls(detail, **context)
    return error_from_dict({"type": slug, "detail": detail, "context": context})


def retry_after(response: Response) -> float | None:
    """Seconds of ``Retry-After``, where it is given as a number (the service never sends a date)."""
    try:
        return max(0.0, float(response.headers.get("retry-after", "")))
    except ValueError:
        return None


DATA_HEADER, DATA_TOO_LARGE = "x-pixelmill-data", "too-large"


def read_processed(response: Response) -> Processed:
    """The answer of ``POST /v1/process``: image bytes, or a JSON document for pipelines that give data only.

    ``data`` is None where there is more of it than the header could hold.
    """
    timings = read_server_timing(response.headers.get("server-timing", ""))
    target = response.headers.get("x-pixelmill-target")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip() or None
    if media_type == "application/json":
        record = response.json()
        data = record.get("data", record) if isinstance(record, Mapping) else {}
        return Processed(None, None, data, timings, target)
    return Processed(response.body, media_type, read_data(response), timings, target)


def read_data(response: Response) -> Any:
    """What came beside an image in a header; None where there is more of it than a header could hold."""
    header = response.headers.get(DATA_HEADER, "{}")
    return None if header == DATA_TOO_LARGE else json.loads(header)


def read_server_timing(header: str) -> dict[str, float]:
    """``Server-Timing`` as milliseconds by name."""
    timings: dict[str, float] = {}
    for name, parameters in _METRIC.findall(header):
        duration = _DURATION.search(parameters)
        if duration is not None:
            timings[name] = float(duration[1])
    return timings


# W3C Server Timing: a name, then parameters whose values are tokens or quoted strings.
_METRIC = re.compile(r'([\w-]+)((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s;,"]*))*)')
_DURATION = re.compile(r'(?:^|;)\s*dur\s*=\s*"?([0-9.]+)')
