"""Registers handlers: path, scope, and documentation in one call; access is checked before the handler runs."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from pixelmill.api.auth import Scope, check_scope
from pixelmill.api.edge import Call, Edge
from pixelmill.api.problems import MEDIA_TYPE
from pixelmill.api.responses import OWNER_KEY
from pixelmill.api.schemas import ProblemBody

Handler = Callable[[Call], Awaitable[Response]]
REASONS: Mapping[int, str] = {
    400: "The request has not the form it must have",
    401: "A valid token is needed",
    403: "The token's scopes don't cover this",
    404: "There is no such thing, or it is not yours",
    409: "Not possible in this state, or the idempotency key was used for another request",
    413: "The body is larger than allowed",
    415: "Not an image, or of a format that is not read; or not the declared type that is needed",
    416: "The range lies behind the end; Content-Range has the length",
    422: "The pipeline or the image can't be processed",
    429: "All workers are busy, or too much waits; see Retry-After",
    503: "Draining, or the store is unavailable; see Retry-After",
    507: "The store is full",
}


def parameter(
    name: str,
    description: str,
    schema: Mapping[str, Any],
    *,
    where: str = "query",
    example: Any = None,
    must: bool = False,
) -> dict[str, Any]:
    """An OpenAPI parameter."""
    described = {"name": name, "in": where, "required": must, "description": description, "schema": dict(schema)}
    return described if example is None else {**described, "example": example}


def path_id(name: str, example: str) -> dict[str, Any]:
    """The id in a path."""
    return parameter(
        name, f"The {name.replace('_', ' ')}", {"type": "string"}, where="path", example=example, must=True
    )


LIMIT = parameter("limit", "Most items of the page", {"type": "integer", "minimum": 1, "maximum": 1000})
CURSOR = parameter("cursor", "`next` of the page before", {"type": "string"})
STATE = parameter(
    "state",
    "Only those in this state",
    {"type": "string", "enum": ["queued", "running", "succeeded", "failed", "cancelled"]},
)
BINARY: Mapping[str, Any] = {"schema": {"type": "string", "format": "binary"}}


def content_of(model: type[BaseModel]) -> dict[str, Any]:
    """A JSON request body: the model's schema inline, with its examples."""
    schema = model.model_json_schema()
    examples = schema.pop("examples", [])
    named = {f"example {number}": {"value": value} for number, value in enumerate(examples, 1)}
    return {"application/json": {"schema": schema, "examples": named}}


class Routes:
    """The routes of one resource."""

    def __init__(self, tag: str) -> None:
        self._tag = tag
        self._routes: list[dict[str, Any]] = []

    def add(
        self,
        method: str,
        path: str,
        *,
        scope: Scope | None,
        summary: str,
        problems: Sequence[int] = (),
        model: type[BaseModel] | None = None,
        status: int = 200,
        answers: Mapping[int, Mapping[str, Any]] | None = None,
        parameters: Sequence[Mapping[str, Any]] = (),
        body: Mapping[str, Any] | None = None,
    ) -> Callable[[Handler], Handler]:
        """Register the decorated handler. ``scope`` None: open to everybody.

        ``model`` documents the JSON answer of ``status``; ``answers`` adds or refines answers by status. The
        handler's docstring becomes the description.
        """
        every = sorted({*problems, *(() if scope is None else (401, 403, 503))})
        documented: dict[int | str, dict[str, Any]] = {
            code: {"description": REASONS[code], "content": {MEDIA_TYPE: {"schema": _PROBLEM_REF}}} for code in every
        }
        for code, answer in (answers or {}).items():
            documented[code] = dict(answer)
        extra: dict[str, Any] = {"parameters": [dict(item) for item in parameters]}
        if scope is not None:
            extra |= {"security": [{"token": []}], "x-scope": scope}
        if body is not None:
            extra["requestBody"] = {"required": True, "content": dict(body)}

        def register(handler: Handler) -> Handler:
            self._routes.append(
                {
                    "path": path,
                    "endpoint": _endpoint(handler, scope),
                    "methods": [method],
                    "tags": [self._tag],
                    "summary": summary,
                    "description": inspect.getdoc(handler),
                    "operation_id": handler.__name__,
                    "response_model": model,
                    "response_class": Response if model is None else _Json,
                    "status_code": status,
                    "responses": documented,
                    "openapi_extra": extra,
                }
            )
            return handler

        return register

    def add_to(self, app: FastAPI) -> None:
        """Register all routes with the application itself: an included router costs a second matching a request."""
        for route in self._routes:
            app.router.add_api_route(route_class_override=DirectRoute, **route)


_PROBLEM_REF = {"$ref": f"#/components/schemas/{ProblemBody.__name__}"}


class DirectRoute(APIRoute):
    """Hands the request to its endpoint: there is nothing for FastAPI to parse, to inject or to validate (25 µs)."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The endpoint itself."""
        endpoint: Callable[[Request], Coroutine[Any, Any, Response]] = self.endpoint
        return endpoint


class _Json(Response):
    """Only tells OpenAPI that the answer is JSON."""

    media_type = "application/json"


def _endpoint(handler: Handler, scope: Scope | None) -> Callable[[Request], Awaitable[Response]]:
    """What FastAPI calls: access first, then the handler."""

    async def endpoint(request: Request) -> Response:
        edge: Edge = request.scope["app"].state.edge
        if scope is None:
            return await handler(Call(edge, request, None))
        caller = await edge.access.caller(request.method, request.scope["headers"])
        check_scope(caller, scope)
        request.scope[OWNER_KEY] = caller.owner
        return await handler(Call(edge, request, caller))

    endpoint.__name__ = handler.__name__
    return endpoint
