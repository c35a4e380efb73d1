"""Events of object stores that come by HTTP: one route for each source of kind ``http`` in the rules file.

Who sends them is decided by the source (``triggers/intake.py``), not by the tokens of this service.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field
from starlette.responses import Response

from pixelmill.api import body as bodies
from pixelmill.api import schemas
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import Routes, parameter
from pixelmill.errors import NotFound, RequestError
from pixelmill.triggers.intake import MAX_BODY, Answer, Posted, accept, admit, answer_options
from pixelmill.triggers.source_options import Options, read_options
from pixelmill.triggers.verbs import TriggerVerbs

routes = Routes("event sources")
_SOURCE = parameter(
    "source",
    "A source of kind `http`, as the rules file names it",
    {"type": "string"},
    where="path",
    example="uploads",
    must=True,
)
_QUERY = (
    parameter(
        "token", "The secret of a source with `auth = token`; better sent in `Authorization`", {"type": "string"}
    ),
    parameter("key", "The secret of a source with `auth = event-grid`", {"type": "string"}),
)
_BODY: Mapping[str, Any] = {
    "application/json": {"schema": {"description": "A document of a provider, of any kind in docs/event-sources.md"}}
}


class UnreadPart(schemas.Answer):
    """A part of a document that is no event of an object."""

    reason: str = Field(examples=["other-event"])
    detail: str


class EventsTaken(schemas.Answer):
    """What became of the events of a document; a handshake is answered as its provider wants it instead."""

    accepted: int = Field(description="Recorded, one for each rule that matched")
    duplicate: int = Field(description="A rule had this version already")
    unmatched: int = Field(description="No rule is for it")
    ignored: int = Field(description="No creation, or a result that came back to its own rule")
    unread: list[UnreadPart] = Field(description="The first 20")


@routes.add(
    "POST",
    "/v1/events/{source}",
    scope=None,
    summary="Take events of an object store",
    problems=(401, 403, 404, 413, 503),
    model=EventsTaken,
    parameters=(_SOURCE, *_QUERY),
    body=_BODY,
)
async def take_events(call: Call) -> Response:
    """For providers: S3 (SNS, EventBridge), MinIO, Pub/Sub, Eventarc, Event Grid. Answers when the events are recorded.

    Handshakes (SNS's `SubscriptionConfirmation`, Event Grid's `SubscriptionValidationEvent`) are answered too.
    """
    return await take_for(call, call.path("source"))


@routes.add(
    "OPTIONS",
    "/v1/events/{source}",
    scope=None,
    summary="Allow CloudEvents to be sent",
    problems=(401, 404),
    parameters=(_SOURCE, _QUERY[1]),
    answers={200: {"description": "`WebHook-Allowed-Origin` names the origin that asked"}},
)
async def allow_events(call: Call) -> Response:
    """The handshake of CloudEvents' web hooks, for sources with `auth = event-grid`."""
    return await allow_for(call, call.path("source"))


async def take_for(call: Call, name: str) -> Response:
    """The answer to a ``POST`` for the source of that name."""
    triggers, options = await _source(call, name)
    keys = call.edge.public_keys
    await admit(options, _request(call, b""), keys)
    return _response(await accept(options, await _posted(call), triggers, keys))


async def allow_for(call: Call, name: str) -> Response:
    """The answer to ``OPTIONS`` for it."""
    _, options = await _source(call, name)
    return _response(answer_options(options, _request(call, b"")))


async def _source(call: Call, name: str) -> tuple[TriggerVerbs, Options]:
    """The runtime and the source's options; raises :class:`NotFound` in the same words for whatever is missing."""
    triggers, settings = call.edge.triggers, call.edge.settings
    spec = None if triggers is None else triggers.rule_set().sources.get(name)
    if triggers is None or spec is None or spec.kind != "http":
        raise NotFound(
            f"There is no source of events {name[:80]!a} here: the rules file has none of kind http so named."
        )
    # With --insecure it is the platform before this process that knows who calls.
    options = read_options(spec, on_loopback=settings.on_loopback or settings.insecure)
    if options["auth"] == "none" and settings.on_loopback:
        # As for every request without a token: no page of another origin may send it.
        await call.edge.access.caller(call.request.method, call.request.scope["headers"])
    return triggers, options


async def _posted(call: Call) -> Posted:
    def check(total: int) -> None:
        if total > MAX_BODY:
            raise RequestError(f"A document of events has at most {MAX_BODY:,} bytes.", status=413, maximum=MAX_BODY)

    with call.edge.budget.share() as take:
        body = await bodies.collect(call.chunks(), check, take, bodies.declared_length(call.request))
        return _request(call, body)


def _request(call: Call, body: bytes) -> Posted:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in call.request.scope["headers"]}
    return Posted(headers, dict(call.request.query_params), body)


def _response(answer: Answer) -> Response:
    if answer.body is None:
        return Response(status_code=answer.status, headers=dict(answer.headers))
    return json_response(dict(answer.body), answer.status, answer.headers)
