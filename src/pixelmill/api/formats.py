"""Formats that are read and written, with the options of ``format:NAME``."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes
from pixelmill.api.schemas import FormatList
from pixelmill.operations.listing import format_records

routes = Routes("formats")


@routes.add("GET", "/v1/formats", scope="process", summary="List all formats", model=FormatList)
async def list_formats(call: Call) -> Response:
    """What is read and written, with the JSON Schema of each encoder's options; `auto` chooses among them."""
    del call
    return json_response({"items": format_records(), "next": None})
