"""Verbs on webhooks: endpoints that are told when jobs end, and what was sent to them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from pixelmill.events.webhooks import check_webhook_url, new_secret
from pixelmill.jobs.model import Page
from pixelmill.jobs.notices import NewWebhook
from pixelmill.jobs.webhooks import Delivery, Webhook
from pixelmill.service.parts import Parts


class WebhookVerbs:
    """Of one owner each. ``new_id`` gives ids of webhooks."""

    def __init__(self, parts: Parts, new_id: Callable[[str], str]) -> None:
        self._parts, self._new_id = parts, new_id

    def new(self, owner: str, url: str) -> NewWebhook:
        """An endpoint with a secret of its own, not yet recorded; raises :class:`RequestError` for a wrong address."""
        return NewWebhook(self._new_id("wh"), owner, check_webhook_url(url), new_secret(), time.time())

    async def add(self, webhook: NewWebhook) -> None:
        """From now on the endpoint is told when jobs of its owner end."""
        await self._parts.webhooks.add(webhook)

    async def list(self, owner: str) -> Sequence[Webhook]:
        """The owner's endpoints, without their secrets."""
        return await self._parts.webhooks.list(owner)

    async def get(self, owner: str, webhook_id: str) -> Webhook:
        """One endpoint."""
        return await self._parts.webhooks.get(owner, webhook_id)

    async def remove(self, owner: str, webhook_id: str) -> None:
        """Remove an endpoint with its deliveries."""
        await self._parts.webhooks.remove(owner, webhook_id)

    async def deliveries(self, owner: str, webhook_id: str, *, limit: int = 50, cursor: str | None = None) -> Page:
        """What was sent to an endpoint (:class:`Delivery`), newest first."""
        return await self._parts.webhooks.deliveries(owner, webhook_id, limit=limit, cursor=cursor)

    async def redeliver(self, owner: str, webhook_id: str, delivery_id: str) -> Delivery:
        """Send a delivery that has ended again."""
        return await self._parts.webhooks.redeliver(owner, webhook_id, delivery_id)
