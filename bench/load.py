"""A small HTTP/1.1 load generator over keep-alive connections on loopback; its CPU is never counted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class Connection:
    """One keep-alive connection that posts bodies and reads answers with a Content-Length."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        self._reader, self._writer, self._host = reader, writer, host

    @classmethod
    async def open(cls, host: str, port: int) -> Connection:
        """Connect."""
        reader, writer = await asyncio.open_connection(host, port, limit=1 << 20)
        return cls(reader, writer, f"{host}:{port}")

    async def request(self, method: str, target: str, body: bytes, content_type: str = "image/jpeg") -> bytes:
        """The body of a 2xx answer; raises on any other."""
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        self._writer.write(head.encode() + body)
        await self._writer.drain()
        raw = await self._reader.readuntil(b"\r\n\r\n")
        lines = raw.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
        answer = await self._reader.readexactly(int(headers.get("content-length", "0")))
        if not lines[0].split(" ")[1].startswith("2"):
            raise RuntimeError(f"{lines[0]}: {answer[:300]!r}")
        return answer

    async def close(self) -> None:
        """Hang up."""
        self._writer.close()
        await self._writer.wait_closed()


async def post_all(host: str, port: int, target: str, bodies: Sequence[bytes], connections: int = 8) -> list[int]:
    """Post every body once over `connections` connections; the lengths of the answers."""
    waiting = list(bodies)
    lengths: list[int] = []

    async def worker() -> None:
        connection = await Connection.open(host, port)
        while waiting:
            lengths.append(len(await connection.request("POST", target, waiting.pop())))
        await connection.close()

    await asyncio.gather(*(worker() for _ in range(connections)))
    return lengths
