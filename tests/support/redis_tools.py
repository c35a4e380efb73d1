"""A Redis of a test's own, which it may kill and wipe, and short names for looking into it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis as Client

from servers import Redis


@contextmanager
def own_redis(folder: Path) -> Iterator[Redis]:
    """Started, and ended with the block."""
    server = Redis(folder / "redis").start()
    try:
        yield server
    finally:
        server.close()


def look(server: Redis) -> Client:
    """A client for the test itself."""
    client: Client = Client.from_url(server.url)
    return client


async def until(holds: Callable[[], bool | Awaitable[bool]], what: str, seconds: float = 15.0) -> None:
    """Ask again until it holds; fails when the time has passed."""
    deadline = time.monotonic() + seconds
    while True:
        answer = holds()
        if not isinstance(answer, bool):
            answer = await answer
        if answer:
            return
        assert time.monotonic() < deadline, f"not in {seconds} s: {what}"
        await asyncio.sleep(0.02)  # between two questions; the bound is above
