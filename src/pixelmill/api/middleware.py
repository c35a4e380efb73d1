"""The outermost layer of every request: its id, bounds on how many there are, security headers, log and metrics.

Plain ASGI: a wrapper around ``send`` costs microseconds where a request/response middleware costs a task and a queue.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Iterable
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pixelmill import logs, tracing
from pixelmill.api.edge import Edge
from pixelmill.api.responses import HEAD_KEY, ID_KEY, OWNER_KEY, problem_response
from pixelmill.errors import PixelmillError, QueueFull, ShuttingDown

VALID_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}").fullmatch
OPEN_WHILE_DRAINING = frozenset({"/healthz", "/readyz", "/metrics"})
CLIENT_GONE = 499
SECURITY = [
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
]
POLICY = (b"content-security-policy", b"default-src 'none'; style-src 'self'; frame-ancestors 'none'")


class EdgeMiddleware:
    """Wraps the whole application."""

    def __init__(self, app: ASGIApp, edge: Edge) -> None:
        self._app, self._edge = app, edge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; nothing but a broken response leaves as an exception."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
        request_id = given.decode() if VALID_ID(given) else secrets.token_hex(8)
        scope = _head_as_get(scope)
        scope[ID_KEY] = request_id
        parent = _traced(scope["headers"])
        # Probes ask every few seconds: traced only where they want to be.
        quiet = scope["path"] in OPEN_WHILE_DRAINING
        with tracing.span(scope["method"], "server", parent=parent, quiet=quiet) as span:
            ids = {"trace_id": span.context.trace_id, "span_id": span.context.span_id}
            with logs.bind(request_id=request_id, **ids):
                await self._answer(scope, receive, _Exchange(send, request_id.encode()), span)

    async def _answer(self, scope: Scope, receive: Receive, exchange: _Exchange, span: tracing.ActiveSpan) -> None:
        start = time.perf_counter()
        self._edge.in_flight += 1
        try:
            self._check_room(scope["path"])
            await self._app(scope, receive, exchange.send)
        except ClientDisconnect:
            exchange.status = exchange.status or CLIENT_GONE
        except PixelmillError as error:
            if not await exchange.fail(error, scope, receive):
                raise
        except Exception as error:
            logs.event("request.failed", error=error, path=scope["path"])
            if not await exchange.fail(PixelmillError(str(error)), scope, receive):
                raise
        finally:
            self._edge.in_flight -= 1
            self._tell(scope, exchange, time.perf_counter() - start)
            _describe(span, scope, exchange)

    def _check_room(self, path: str) -> None:
        if path in OPEN_WHILE_DRAINING:
            return
        if self._edge.draining:
            raise ShuttingDown("This service is shutting down. Try again in a few seconds.", retry_after=5)
        if self._edge.in_flight > self._edge.settings.max_requests:
            raise QueueFull("Too many requests are being worked on. Try again in a few seconds.", retry_after=2)

    def _tell(self, scope: Scope, exchange: _Exchange, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        stream = route.endswith(("/events", "/stream"))
        metrics = self._edge.service.metrics
        metrics.http_request(route, scope["method"], exchange.status, None if stream else seconds)
        logs.event(
            "request.done",
            method="HEAD" if scope.get(HEAD_KEY) else scope["method"],
            path=scope["path"],
            route=route,
            status=exchange.status,
            ms=round(seconds * 1000, 2),
            bytes=exchange.bytes,
            owner=scope.get(OWNER_KEY),
        )


def _traced(headers: Iterable[tuple[bytes, bytes]]) -> tracing.TraceContext | None:
    """What the caller says it belongs to: one ``traceparent``; ``tracestate`` may come in pieces."""
    parents = [value for name, value in headers if name == b"traceparent"]
    if len(parents) != 1:
        return None
    states = b",".join(value for name, value in headers if name == b"tracestate")
    return tracing.parse(parents[0].decode("latin-1"), states.decode("latin-1"))


def _describe(span: tracing.ActiveSpan, scope: Scope, exchange: _Exchange) -> None:
    """Name and attributes by OpenTelemetry's conventions for HTTP servers."""
    route = getattr(scope.get("route"), "path", "")
    method = "HEAD" if scope.get(HEAD_KEY) else scope["method"]
    if route:
        span.name = f"{method} {route}"
        span.attributes["http.route"] = route
    span.attributes |= {
        "http.request.method": method,
        "url.path": scope["path"],
        "http.response.status_code": exchange.status,
        "pixelmill.request_id": scope[ID_KEY],
    }
    if exchange.status >= 500:
        span.fail(str(exchange.status))


class _Exchange:
    """What was sent so far, and the headers that every answer carries."""

    def __init__(self, send: Send, request_id: bytes) -> None:
        self._send, self._id = send, request_id
        self.status = 0
        self.bytes = 0
        self._ended = False

    async def send(self, message: Message) -> None:
        """Pass a message on."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            headers += SECURITY
            headers.append((b"x-request-id", self._id))
            if not any(name == b"content-security-policy" for name, _ in headers):
                headers.append(POLICY)
            message = {**message, "headers": headers}
        else:
            self.bytes += len(message.get("body", b""))
        await self._send(message)

    async def fail(self, error: PixelmillError, scope: Scope, receive: Receive) -> bool:
        """Answer with a problem; False where the answer had begun, so that the connection must break."""
        if self.status:
            return False
        await problem_response(error, scope)(scope, receive, self.send)
        return True


def _head_as_get(scope: Scope) -> Scope:
    """HEAD runs as GET. The server keeps the method of its own scope, and sends no body."""
    if scope["method"] != "HEAD":
        return scope
    changed: dict[str, Any] = {**scope, "method": "GET", HEAD_KEY: True}
    return changed
