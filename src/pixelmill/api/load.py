"""``GET /v1/load``: what this process does now, in a few bytes, for whoever sends it work."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes
from pixelmill.api.schemas import LoadBody

routes = Routes("machine")


@routes.add("GET", "/v1/load", scope="process", summary="What this process does now", model=LoadBody)
async def get_load(call: Call) -> Response:
    """Slots of its own pool, what waits for them, CPU and RAM in percent, and whether its gate is open."""
    return json_response(dict(call.service.load()), headers={"cache-control": "no-store"})
