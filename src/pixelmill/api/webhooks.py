"""Webhooks: endpoints that are told when jobs end, what was sent to them, and sending it again."""

from __future__ import annotations

from starlette.responses import Response

from pixelmill.api.dto import delivery_body, page_body, webhook_body
from pixelmill.api.edge import Call
from pixelmill.api.responses import json_response
from pixelmill.api.routes import CURSOR, LIMIT, Routes, content_of, path_id
from pixelmill.api.schemas import (
    DeliveryBody,
    DeliveryList,
    NewWebhookBody,
    WebhookBody,
    WebhookList,
    WebhookRequest,
)

routes = Routes("webhooks")
_ID = path_id("webhook_id", "wh_019565a1b2c3d4e5f60718293a4b5c6d7e8f")
_DELIVERY = path_id("delivery_id", "msg_5f2b6c1e9a7d4f305f2b6c1e9a7d4f30")


@routes.add(
    "POST",
    "/v1/webhooks",
    scope="jobs:write",
    summary="Register a webhook",
    problems=(400, 413, 422),
    model=NewWebhookBody,
    status=201,
    body=content_of(WebhookRequest),
)
async def add_webhook(call: Call) -> Response:
    """The endpoint gets a signed `job.ended` for each of your jobs. The secret is shown in this answer only."""
    wanted = await call.json(WebhookRequest)
    made = call.service.webhooks.new(call.owner, wanted.url)
    await call.service.webhooks.add(made)
    return json_response({**webhook_body(made), "secret": made.secret}, 201)


@routes.add("GET", "/v1/webhooks", scope="jobs:read", summary="List webhooks", model=WebhookList)
async def list_webhooks(call: Call) -> Response:
    """All of them, oldest first, without their secrets; those of single jobs are not listed."""
    return json_response(
        {"items": [webhook_body(one) for one in await call.service.webhooks.list(call.owner)], "next": None}
    )


@routes.add(
    "GET",
    "/v1/webhooks/{webhook_id}",
    scope="jobs:read",
    summary="Look at a webhook",
    problems=(404,),
    model=WebhookBody,
    parameters=(_ID,),
)
async def get_webhook(call: Call) -> Response:
    """Without its secret."""
    return json_response(webhook_body(await call.service.webhooks.get(call.owner, call.path("webhook_id"))))


@routes.add(
    "DELETE",
    "/v1/webhooks/{webhook_id}",
    scope="jobs:write",
    summary="Delete a webhook",
    problems=(404,),
    status=204,
    parameters=(_ID,),
)
async def delete_webhook(call: Call) -> Response:
    """With its deliveries; those that wait are not sent."""
    await call.service.webhooks.remove(call.owner, call.path("webhook_id"))
    return Response(status_code=204)


@routes.add(
    "GET",
    "/v1/webhooks/{webhook_id}/deliveries",
    scope="jobs:read",
    summary="List what was sent to a webhook",
    problems=(400, 404),
    model=DeliveryList,
    parameters=(_ID, LIMIT, CURSOR),
)
async def list_deliveries(call: Call) -> Response:
    """Newest first; kept for a week after their end."""
    page = await call.service.webhooks.deliveries(
        call.owner,
        call.path("webhook_id"),
        limit=call.number("limit", 50, 1, 1_000),
        cursor=call.query("cursor") or None,
    )
    return json_response(page_body(page, delivery_body))


@routes.add(
    "POST",
    "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/redeliver",
    scope="jobs:write",
    summary="Send a delivery again",
    problems=(404, 409),
    model=DeliveryBody,
    status=202,
    parameters=(_ID, _DELIVERY),
)
async def redeliver(call: Call) -> Response:
    """With the same `webhook-id`, from the first attempt; 409 while it still waits."""
    found = await call.service.webhooks.redeliver(call.owner, call.path("webhook_id"), call.path("delivery_id"))
    return json_response(delivery_body(found), 202)
