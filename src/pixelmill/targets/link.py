"""One connection between a hub and a node: whole frames both ways, in pieces, so that an image holds up no heartbeat.

A message of the connection is a stream number and bytes. Stream 0 carries control records, each a whole frame
(``wire.py``) in one message; stream n carries the frame of task n, in as many messages as it takes. Controls go first,
and the streams take turns. It knows neither WebSockets (a :class:`Pipe` does) nor what the records mean (a
:class:`Peer` does). Times are measured on this machine's monotonic clock only.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections import deque
from collections.abc import Callable, Coroutine, Iterator, Sequence
from typing import Any, Protocol

from pixelmill.targets.wire import HEAD, Buffer, FrameReader, encode_frame

STREAM = struct.Struct("<I")
"""Number of the stream; before the bytes of each message."""
PIECE = 256 * 1024
"""Bytes of a frame in one message: what a heartbeat may have to wait for."""
MAX_MESSAGE = 1 << 20
"""Longest message that is read."""
MAX_CONTROL = 64 * 1024
MAX_CONTROLS = 1_000
"""Control records that may wait to be sent: beyond it the other side takes nothing any more."""
BEAT_S = 1.0
SILENCE_S = 5.0
STALL_S = 20.0
"""How long one piece may take to be sent."""
_CHECK_S = 0.25


class LinkEnded(Exception):
    """The connection is gone; the text says why."""


class Pipe(Protocol):
    """A connection that carries messages."""

    async def send(self, message: bytes) -> None:
        """Send one, waiting while the other side is slow; raises :class:`LinkEnded`."""
        ...

    async def receive(self) -> bytes:
        """The next one; raises :class:`LinkEnded`."""
        ...

    async def close(self, reason: str) -> None:
        """End it in order: what was sent before arrives. Raises nothing."""
        ...

    def abort(self) -> None:
        """End it now."""
        ...


class Peer(Protocol):
    """Who is told what arrives. All may raise :class:`ValueError` for what the other side should not have sent."""

    def control(self, record: dict[str, Any]) -> None:
        """A control record."""
        ...

    def wants(self, stream: int) -> bool:
        """Whether a piece of that stream is to be kept; else it is dropped."""
        ...

    def frame(self, stream: int, record: Any, body: bytes) -> None:
        """The whole frame of a stream."""
        ...


class Link:
    """The sending and the receiving half over ``pipe``; ``max_body`` bounds the bytes of a frame that is received."""

    def __init__(self, pipe: Pipe, *, max_body: int) -> None:
        self._pipe = pipe
        self._max_body = max_body
        self._loop = asyncio.get_running_loop()
        self._controls: deque[bytes] = deque()
        self._streams: deque[_Outgoing] = deque()
        self._readers: dict[int, FrameReader] = {}
        self._work, self._idle = asyncio.Event(), asyncio.Event()
        self._ended: asyncio.Future[str] = self._loop.create_future()
        self._heard = self._loop.time()
        self.latency_s: float | None = None
        self.dead = False

    # -- sending ---------------------------------------------------------------------------------

    def post(self, record: dict[str, Any]) -> None:
        """Send a control record before everything else; nothing happens where the link has ended."""
        if self._ended.done():
            return
        if len(self._controls) >= MAX_CONTROLS:
            self.end("it takes nothing any more")
            return
        self._controls.append(encode_control(record))
        self._wake()

    def stream(self, number: int, buffers: Sequence[Buffer], on_sent: Callable[[], None] = lambda: None) -> None:
        """Send a frame in pieces; ``on_sent`` is called after the last one."""
        self._streams.append(_Outgoing(number, _pieces(number, buffers), on_sent))
        self._wake()

    def drop(self, number: int) -> None:
        """Send no more of a stream, and forget what arrived of it."""
        self._streams = deque(stream for stream in self._streams if stream.number != number)
        self._readers.pop(number, None)

    def end(self, reason: str) -> None:
        """End the link; the first reason stands. ``dead`` tells whether the other side could still be told."""
        if not self._ended.done():
            self._ended.set_result(reason)

    @property
    def ended(self) -> str | None:
        """Why it has ended; None while it lasts."""
        return self._ended.result() if self._ended.done() else None

    async def flush(self) -> None:
        """Return when everything was handed to the connection, or that has ended."""
        idle = asyncio.ensure_future(self._idle.wait())
        either: set[asyncio.Future[Any]] = {idle, self._ended}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        idle.cancel()

    # -- life ------------------------------------------------------------------------------------

    async def run(self, peer: Peer) -> str:
        """Send and receive until the link ends; the reason. The pipe is left to the caller."""
        self._heard = self._loop.time()
        parts = [
            asyncio.create_task(self._guarded(part)) for part in (self._send(), self._receive(peer), self._watch())
        ]
        try:
            return await asyncio.shield(self._ended)
        finally:
            self.end("it was closed here")
            for part in parts:
                part.cancel()
            await asyncio.gather(*parts, return_exceptions=True)
            self._controls.clear()
            self._streams.clear()
            self._readers.clear()

    async def _guarded(self, part: Coroutine[Any, Any, None]) -> None:
        try:
            await part
        except LinkEnded as error:
            self.dead = True
            self.end(str(error))
        except TimeoutError:
            self.dead = True
            self.end(f"it took nothing for {STALL_S:g} s")
        except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
            self.end(f"it sent what is no message of this protocol ({error})")

    async def _send(self) -> None:
        while True:
            message, on_sent = self._next()
            if not message:
                self._idle.set()
                self._work.clear()
                await self._work.wait()
                continue
            async with asyncio.timeout(STALL_S):
                await self._pipe.send(message)
            on_sent()

    def _next(self) -> tuple[bytes, Callable[[], None]]:
        """The next message, and what to call when it was sent; empty where there is none."""
        if self._controls:
            return self._controls.popleft(), _nothing
        if not self._streams:
            return b"", _nothing
        stream = self._streams.popleft()
        message = stream.ahead
        stream.ahead = next(stream.pieces, b"")
        if not stream.ahead:
            return message, stream.on_sent
        self._streams.append(stream)
        return message, _nothing

    def _wake(self) -> None:
        self._idle.clear()
        self._work.set()

    async def _receive(self, peer: Peer) -> None:
        while True:
            message = await self._pipe.receive()
            self._heard = self._loop.time()
            if len(message) < STREAM.size:
                raise ValueError(f"{len(message)} bytes")
            (number,) = STREAM.unpack_from(message)
            if number == 0:
                self._control(decode_control(message), peer)
            elif peer.wants(number):
                self._piece(number, message[STREAM.size :], peer)
            else:
                self._readers.pop(number, None)

    def _control(self, record: dict[str, Any], peer: Peer) -> None:
        if "beat" in record:
            self.post({"echo": record["beat"]})
        elif "echo" in record:
            self.latency_s = min(SILENCE_S, max(0.0, self._loop.time() - float(record["echo"])))
        else:
            peer.control(record)

    def _piece(self, number: int, piece: bytes, peer: Peer) -> None:
        reader = self._readers.get(number)
        if reader is None:
            reader = self._readers[number] = FrameReader(self._max_body)
        for record, body in reader.feed(piece):
            self._readers.pop(number, None)
            peer.frame(number, record, body)

    async def _watch(self) -> None:
        """Beat, and end the link when nothing was heard for too long."""
        beat_at = self._loop.time()
        while True:
            now = self._loop.time()
            if now >= beat_at:
                self.post({"beat": now})
                beat_at = now + BEAT_S
            await asyncio.sleep(_CHECK_S)
            late = self._loop.time() - now - _CHECK_S
            if late > BEAT_S:  # this process was held up, or the machine slept: that says nothing of the other side
                self._heard += late
            if self._loop.time() - self._heard > SILENCE_S:
                raise LinkEnded(f"nothing was heard of it for {SILENCE_S:g} s")


class _Outgoing:
    """A frame on its way; ``ahead`` is its next piece."""

    __slots__ = ("ahead", "number", "on_sent", "pieces")

    def __init__(self, number: int, pieces: Iterator[bytes], on_sent: Callable[[], None]) -> None:
        self.number, self.pieces, self.on_sent = number, pieces, on_sent
        self.ahead = next(pieces)


def _nothing() -> None:
    """Called after messages that nobody asks about."""


def _pieces(number: int, buffers: Sequence[Buffer]) -> Iterator[bytes]:
    head = STREAM.pack(number)
    parts: list[Buffer] = [head]
    room = PIECE
    for buffer in buffers:
        view = memoryview(buffer)
        while view:
            parts.append(view[:room])
            view, room = view[room:], room - len(parts[-1])
            if not room:
                yield b"".join(parts)
                parts, room = [head], PIECE
    if len(parts) > 1:
        yield b"".join(parts)


def encode_control(record: dict[str, Any]) -> bytes:
    """The message of a control record."""
    return STREAM.pack(0) + b"".join(encode_frame(record))


def decode_control(message: bytes) -> dict[str, Any]:
    """The inverse; raises :class:`ValueError` for anything else."""
    start = STREAM.size + HEAD.size
    if not start <= len(message) <= MAX_CONTROL or message[: STREAM.size] != STREAM.pack(0):
        raise ValueError(f"no control record, of {len(message):,} bytes")
    if HEAD.unpack_from(message, STREAM.size) != (len(message) - start, 0):
        raise ValueError("a control record of another length than it says")
    try:
        record = json.loads(message[start:])
    except RecursionError:
        raise ValueError("a control record nested too deeply") from None
    if not isinstance(record, dict):
        raise ValueError("a control record that is no object")  # noqa: TRY004 - a wrong value on the wire
    return record


def bound_unsent(transport: asyncio.BaseTransport) -> None:
    """At most two pieces wait in the kernel to be sent (Linux)."""
    connection = transport.get_extra_info("socket")
    if connection is not None and hasattr(socket, "TCP_NOTSENT_LOWAT"):
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, 2 * PIECE)
