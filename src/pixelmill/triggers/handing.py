"""Handing events over until they are taken: what a source has in its hands it does not let go before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pixelmill import logs
from pixelmill.errors import PixelmillError
from pixelmill.triggers.event import ObjectEvent, Unread
from pixelmill.triggers.verbs import Taker

FIRST_PAUSE_S = 0.5
MAX_PAUSE_S = 30.0


async def hand_over(taker: Taker, source: str, events: Sequence[ObjectEvent], unread: Sequence[Unread] = ()) -> None:
    """Return when they are recorded; failures are logged, and tried again after pauses that grow."""
    pause = FIRST_PAUSE_S
    while True:
        try:
            await taker.take(source, events, unread)
        except PixelmillError as error:
            tell("source.unrecorded", source, error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)
        else:
            return


def tell(event: str, source: str, error: PixelmillError, pause: float) -> None:
    """Log a failure that is tried again."""
    logs.event(event, source=source, reason=error.type, detail=error.detail, retry_s=round(pause, 1))
