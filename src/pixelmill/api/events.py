"""Server-sent events (WHATWG HTML): what happens to jobs and tasks, live, and again from any point of the log.

Nothing is buffered for a reader: the service reads the log when the reader has taken what it was sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Generic, TypeVar

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from pixelmill.api.dto import event_text
from pixelmill.api.edge import Call
from pixelmill.api.responses import HEAD_KEY, OpenStreams, close
from pixelmill.api.routes import Routes, parameter, path_id
from pixelmill.api.schemas import JOB_ID
from pixelmill.errors import AccessError, PixelmillError, RequestError

RECONNECT_MS = 2_000
# Sent at once: the client knows that it is connected, and how long to wait after a lost connection.
OPENING = f": connected\nretry: {RECONNECT_MS}\n\n".encode()
HEARTBEAT = b": alive\n\n"
HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx hands events on at once
]

ALLOWED_EVERY_S = 15.0
"""How often an open stream asks whether its reader may still see it; with what is remembered, 45 s at most."""

Event = TypeVar("Event")
routes = Routes("events")

_AFTER = parameter("after", "Events after this id; 0 is from the beginning of the log", {"type": "integer"})
_LAST = parameter(
    "Last-Event-ID", "The same, as browsers send it when they reconnect", {"type": "integer"}, where="header"
)
_ALL = parameter("all", "`1`: of all owners, which needs the scope `admin`", {"type": "string", "enum": ["0", "1"]})
_STREAM = {
    200: {
        "description": "Events `task`, `progress`, `job` and `deleted` with JSON data; comments as heartbeats",
        "content": {
            "text/event-stream": {
                "schema": {"type": "string"},
                "example": 'id: 42\nevent: task\ndata: {"job":"job_…","at":"2026-03-01T12:00:00.000Z",'
                '"id":"task_…","state":"succeeded","name":"beach.jpg","seq":0}\n\n',
            }
        },
    }
}


@routes.add(
    "GET",
    "/v1/events",
    scope="jobs:read",
    summary="Follow all your jobs",
    problems=(400, 429),
    answers=_STREAM,
    parameters=(_AFTER, _LAST, _ALL),
)
async def follow_all(call: Call) -> Response:
    """From now on, or after the id in `Last-Event-ID` (or `?after=`), then live. It ends when the service stops.

    With `all=1` the jobs of every owner, and each event names its `owner`.
    """
    every = call.every_owner()
    after = _after(call)
    if after is None:
        # Before the answer begins: from the client's view, "now" is when it is told that it is connected.
        after = await call.service.newest_event()
    events = call.service.events(None if every else call.owner, after=after)
    return EventStream(call, events, partial(event_text, with_owner=every))


@routes.add(
    "GET",
    "/v1/jobs/{job_id}/events",
    scope="jobs:read",
    summary="Follow a job",
    problems=(400, 404, 429),
    answers={
        **_STREAM,
        204: {"description": "The job has ended, and there is nothing after that id: browsers stop reconnecting"},
    },
    parameters=(path_id("job_id", JOB_ID), _AFTER, _LAST),
)
async def follow_job(call: Call) -> Response:
    """The same for one job; the stream ends after the job's last event."""
    job = await call.service.job(await call.owner_of_job(), call.path("job_id"))
    after = _after(call)
    events = call.service.events(job.owner, job_id=job.id, after=after)
    if not job.state.is_final:
        return EventStream(call, events, event_text)
    # All its events are in the log, so the first one (or the end) comes at once.
    first = await anext(events, None)
    return Response(status_code=204) if first is None else EventStream(call, events, event_text, first)


def _after(call: Call) -> int | None:
    """Where to resume; the header wins, for a browser repeats its first URL when it reconnects."""
    text = call.header("last-event-id") or call.query("after")
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise RequestError(f"Event ids are whole numbers, not {text[:40]!r}.", parameter="after")
    return int(text)


class EventStream(Response, Generic[Event]):
    """Sends events until they end, the client goes away (or takes nothing), may ask no more, or the service drains.

    ``text`` writes an event down; None among ``events`` is a heartbeat.
    """

    def __init__(
        self,
        call: Call,
        events: AsyncIterator[Event | None],
        text: Callable[[Event], bytes],
        first: Event | None = None,
    ) -> None:
        super().__init__()
        self.raw_headers = list(HEADERS)
        self._call = call
        self._streams: OpenStreams = call.edge.streams
        self._events, self._text, self._first = events, text, first

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            if not scope.get(HEAD_KEY):
                await self._follow(receive, send)
        finally:
            await close(self._events)
        # uvicorn ignores this where the client is gone.
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _follow(self, receive: Receive, send: Send) -> None:
        async with anyio.create_task_group() as group:
            forget = self._streams.add(group.cancel_scope)
            try:
                group.start_soon(_until_gone, receive, group.cancel_scope)
                group.start_soon(_until_refused, self._call, group.cancel_scope)
                await self._send_all(send)
            finally:
                forget()
                group.cancel_scope.cancel()

    async def _send_all(self, send: Send) -> None:
        async def put(text: bytes) -> None:
            await send({"type": "http.response.body", "body": text, "more_body": True})

        await put(OPENING)
        if self._first is not None:
            await put(self._text(self._first))
        async for event in self._events:
            await put(HEARTBEAT if event is None else self._text(event))


async def _until_refused(call: Call, scope: anyio.CancelScope) -> None:
    """A stream may be open for days: end it when its token or session has ended."""
    while True:
        await anyio.sleep(ALLOWED_EVERY_S)
        try:
            await call.edge.access.caller("GET", call.request.scope["headers"])
        except AccessError:
            scope.cancel()
        except PixelmillError:
            continue  # the database does not answer; nobody was refused


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
