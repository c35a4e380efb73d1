"""HTTP servers on loopback that do what a broken, slow or hostile place does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]

OUTCOME = {
    "format": "png",
    "media_type": "image/png",
    "size": [1, 1],
    "source_size": [1, 1],
    "source_format": "png",
    "data": {},
    "timings": {"decode_ms": 0.0, "apply_ms": 0.0, "encode_ms": 0.0},
    "target": "local",
    "image": "aW1hZ2U=",
}


def answer(status: int, body: bytes, kind: str = "application/json", **headers: str) -> Write:
    """One that always answers the same."""
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n{more}\r\n".encode()

    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(head + body)

    return write


GOOD = answer(200, json.dumps(OUTCOME).encode())


async def hang(_writer: asyncio.StreamWriter) -> None:
    """Never answer."""
    await asyncio.Event().wait()


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close the connection instead."""
    writer.close()


async def half(writer: asyncio.StreamWriter) -> None:
    """Half an answer, then nothing more."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    await writer.drain()
    writer.close()


async def huge(writer: asyncio.StreamWriter) -> None:
    """An answer without end."""
    writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    block = b"a" * (1 << 20)
    while True:
        writer.write(b"100000\r\n" + block + b"\r\n")
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for ever: no silence is long, and no answer comes."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.01)


async def not_http(writer: asyncio.StreamWriter) -> None:
    """Another protocol."""
    writer.write(b"220 mail.example ESMTP\r\n\r\n")
    await writer.drain()
    writer.close()


@dataclass
class OddServer:
    """Where it answers, what it does, and the heads and bodies of what it was asked."""

    url: str
    act: Write
    asked: list[tuple[str, bytes]] = field(default_factory=list)

    @property
    def posts(self) -> int:
        """Tasks that were sent here."""
        return sum(head.startswith("POST") for head, _ in self.asked)


@asynccontextmanager
async def odd_server(act: Write) -> AsyncIterator[OddServer]:
    """One that does ``act`` to each request."""
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            while not writer.is_closing():
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                lengths = [line for line in head.lower().split("\r\n") if line.startswith("content-length:")]
                body = await reader.readexactly(int(lengths[0].partition(":")[2])) if lengths else b""
                server.asked.append((head, body))
                await server.act(writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            tasks.discard(task)

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1 << 20)
    host, port = listener.sockets[0].getsockname()
    server = OddServer(f"http://{host}:{port}", act)
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
