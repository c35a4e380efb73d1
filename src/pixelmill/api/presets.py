"""Presets: the pipelines that ``preset:NAME`` stands for in requests to this service."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes
from pixelmill.api.schemas import PresetList
from pixelmill.pipelines.lacks import described

routes = Routes("presets")


@routes.add("GET", "/v1/presets", scope="process", summary="List all presets", model=PresetList)
async def list_presets(call: Call) -> Response:
    """The built-in ones and those of the service's configuration; `pipeline` has the steps written out.

    One that can't be used here has `available` false, and `missing` says what it lacks and which command brings that.
    `images` are references for which an image must be given, such as an upload's (`upload:ID`) put in their place.
    """
    known, models = call.edge.settings.presets, call.edge.models
    return json_response({"items": [described(preset, known, models) for preset in known], "next": None})
