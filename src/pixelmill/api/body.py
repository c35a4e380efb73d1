"""Request bodies with bounds: how long, how much memory all of them take, and how long a client may be silent.

Lengths are checked where they are declared, and counted as bytes arrive, for a declared length may be missing.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import ClientDisconnect, Request

from pixelmill.errors import Busy, RequestError


class BodyBudget:
    """Bytes of request bodies that may lie in memory at once, all requests together."""

    def __init__(self, total: int) -> None:
        self._left = total

    @property
    def left(self) -> int:
        """Bytes that are free now."""
        return self._left

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """A function that takes bytes and raises :class:`Busy`; all it took is given back at the end."""
        taken = 0

        def take(count: int) -> None:
            nonlocal taken
            if count > self._left:
                raise Busy("Too many large requests are being received. Try again in a few seconds.", retry_after=2)
            self._left -= count
            taken += count

        try:
            yield take
        finally:
            self._left += taken


def header(request: Request, name: bytes) -> str:
    """A header's value, or an empty string; ``name`` is in lower case."""
    for key, value in request.scope["headers"]:
        if key == name:
            return bytes(value).decode("latin-1")
    return ""


def media_type(request: Request) -> str:
    """The declared type without parameters, in lower case."""
    return header(request, b"content-type").partition(";")[0].strip().lower()


def declared_length(request: Request) -> int | None:
    """``Content-Length``, which the parser has validated, or None for a chunked body."""
    text = header(request, b"content-length")
    return int(text) if text.isdecimal() else None


async def chunks(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises :class:`RequestError` (408) when nothing arrives for ``idle_s``.

    Raises :class:`starlette.requests.ClientDisconnect` when the client goes away in the middle.
    """
    receive = request.receive
    while True:
        try:
            async with asyncio.timeout(idle_s):
                message = await receive()
        except TimeoutError:
            raise RequestError(f"No more of the body arrived for {idle_s:g} s.", status=408) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if body := message.get("body", b""):
            yield body
        if not message.get("more_body", False):
            return


async def limited(body: AsyncIterator[bytes], check: Callable[[int], None]) -> AsyncIterator[bytes]:
    """The same chunks; ``check`` gets the sum so far and raises what is to be raised."""
    total = 0
    async for chunk in body:
        total += len(chunk)
        check(total)
        yield chunk


async def collect(
    body: AsyncIterator[bytes], check: Callable[[int], None], take: Callable[[int], None], declared: int | None = None
) -> bytes:
    """A body in memory. ``check`` bounds its length, ``take`` is the share of a :class:`BodyBudget`."""
    if declared is not None:
        check(declared)
    parts: list[bytes] = []
    total = 0
    async for chunk in body:
        total += len(chunk)
        if declared is None:
            check(total)
        # Taken as it arrives: who announces much and sends little must not keep everybody else out.
        take(len(chunk))
        parts.append(chunk)
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def read_json(request: Request, maximum: int, idle_s: float, budget: BodyBudget) -> Any:
    """The body as JSON; an empty one is ``{}``. Raises :class:`RequestError` (400, 413, 415)."""
    declared_type = media_type(request)
    if declared_type not in {"", "application/json"} and not declared_type.endswith("+json"):
        raise RequestError(f"The body must be JSON (Content-Type: application/json), not {declared_type}.", status=415)

    def check(total: int) -> None:
        if total > maximum:
            raise RequestError(
                f"The JSON body is larger than {maximum:,} bytes. Send large jobs by pages.",
                status=413,
                maximum=maximum,
            )

    with budget.share() as take:
        data = await collect(chunks(request, idle_s), check, take, declared_length(request))
        if not data:
            return {}
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise RequestError(f"The body is not valid JSON: {error}.") from error
