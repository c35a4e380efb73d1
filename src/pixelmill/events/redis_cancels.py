"""News of cancelled tasks through Redis pub/sub, for workers that have no database.

Pub/sub loses what is said while nobody listens; who misses it finds out by other means (``engines/cancels.py``).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from pixelmill.errors import PixelmillError
from pixelmill.events.redis_client import database_of, heed, make_client, translated

log = logging.getLogger(__name__)

CHANNEL = "pixelmill:cancelled"
CHUNK = 500
"""Ids in one message."""
POLL_S = 1.0
PAUSES_S = (0.1, 5.0)


class RedisCancels:
    """Both ends. Belongs to one event loop; nothing is connected before it is used."""

    def __init__(self, url: str) -> None:
        self._client = make_client(url)
        self._channel = f"{CHANNEL}:{database_of(url)}"

    async def tell(self, ids: Sequence[str]) -> None:
        """These tasks (ids of their messages) were cancelled. Raises :class:`StorageError` and its children."""
        with translated():
            for start in range(0, len(ids), CHUNK):
                body = json.dumps(list(ids[start : start + CHUNK]))
                await heed(self._client.publish(self._channel, body))

    async def listen(self, heard: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        """Hand on what is told, until cancelled; connects again where the connection breaks."""
        pause, most = PAUSES_S
        while True:
            try:
                with translated():
                    async with self._client.pubsub() as subscription:
                        await heed(subscription.subscribe(self._channel))
                        pause = PAUSES_S[0]
                        while True:
                            message = await heed(
                                subscription.get_message(ignore_subscribe_messages=True, timeout=POLL_S)
                            )
                            if message is not None:
                                await heard(_ids(message["data"]))
            except PixelmillError as error:
                log.warning("cancelled tasks can't be heard of through Redis, trying again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(most, 2 * pause)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def _ids(data: bytes | str) -> list[str]:
    with suppress(ValueError):  # of another version, or not ours
        found = json.loads(data)
        if isinstance(found, list):
            return [one for one in found if isinstance(one, str)]
    return []
