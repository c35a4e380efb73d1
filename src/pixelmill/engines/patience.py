"""Waits while a store, a database or a queue is away, so that an outage costs time and not tasks or processes.

A task that waits holds its slot or its place among the results that are being stored; so a service whose store is away
takes no more work than it has room for, and goes on where it was. Cancelling ends the wait.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from pixelmill.errors import StorageUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 10.0
LONGEST_START_PAUSE_S = 2.0
START_S = 30.0
"""How long a process that starts waits for what it needs: machines that start together are not ready together."""

T = TypeVar("T")


class Patience:
    """Asks again for ``patience_s`` seconds at most; then the failure counts as one of the attempt's."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s

    async def __call__(self, ask: Callable[[], Awaitable[T]], works: Callable[[], Awaitable[object]]) -> T:
        """What ``ask`` gives. ``works`` raises :class:`StorageUnavailable` while the store is away.

        Where the store works and refuses twice all the same, the failure is of that one object and is raised at once.
        """
        deadline = time.monotonic() + self._patience_s
        pause, refused = FIRST_PAUSE_S, False
        while True:
            try:
                return await ask()
            except StorageUnavailable as error:
                if time.monotonic() + pause > deadline:
                    raise
                away = await _is_away(works)
                if refused and not away:
                    raise
                refused = not away
                log.warning("the store is away, asking again in %.1f s: %s", pause, error)
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)


async def when_there(open_it: Callable[[], Awaitable[object]], what: str, patience_s: float = START_S) -> None:
    """Open it as soon as it can be reached; after ``patience_s`` seconds what it raised is raised."""
    deadline = time.monotonic() + patience_s
    pause = FIRST_PAUSE_S
    while True:
        try:
            await open_it()
        except StorageUnavailable as error:
            if time.monotonic() + pause > deadline:
                raise
            log.warning("%s is not there, asking again in %.1f s: %s", what, pause, error)
        else:
            return
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_START_PAUSE_S)


async def _is_away(works: Callable[[], Awaitable[object]]) -> bool:
    try:
        await works()
    except StorageUnavailable:
        return True
    return False
