"""Is the process alive, can it take work, what is here, and what do problems mean. Open to everybody."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, Response

from pixelmill import __version__
from pixelmill.api import pages
from pixelmill.api.edge import Call
from pixelmill.api.problems import KINDS, explain
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes, parameter
from pixelmill.api.schemas import ReadyBody

routes = Routes("health")
OPENAPI_PATH = "/v1/openapi.json"


@routes.add(
    "GET",
    "/healthz",
    scope=None,
    summary="Is the process alive",
    answers={200: {"description": "Yes", "content": {"application/json": {"example": {"ok": True}}}}},
)
async def get_health(call: Call) -> Response:
    """Answers at once and checks nothing else; for a supervisor that restarts what hangs."""
    del call
    return json_response({"ok": True, "version": __version__}, headers={"cache-control": "no-store"})


@routes.add(
    "GET",
    "/readyz",
    scope=None,
    summary="Can the service take work",
    model=ReadyBody,
    answers={503: {"description": "Not now; the checks say why", "model": ReadyBody}},
)
async def get_ready(call: Call) -> Response:
    """For a load balancer. While the service drains it is not ready."""
    if call.edge.draining:
        checks = {"draining": {"ok": False, "detail": "This process is shutting down."}}
        return json_response({"ready": False, "checks": checks}, 503)
    found = dict(await call.service.ready())
    ready = bool(found.pop("ready", False))
    checks = found.pop("checks", found)
    return json_response({"ready": ready, "checks": checks}, 200 if ready else 503, {"cache-control": "no-store"})


@routes.add(
    "GET",
    "/v1/problems/{slug}",
    scope=None,
    summary="What a problem type means",
    problems=(404,),
    answers={200: {"description": "Meaning, status, advice", "content": {"application/json": {}}}},
    parameters=(
        parameter(
            "slug", "Last part of a problem's `type`", {"enum": list(KINDS)}, where="path", example="busy", must=True
        ),
    ),
)
async def get_problem_type(call: Call) -> Response:
    """The `type` of each problem document points here."""
    return json_response(explain(call.path("slug")))


@routes.add(
    "GET",
    "/",
    scope=None,
    summary="What is here",
    answers={
        200: {
            "description": "Routes and where the documentation is; HTML for browsers",
            "content": {"application/json": {}, "text/html": {}},
        }
    },
)
async def get_index(call: Call) -> Response:
    """The routes of this service, with one line each; to a browser the Studio, where there are pages."""
    app = call.request.scope["app"]
    listed = _listed(app.routes)
    if "text/html" in call.header("accept"):
        studio = pages.document(call.request, "studio") if app.state.has_pages else None
        return studio or HTMLResponse(_page(listed, pages.WITHOUT if app.state.has_pages else ""))
    return json_response({"name": "Pixelmill", "version": __version__, "openapi": OPENAPI_PATH, "routes": listed})


def _listed(routes: Sequence[Any]) -> list[dict[str, str]]:
    return [
        {"method": method, "path": route.path, "summary": route.summary or ""}
        for route in routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


def _page(listed: Sequence[dict[str, str]], missing: str) -> str:
    rows = "".join(
        f"<tr><td><code>{html.escape(item['method'])}</code></td><td><code>{html.escape(item['path'])}</code></td>"
        f"<td>{html.escape(item['summary'])}</td></tr>"
        for item in listed
    )
    example = "curl --data-binary @photo.jpg 'http://HOST/v1/process?pipeline=grayscale/resize:256' -o small.jpg"
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Pixelmill</title>'
        '<meta name="viewport" content="width=device-width"></head><body><h1>Pixelmill</h1>'
        f"<p>Version {html.escape(__version__)}. Image pipelines over one image or a million.</p>"
        f"<p>{html.escape(missing)}</p>"
        f"<p>Try it: <code>{html.escape(example)}</code></p>"
        f'<p>This service in full: <a href="{OPENAPI_PATH}">OpenAPI</a>, <a href="/v1/operations">operations</a>.</p>'
        f"<table><thead><tr><th>Method</th><th>Path</th><th></th></tr></thead><tbody>{rows}</tbody></table>"
        "</body></html>"
    )
