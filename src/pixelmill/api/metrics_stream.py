"""``GET /v1/metrics/stream``: what the service does, each second, as server-sent events."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.events import EventStream
from pixelmill.api.routes import Routes

routes = Routes("machine")

_STREAM = {
    200: {
        "description": "Events `sample` with JSON data, one a second; what a reader was too slow for is gone",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'event: sample\ndata: {"at":1772366400.0,"nodes":[…],"overflow":[],"budget":null,'
                '"row":{"at":1772366400.0,"succeeded":12.0,…,"reasons":{}},"jobs_running":1}\n\n',
            }
        },
    }
}


@routes.add(
    "GET",
    "/v1/metrics/stream",
    scope="admin",
    summary="Follow load and metrics, second by second",
    problems=(429,),
    answers=_STREAM,
)
async def follow_metrics(call: Call) -> Response:
    """`nodes` as `/v1/nodes` lists them, without their history; `overflow`: the paid targets, as in its `dispatcher`.

    `budget` has `limit`, `spent`, `reserved` and `left` of this `hour` and `day` (null without overflow), `row` the
    newest row of the hour's history by column with its `reasons` and `targets` (null before the first). It ends when
    the service stops.
    """
    return EventStream(call, call.service.live(), _text)


def _text(sample: bytes) -> bytes:
    return b"event: sample\ndata: " + sample + b"\n\n"
