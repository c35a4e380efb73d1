"""Small news between processes through Redis pub/sub, by topic: cancelled tasks, rows of the metrics history.

Pub/sub loses what is said while nobody listens: it is for what others find out by other means too, or may miss. It must
not know what a piece of news means.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from pixelmill.errors import PixelmillError
from pixelmill.events.redis_client import PREFIX, database_of, heed, key_of, make_client, translated

log = logging.getLogger(__name__)

POLL_S = 1.0
PAUSES_S = (0.1, 5.0)
MAX_NEWS = 1_000_000
"""Bytes of one piece; larger ones are not ours."""


class RedisNews:
    """Both ends. Belongs to one event loop; nothing is connected before it is used."""

    def __init__(self, url: str, prefix: str = PREFIX) -> None:
        self._prefix = prefix
        self._client = make_client(url)
        self._database = database_of(url)

    def _channel(self, topic: str) -> str:
        return f"{key_of(self._prefix, topic)}:{self._database}"

    async def tell(self, topic: str, value: Any) -> None:
        """Tell whoever listens a JSON value. Raises :class:`StorageError` and its children."""
        with translated():
            await heed(self._client.publish(self._channel(topic), json.dumps(value, separators=(",", ":"))))

    async def listen(self, topic: str, heard: Callable[[Any], Awaitable[object]]) -> None:
        """Hand on what is told, our own too, until cancelled; connects again where the connection breaks."""
        pause, most = PAUSES_S
        while True:
            try:
                with translated():
                    async with self._client.pubsub() as subscription:
                        await heed(subscription.subscribe(self._channel(topic)))
                        while True:
                            message = await heed(
                                subscription.get_message(ignore_subscribe_messages=True, timeout=POLL_S)
                            )
                            pause = PAUSES_S[0]
                            if message is not None:
                                await self._hand_on(message["data"], heard)
            except PixelmillError as error:
                log.debug("no news of %s through Redis, trying again in %.1f s: %s", topic, pause, error)
            await asyncio.sleep(pause)
            pause = min(most, 2 * pause)

    async def _hand_on(self, data: bytes, heard: Callable[[Any], Awaitable[object]]) -> None:
        if len(data) > MAX_NEWS:
            return
        try:
            await heard(json.loads(data))
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            log.debug("news of another version, or not ours: %s", error)
        except PixelmillError as error:
            log.warning("news could not be used: %s", error)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
