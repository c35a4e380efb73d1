"""The machines that run tasks, and the metrics of this process."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.metrics_schemas import HistoryBody, SummaryBody
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes, parameter
from pixelmill.api.schemas import NodeList
from pixelmill.metrics import CONTENT_TYPE

routes = Routes("machine")


@routes.add("GET", "/v1/nodes", scope="admin", summary="List machines with their load", model=NodeList)
async def list_nodes(call: Call) -> Response:
    """Load now, targets and slots, and samples of the last hour."""
    return json_response({"items": [dict(node) for node in await call.service.nodes()], "next": None})


@routes.add(
    "GET",
    "/v1/metrics/history",
    scope="admin",
    summary="Metrics of the last hour or day",
    problems=(400,),
    model=HistoryBody,
    parameters=(parameter("range", "`hour` by second, `day` by minute", {"enum": ["hour", "day"]}),),
)
async def get_history(call: Call) -> Response:
    """Throughput, queue, waiting and running times, errors, overflow and its cost, refusals, of what this process saw.

    Where services share a Redis, of what all of them recorded.
    """
    return json_response(call.service.history(call.query("range") or "hour"), headers={"cache-control": "no-store"})


@routes.add(
    "GET",
    "/v1/metrics/summary",
    scope="admin",
    summary="Every metric of the last minute, hour or day, in one document",
    problems=(400,),
    model=SummaryBody,
    parameters=(parameter("span", "How far back; `hour` where it is left out", {"enum": ["minute", "hour", "day"]}),),
)
async def get_summary(call: Call) -> Response:
    """Invocations, durations, errors, refusals, runs at once, events, cold starts, bytes, own machines and overflow.

    Of what this process saw since it started; where services share a Redis, of what all of them and their workers saw.
    A span begins up to a second, a minute or a quarter of an hour earlier than its name says.
    """
    return json_response(call.service.summary(call.query("span") or "hour"), headers={"cache-control": "no-store"})


@routes.add(
    "GET",
    "/metrics",
    scope="admin",
    summary="Metrics for Prometheus",
    answers={200: {"description": "Prometheus text", "content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def get_metrics(call: Call) -> Response:
    """Counters tell how much others do here, so where tokens are needed this needs one with `admin`."""
    return Response(call.service.metrics.render(), 200, {"content-type": CONTENT_TYPE})
