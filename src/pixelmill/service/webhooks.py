"""Delivers webhooks: claims what is due, sends it, records how it went. Any number of services may do this at once."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter

from pixelmill import logs, tracing
from pixelmill.errors import PixelmillError
from pixelmill.events.webhooks import WebhookSender, retry_s
from pixelmill.jobs.webhooks import Claimed, Webhooks

log = logging.getLogger(__name__)

POLL_S = 1.0
CLAIM_S = 60.0
"""Longer than an attempt can take; what a dead process had claimed is sent by another after it."""
AT_ONCE = 32
OF_ONE_OWNER = 8
"""Attempts of an owner that are under way, before those of others are taken first; also what is claimed at once."""


class Courier:
    """Runs until cancelled. A slow endpoint costs its owner turns, and the others nothing."""

    def __init__(self, webhooks: Webhooks, sender: WebhookSender) -> None:
        self._webhooks, self._sender = webhooks, sender
        self._out: dict[asyncio.Task[None], str] = {}  # attempts under way, and their owners

    async def run(self) -> None:
        """Deliver what is due, look again each second, and sooner where more may be due than there was room for."""
        try:
            while True:
                try:
                    more = await self._begin()
                except PixelmillError as error:
                    log.warning("webhooks could not be read and will be tried again: %s", error)
                    more = False
                if more and len(self._out) < AT_ONCE:
                    continue
                if self._out:
                    await asyncio.wait(self._out, timeout=POLL_S, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await asyncio.sleep(POLL_S)
        finally:
            await self._end()

    async def round(self) -> bool:
        """What is due and there is room for, to its end; True where there may be more."""
        more = await self._begin()
        while self._out:
            await asyncio.wait(self._out)
        return more

    async def _begin(self) -> bool:
        counts = Counter(self._out.values())
        full = [owner for owner, count in counts.items() if count >= OF_ONE_OWNER]
        limit = min(OF_ONE_OWNER, AT_ONCE - len(self._out))
        claimed = await self._webhooks.claim(limit, CLAIM_S, without=full) if limit > 0 else []
        for one in claimed:
            task = asyncio.create_task(self._deliver(one))
            self._out[task] = one.owner
            task.add_done_callback(self._ended)
        return len(claimed) == limit

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._out.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logs.event("loop.failed", error=error, loop="webhook")  # its claim ends by itself

    async def _end(self) -> None:
        tasks = list(self._out)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _deliver(self, one: Claimed) -> None:
        with tracing.span("webhook.send", "client", parent=tracing.from_text(one.trace)) as span:
            sent = await self._sender.send(one.url, one.secret, one.id, int(time.time()), one.body)
            if not sent.ok:
                span.fail("webhook", sent.error)
        attempts = one.attempts + 1
        try:
            if sent.ok and sent.status is not None:
                await self._webhooks.delivered(one, sent.status)
                logs.event("webhook.delivered", delivery=one.id, attempts=attempts)
                return
            pause = None if sent.gone else retry_s(attempts)
            await self._webhooks.failed(one, sent.status, sent.error, pause)
        except PixelmillError as error:  # its claim ends by itself, and it is sent again: receivers know the id
            log.warning("the end of a webhook could not be recorded: %s", error)
            return
        name = "webhook.failed" if pause is None else "webhook.retried"
        logs.event(name, delivery=one.id, attempts=attempts, detail=sent.error, pause_s=pause)
