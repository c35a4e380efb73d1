"""``/v1/nodes/join``: the WebSocket over which nodes come to this hub. It only adapts: see ``fleet/nodes.py``.

A refused connection gets the problem document that any request would get. Browsers' pages of other origins are refused
as they are for requests that change something.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from pixelmill import logs
from pixelmill.api.auth import Scope, check_scope
from pixelmill.api.edge import Edge
from pixelmill.api.responses import ID_KEY, problem_response
from pixelmill.errors import PixelmillError, ShuttingDown
from pixelmill.targets.link import LinkEnded, bound_unsent

PATH = "/v1/nodes/join"
SCOPE: Scope = "node"
_ABORT = "pixelmill.abort"
CLOSE_S = 2.0


async def join(websocket: WebSocket) -> None:
    """Let a node in that has a token with the scope ``node``, and serve it to its end."""
    edge: Edge = websocket.scope["app"].state.edge

    async def allowed() -> None:
        caller = await edge.access.caller("POST", websocket.scope["headers"])
        check_scope(caller, SCOPE)

    try:
        await allowed()
        if edge.draining:
            raise ShuttingDown("This service is shutting down. Try again in a few seconds.", retry_after=5)
    except PixelmillError as error:
        logs.event("node.refused", reason=str(error), client=(websocket.client or ("", 0))[0])
        websocket.scope.setdefault(ID_KEY, "")
        await websocket.send_denial_response(problem_response(error, websocket.scope))
        return
    await websocket.accept()
    await edge.service.serve_node(_SocketPipe(websocket), allowed)


class _SocketPipe:
    """A :class:`~pixelmill.targets.link.Pipe` over a WebSocket that was accepted."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket
        self._abort: Callable[[], None] = websocket.scope["extensions"][_ABORT]
        self._is_closing = False

    async def send(self, message: bytes) -> None:
        try:
            await self._websocket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError, OSError) as error:
            raise LinkEnded("its connection was closed") from error

    async def receive(self) -> bytes:
        message = await self._websocket.receive()
        if message["type"] != "websocket.receive":
            raise LinkEnded("its connection was closed")
        data: bytes | None = message.get("bytes")
        if data is None:
            raise ValueError("a text message")
        return data

    async def close(self, reason: str) -> None:
        with suppress(WebSocketDisconnect, RuntimeError, OSError):  # it is closed already
            await self._websocket.close(1000, reason.encode()[:120].decode(errors="ignore"))
            # What was written may still be on its way; who does not take it is cut off.
            self._is_closing = True
            asyncio.get_running_loop().call_later(CLOSE_S, self._abort)

    def abort(self) -> None:
        if not self._is_closing:
            self._abort()


class NodeSocket(WebSocketsSansIOProtocol):
    """uvicorn's WebSocket, which the fleet ends and not the server.

    The server would close it when it begins to drain; but tasks that run on nodes may end first, and then
    ``Nodes.close`` tells them.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.connections, self.tasks = set(), set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep what waits in the kernel small: a heartbeat stands behind it in line."""
        super().connection_made(transport)
        bound_unsent(transport)

    async def run_asgi(self) -> None:
        """Serve the application, which may end the connection at once."""
        extensions: MutableMapping[str, Any] = self.scope["extensions"]
        extensions[_ABORT] = self.transport.abort
        await super().run_asgi()
