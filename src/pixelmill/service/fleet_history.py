"""The metrics history of a fleet: each process tells the others through Redis what it recorded, each second.

News may be lost (Redis restarts, a process starts later): then a second of one process is missing elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from pixelmill.errors import PixelmillError
from pixelmill.events.redis_news import RedisNews
from pixelmill.service.history import History

log = logging.getLogger(__name__)

TOPIC = "history"
EVERY_S = 1.0
Busy = Callable[[], tuple[int, frozenset[str]]]
"""Slots that are busy now, and the names of overflow targets."""


class FleetHistory:
    """One history and its name among the others."""

    def __init__(self, history: History, news: RedisNews, replica: str) -> None:
        self._history, self._news, self._replica = history, news, replica

    async def tell(self, busy: Busy) -> None:
        """Tell what happened here, until cancelled."""
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self._news.tell(TOPIC, [self._replica, self._history.take(*busy())])
            except PixelmillError as error:
                log.debug("other services could not be told of a second: %s", error)

    async def hear(self) -> None:
        """Add what the others tell, until cancelled."""

        async def heard(news: list[Any]) -> None:
            replica, record = news
            if replica != self._replica:
                self._history.merge(time.time(), str(replica)[:200], record)

        await self._news.listen(TOPIC, heard)
