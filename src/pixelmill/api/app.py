"""The FastAPI application: routes, middleware, error handlers and lifespan around one service.

No application is made at import.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import ModuleType

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute

from pixelmill import __version__, logs
from pixelmill.api import (
    dead_letters,
    event_intake,
    event_root,
    events,
    formats,
    health,
    jobs,
    join,
    links,
    load,
    metrics_stream,
    montage,
    nodes,
    operations,
    pages,
    presets,
    process,
    saved,
    search,
    session,
    tasks,
    thumbnails,
    triggers,
    uploads,
    webhooks,
)
from pixelmill.api.auth import check_address
from pixelmill.api.edge import Edge
from pixelmill.api.middleware import EdgeMiddleware
from pixelmill.api.openapi import describe
from pixelmill.api.problems import from_http_status, from_validation
from pixelmill.api.responses import problem_response
from pixelmill.api.settings import ApiSettings
from pixelmill.errors import PixelmillError
from pixelmill.service import Service
from pixelmill.triggers.verbs import TriggerRuntime

_LOGGED = {"unauthenticated": "auth.failed", "forbidden": "auth.denied"}
# The most asked first: routes are tried in order.
RESOURCES = (
    process,
    uploads,
    links,
    jobs,
    montage,
    tasks,
    search,
    thumbnails,
    events,
    event_intake,
    dead_letters,
    webhooks,
    triggers,
    session,
    operations,
    formats,
    presets,
    saved,
    metrics_stream,
    nodes,
    load,
    health,
)
# What a node without a hub serves.
CONTAINER = (process, event_intake, event_root, operations, formats, load, health)


def create_app(
    service: Service,
    settings: ApiSettings,
    resources: Sequence[ModuleType] = RESOURCES,
    triggers: TriggerRuntime | None = None,
) -> FastAPI:
    """The application over ``service`` and ``triggers``, which its lifespan starts and stops.

    ``resources`` are what it serves.
    """
    edge = Edge(service, settings, triggers)
    app = FastAPI(
        title="Pixelmill",
        version=__version__,
        lifespan=_lifespan,
        # The interactive pages load scripts from elsewhere; / and docs/rest.md take their place.
        docs_url=None,
        redoc_url=None,
        openapi_url=health.OPENAPI_PATH,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    app.state.edge = edge
    for resource in resources:
        resource.routes.add_to(app)
    app.state.has_pages = resources is RESOURCES
    if resources is RESOURCES:
        app.router.routes.append(WebSocketRoute(join.PATH, join.join))
        app.router.routes.extend(pages.routes())
    app.add_middleware(EdgeMiddleware, edge=edge)
    app.add_exception_handler(PixelmillError, _on_error)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.openapi = lambda: describe(app)  # type: ignore[method-assign]  # FastAPI's documented way to extend it
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    edge: Edge = app.state.edge
    try:
        await _start(edge)
    except BaseException as error:
        # The server only says that start-up failed; whoever runs it wants to know why.
        edge.startup_error = error
        raise
    try:
        yield
    finally:
        edge.drain()
        try:
            if edge.triggers is not None:
                await edge.triggers.stop()
        finally:
            await edge.service.stop()


async def _start(edge: Edge) -> None:
    """Start the service; end it again where it would be open to others, or closed to everybody."""
    settings, service = edge.settings, edge.service
    await service.start()
    try:
        check_address(settings, has_tokens=not settings.tokens_needed or await service.has_tokens())
        if edge.triggers is not None:
            await edge.triggers.start()
    except BaseException:
        await service.stop()
        raise
    if settings.insecure and not settings.on_loopback:
        logs.event("service.insecure", host=settings.host)


async def _on_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, PixelmillError)
    if error.type == "internal":
        logs.event("request.failed", error=error, path=request.scope["path"])
    elif error.type in _LOGGED:
        logs.event(_LOGGED[error.type], path=request.scope["path"], detail=error.detail)
    return problem_response(error, request.scope)


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.scope["path"]
    allowed = _allowed(request.app, path) if error.status_code == 405 else ()
    translated = from_http_status(error.status_code, path, request.method, allowed)
    return problem_response(translated, request.scope)


def _allowed(app: FastAPI, path: str) -> list[str]:
    """The methods of all routes of a path; the router names those of the first one only."""
    matching = (route for route in app.routes if isinstance(route, Route) and route.path_regex.match(path))
    return sorted({method for route in matching for method in route.methods or ()})


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(from_validation(error.errors()), request.scope)
