"""The OpenAPI document of the service: what FastAPI knows of the routes, and what it can't know."""

from __future__ import annotations

import json
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from pixelmill.api.schemas import ProblemBody, ProcessedBody

REF = "#/components/schemas/{model}"
DESCRIPTION = """Image pipelines over one image or a million.

Errors are problem documents (RFC 9457); `type` is stable, and explained where it points. Every answer carries
`X-Request-ID`, which may be chosen by the client. On loopback no token is needed; elsewhere send
`Authorization: Bearer pm_…` (`x-scope` names the scope that an operation needs)."""
TAGS = [
    {"name": "process", "description": "One image now"},
    {"name": "uploads", "description": "Bytes that wait to be used by a job"},
    {"name": "links", "description": "Bytes without a token, for a time"},
    {"name": "jobs", "description": "Many images, durable"},
    {"name": "tasks", "description": "One source through one pipeline, within a job"},
    {"name": "events", "description": "What happens, live (server-sent events)"},
    {"name": "dead letters", "description": "Tasks whose attempts were used up"},
    {"name": "event sources", "description": "Events of object stores, sent by their providers"},
    {"name": "webhooks", "description": "Endpoints that are told when jobs end"},
    {"name": "session", "description": "Who asks, and signing in with a token (for pages)"},
    {"name": "operations", "description": "What can be done to an image"},
    {"name": "formats", "description": "What is read and written"},
    {"name": "presets", "description": "Pipelines with a name"},
    {"name": "pipelines", "description": "Saved by their owners, and checked"},
    {"name": "machine", "description": "Load and metrics"},
    {"name": "health", "description": "Open to everybody"},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """The document; made once an app."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS
        )
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": "Needed unless the service is on loopback"}
        }
        schemas = components.setdefault("schemas", {})
        # Referred to by hand in answers that have several media types.
        for model in (ProblemBody, ProcessedBody):
            schemas[model.__name__] = model.model_json_schema(ref_template=REF)
        app.openapi_schema = document
    return app.openapi_schema


def document_text(app: FastAPI) -> str:
    """The document as it stands in ``docs/openapi.json``."""
    return json.dumps(describe(app), indent=2, ensure_ascii=False, sort_keys=True) + "\n"
