"""The list of nodes that every service of a fleet shows: each writes those it holds, all read everybody's.

A service is one *replica*. What it wrote counts for :data:`TTL_S`, so the nodes of one that died go by themselves; age
is measured by the registry's clock, never by comparing clocks of machines. Nodes are plain values; what they mean
is not known here.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pixelmill.events.redis_client import PREFIX, heed, key_of, make_client, translated

TTL_S = 5.0
MAX_REPLICAS = 1_000
MAX_NODES = 10_000
NAME = "nodes"
KEY = key_of(PREFIX, NAME)

Node = Mapping[str, Any]


class NodeRegistry(Protocol):
    """Async. Raises :class:`StorageError` and its children where the registry can't be reached."""

    async def write(self, replica: str, nodes: Sequence[Node]) -> None:
        """These are the replica's nodes now, in place of those it wrote before."""
        ...

    async def read(self) -> list[dict[str, Any]]:
        """Nodes of all replicas, each with ``replica`` and ``age_s`` (since it was written), by replica."""
        ...

    async def remove(self, replica: str) -> None:
        """The replica stops; its nodes go at once."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class InProcessRegistry:
    """The registry of one service. ``now`` gives seconds of any clock that never goes back."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._nodes: dict[str, tuple[float, list[dict[str, Any]]]] = {}

    async def write(self, replica: str, nodes: Sequence[Node]) -> None:
        """These are the replica's nodes now."""
        self._nodes[replica] = (self._now(), [dict(node) for node in nodes[:MAX_NODES]])

    async def read(self) -> list[dict[str, Any]]:
        """Nodes of all replicas that wrote lately."""
        now = self._now()
        self._nodes = {name: entry for name, entry in self._nodes.items() if now - entry[0] < TTL_S}
        return [
            {**node, "replica": name, "age_s": round(now - at, 3)}
            for name, (at, nodes) in sorted(self._nodes.items())
            for node in nodes
        ]

    async def remove(self, replica: str) -> None:
        """The replica stops."""
        self._nodes.pop(replica, None)

    async def close(self) -> None:
        """Nothing to let go of."""


class RedisRegistry:
    """One key a replica, with a time to live, and a set of their names. Belongs to one event loop."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._key = key_of(prefix, NAME)
        self._client = make_client(url)

    async def write(self, replica: str, nodes: Sequence[Node]) -> None:
        """These are the replica's nodes now."""
        body = json.dumps([dict(node) for node in nodes[:MAX_NODES]], separators=(",", ":"), default=str)
        with translated():
            async with self._client.pipeline(transaction=True) as pipe:
                pipe.set(f"{self._key}:{replica}", body, px=round(1000 * TTL_S))
                pipe.sadd(self._key, replica)
                await heed(pipe.execute())

    async def read(self) -> list[dict[str, Any]]:
        """Nodes of all replicas that wrote lately; names of dead ones are forgotten."""
        with translated():
            names = sorted(_text(name) for name in await heed(self._client.smembers(self._key)))[:MAX_REPLICAS]
            async with self._client.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.get(f"{self._key}:{name}")
                    pipe.pttl(f"{self._key}:{name}")
                answers = await heed(pipe.execute()) if names else []
            found, dead = [], []
            for name, body, left_ms in zip(names, answers[::2], answers[1::2], strict=True):
                if body is None:
                    dead.append(name)
                    continue
                age_s = round(max(0.0, TTL_S - left_ms / 1000), 3)
                found += [{**node, "replica": name, "age_s": age_s} for node in json.loads(body)]
            if dead:
                await heed(self._client.srem(self._key, *dead))
        return found

    async def remove(self, replica: str) -> None:
        """The replica stops."""
        with translated():
            await heed(self._client.delete(f"{self._key}:{replica}"))
            await heed(self._client.srem(self._key, replica))

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode()
