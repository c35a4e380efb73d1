"""Events of object stores at an address without a name: what a container is called at that is there for them alone.

Pub/Sub pushes, Eventarc and Knative send to the address of a service as it is, so ``/`` takes them too. They come from
the source that is called ``events``.
"""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.edge import Call
from pixelmill.api.event_intake import EventsTaken, allow_for, take_for
from pixelmill.api.routes import Routes

routes = Routes("event sources")
SOURCE = "events"
"""The name of the one source that a container has without a rules file."""


@routes.add(
    "POST",
    "/v1/events",
    scope=None,
    summary="Take events of an object store",
    problems=(401, 403, 404, 413, 503),
    model=EventsTaken,
)
async def take_events(call: Call) -> Response:
    """Answers when the work is done: the results are written, or the events can't succeed."""
    return await take_for(call, SOURCE)


@routes.add(
    "POST",
    "/",
    scope=None,
    summary="The same, for who sends to the address as it is",
    problems=(401, 403, 404, 413, 503),
    model=EventsTaken,
)
async def take_events_at_the_root(call: Call) -> Response:
    """For pushes of Pub/Sub, for Eventarc and Knative."""
    return await take_for(call, SOURCE)


@routes.add(
    "OPTIONS",
    "/v1/events",
    scope=None,
    summary="Allow CloudEvents to be sent",
    problems=(401, 404),
    answers={200: {"description": "`WebHook-Allowed-Origin` names the origin that asked"}},
)
async def allow_events(call: Call) -> Response:
    """The handshake of CloudEvents' web hooks, with `EVENTS_AUTH=event-grid`."""
    return await allow_for(call, SOURCE)
