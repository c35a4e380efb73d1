"""Delivers webhooks: claims what is due, sends it, records how it went. Any number of services may do this at once."""

from __future__ import annotations

import asyncio
import logging
import time

from pixelmill import logs
from pixelmill.errors import PixelmillError
from pixelmill.events.webhooks import WebhookSender, retry_s
from pixelmill.jobs.webhooks import Claimed, Webhooks

log = logging.getLogger(__name__)

POLL_S = 1.0
CLAIM_S = 60.0
"""Longer than an attempt can take; what a dead process had claimed is sent by another after it."""
AT_ONCE = 16


class Courier:
    """Runs until cancelled."""

    def __init__(self, webhooks: Webhooks, sender: WebhookSender) -> None:
        self._webhooks, self._sender = webhooks, sender

    async def run(self) -> None:
        """Deliver what is due, look again each second."""
        while True:
            try:
                busy = await self.round()
            except PixelmillError as error:
                log.warning("webhooks could not be read and will be tried again: %s", error)
                busy = False
            if not busy:
                await asyncio.sleep(POLL_S)

    async def round(self) -> bool:
        """One batch; True where there may be more."""
        claimed = await self._webhooks.claim(AT_ONCE, CLAIM_S)
        async with asyncio.TaskGroup() as group:
            for one in claimed:
                group.create_task(self._deliver(one))
        return len(claimed) == AT_ONCE

    async def _deliver(self, one: Claimed) -> None:
        sent = await self._sender.send(one.url, one.secret, one.id, int(time.time()), one.body)
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
