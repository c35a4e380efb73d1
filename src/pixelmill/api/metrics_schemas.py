"""Shapes of the metrics that pages and tools read; see ``schemas.py``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pixelmill.api.schemas import Answer


class HistoryBody(Answer):
    """Metrics over time: columns of equal length, oldest first; errors by reason where there were any.

    `targets`: tasks of the range by where they ran.
    """

    range: Literal["hour", "day"]
    step_s: int
    columns: dict[str, list[float | None]]
    errors: list[dict[str, Any]]
    targets: Annotated[dict[str, int], Field(examples=[{"local": 120, "run": 14}])]


class DurationsBody(Answer):
    """Seconds; null where there are none. Percentiles are exact to 5 %, `average` and `max` to the digit."""

    count: int
    average: float | None
    p50: float | None
    p90: float | None
    p95: float | None
    p99: float | None
    max: float | None


class ErrorsBody(Answer):
    """Invocations that failed, by error type; of more than 20 types the rest are `other`."""

    total: int
    by_reason: Annotated[dict[str, int], Field(examples=[{"corrupt-image": 3}])]


class ConcurrentBody(Answer):
    """Tasks at once, of all processes: now, and the most within the span."""

    now: int
    peak: int


class EventsBody(Answer):
    """Events of objects, by what became of them; `age_s` is from an object's appearance to its event being accepted."""

    received: int
    accepted: int
    dropped: int
    by_result: Annotated[dict[str, int], Field(examples=[{"accepted": 120, "duplicate": 4}])]
    age_s: DurationsBody


class BytesBody(Answer):
    """Of sources read and results made by what succeeded; names are `in` and `out`."""

    into: Annotated[int, Field(alias="in")]
    out: int


class ShareBody(Answer):
    """Tasks, and what they cost in the currency of the prices."""

    tasks: int
    cost: float


class SummaryBody(Answer):
    """Every metric of a span. `invocations` are tasks of jobs and synchronous images that ended, cancelled ones not.

    `from` and `to` are seconds since the epoch (null before the first second). `duration_s` is from started to ended,
    `wait_s` from queued to started. `throttled`: requests answered with 429 or 503, and overflow calls with 429.
    `cold_starts`: of those that succeeded. `targets`: tasks by where they ran.
    """

    span: Literal["minute", "hour", "day"]
    since: Annotated[float | None, Field(alias="from")]
    to: float | None
    invocations: int
    succeeded: int
    success_rate: float | None
    cancelled: int
    errors: ErrorsBody
    duration_s: DurationsBody
    wait_s: DurationsBody
    throttled: int
    concurrent: ConcurrentBody
    events: EventsBody
    cold_starts: int
    bytes: BytesBody
    megapixels: float
    own: ShareBody
    overflow: ShareBody
    targets: Annotated[dict[str, int], Field(examples=[{"local": 120, "run": 14}])]
