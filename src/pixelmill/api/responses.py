"""Responses: JSON, pages of lists, problem documents, and streams that end when the client does.

A stream's first chunk is fetched before its status is sent, so that an error there is still a problem document.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pixelmill.api.problems import MEDIA_TYPE, encode_problem, problem_headers, status_of
from pixelmill.errors import PixelmillError

HEAD_KEY = "pixelmill.head"
ID_KEY = "pixelmill.request_id"
OWNER_KEY = "pixelmill.owner"


def json_bytes(value: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8", "replace")


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON body."""
    return Response(json_bytes(value), status, headers, "application/json")


def problem_response(error: PixelmillError, scope: Scope) -> Response:
    """The problem document of an error, for the request of ``scope``."""
    body = encode_problem(error, instance=scope["path"], request_id=scope.get(ID_KEY, ""))
    response = Response(body, status_of(error), media_type=MEDIA_TYPE)
    response.raw_headers.extend(problem_headers(error))
    return response


class ByteStream(StreamingResponse):
    """A streamed body; ``protocol.py`` ends it when the client takes nothing."""

    body_iterator: AsyncIterator[bytes]

    def __init__(self, body: AsyncIterator[bytes], headers: Mapping[str, str], status: int = 200) -> None:
        super().__init__(body, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Headers alone for HEAD; the source is closed in any case."""
        try:
            if scope.get(HEAD_KEY):
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                await send({"type": "http.response.body", "body": b""})
            else:
                await super().__call__(scope, receive, send)
        finally:
            await close(self.body_iterator)


async def close(body: object) -> None:
    """Let go of what an iterator holds, where it holds something."""
    aclose = getattr(body, "aclose", None)
    if aclose is not None:
        await aclose()


async def begun(body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same chunks, the first of them fetched now, so that what is wrong with the source is raised here."""
    try:
        first: bytes | None = await anext(body)
    except StopAsyncIteration:
        first = None

    async def rest() -> AsyncIterator[bytes]:
        try:
            if first is not None:
                yield first
                async for chunk in body:
                    yield chunk
        finally:
            await close(body)

    return rest()


class OpenStreams:
    """Event streams that are open, so that a shutdown can end them."""

    def __init__(self) -> None:
        self._scopes: set[anyio.CancelScope] = set()
        self.closed = False

    def __len__(self) -> int:
        return len(self._scopes)

    def add(self, scope: anyio.CancelScope) -> Callable[[], None]:
        """Register a stream; the function returned takes it out again. A closed registry ends it at once."""
        self._scopes.add(scope)
        if self.closed:
            scope.cancel()
        return lambda: self._scopes.discard(scope)

    def close(self) -> None:
        """End all streams, and those that come later."""
        self.closed = True
        for scope in list(self._scopes):
            scope.cancel()
