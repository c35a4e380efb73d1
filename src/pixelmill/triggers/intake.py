"""Events that providers send by HTTP: who sends them, the handshakes before, and what is answered.

Knows no web framework and no service, so that the route of the service and a container without one do the same. Whoever
calls :func:`accept` gives the request as plain values, and sends the :class:`Answer`.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pixelmill import logs
from pixelmill.errors import CapacityError, PixelmillError, Unauthenticated
from pixelmill.triggers.documents import is_foreign, read_events, with_headers
from pixelmill.triggers.event import Parsed
from pixelmill.triggers.google_oidc import is_google_token, require_google_auth
from pixelmill.triggers.public_keys import PublicKeys, check_address
from pixelmill.triggers.sns_signature import CONFIRMATIONS, is_signed, is_trusted, require_cryptography
from pixelmill.triggers.source_options import Options
from pixelmill.triggers.verbs import Taken, Taker

MAX_BODY = 1_048_576
"""Bytes of a document. The largest that providers send: Event Grid and SNS 1 MB and less, a push of Pub/Sub little."""
LARGE = 100_000
"""Bytes of a document that is read in a thread, lest the service stand still meanwhile."""
RETRY_AFTER_S = 10
REFUSED = "The credentials of this source of events were not accepted."
VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"


@dataclass(frozen=True, slots=True)
class Posted:
    """One request: headers and query with names in lower case, and the body."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back: a status, a JSON body or none, and headers."""

    status: int = 200
    body: Mapping[str, Any] | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def check_intake(options: Options) -> None:
    """Raise :class:`MissingExtra` or :class:`ConfigError` for what a request would only find out later."""
    if options["auth"] == "google-oidc":
        require_google_auth()
        check_address(options["certs_url"])
    elif options["auth"] == "sns":
        require_cryptography()


async def admit(options: Options, posted: Posted, keys: PublicKeys) -> None:
    """Refuse who can be told by headers and query alone, before a body is received for him.

    Raises as :func:`accept` does, which is to be asked all the same: what SNS signs is the body.
    """
    if options["auth"] != "sns":
        await authenticate(options, posted, keys)


async def accept(options: Options, posted: Posted, taker: Taker, keys: PublicKeys) -> Answer:
    """Authenticate a ``POST``, answer a handshake, or hand the document's events over.

    ``options`` come from :func:`~pixelmill.triggers.source_options.read_options`. Answers 200 only when the events are
    recorded. Raises :class:`Unauthenticated`, and :class:`CapacityError` where they could not be recorded, or a key
    could not be fetched: the provider tries again.
    """
    await authenticate(options, posted, keys)
    if (answer := await answer_handshake(options, posted, keys)) is not None:
        return answer
    parsed = await asyncio.to_thread(read, posted) if len(posted.body) > LARGE else read(posted)
    if is_foreign(parsed):
        logs.event(
            "source.unread",
            source=options.name,
            reason=parsed.unread[0].reason,
            text=posted.body[:500].decode("utf-8", "replace"),
        )
    try:
        taken = await taker.take(options.name, parsed.events, parsed.unread)
    except PixelmillError as error:
        logs.event(
            "source.unrecorded", source=options.name, reason=error.type, detail=error.detail, retry_s=RETRY_AFTER_S
        )
        raise CapacityError(
            "The events could not be recorded; nothing was lost if you send them again.", retry_after=RETRY_AFTER_S
        ) from error
    return Answer(200, summary(taken, parsed))


def read(posted: Posted) -> Parsed:
    """The events of a request; those of a CloudEvent in headers too."""
    if "ce-type" not in posted.headers:
        return read_events(posted.body)
    return read_events(with_headers(posted.headers, _json(posted.body)))


def summary(taken: Taken, parsed: Parsed) -> dict[str, Any]:
    """What became of a document, for the answer."""
    return {
        "accepted": taken.accepted,
        "duplicate": taken.duplicate,
        "unmatched": taken.unmatched,
        "ignored": taken.ignored,
        "unread": [{"reason": part.reason, "detail": part.detail} for part in parsed.unread[:20]],
    }


# -- who sends it ----------------------------------------------------------------------------------------------------


async def authenticate(options: Options, posted: Posted, keys: PublicKeys) -> None:
    """Return for one who may send events to this source; else raise :class:`Unauthenticated`, which tells no reason."""
    match options["auth"]:
        case "token":
            good = _is_secret(posted, options.secret("token"), "token")
        case "event-grid":
            good = _is_secret(posted, options.secret("key"), "key")
        case "google-oidc":
            good = await is_google_token(
                _bearer(posted),
                audiences=options["audience"],
                accounts=options["service_account"],
                certs_url=options["certs_url"],
                keys=keys,
            )
        case "sns":
            message = _mapping(_json(posted.body))
            good = message.get("TopicArn") in options["topics"] and await is_signed(
                message, hosts=options["cert_hosts"], keys=keys
            )
        case _:
            good = True  # `none`, which is refused for a service that others can reach
    if not good:
        raise Unauthenticated(REFUSED, source=options.name)


def _is_secret(posted: Posted, secret: str, name: str) -> bool:
    """Whether the secret is in ``Authorization`` (as such, or behind ``Bearer``), ``X-Pixelmill-Key`` or the query."""
    offered = (
        _bearer(posted),
        posted.headers.get("authorization", "").strip(),
        posted.headers.get("x-pixelmill-key", ""),
        posted.query.get(name, ""),
    )
    wanted = secret.encode("utf-8", "replace")
    # All are compared, whichever is right: how long it takes tells nothing.
    matches = [hmac.compare_digest(one.encode("utf-8", "replace"), wanted) for one in offered]
    return bool(secret) and any(matches)


def _bearer(posted: Posted) -> str:
    scheme, _, token = posted.headers.get("authorization", "").strip().partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


# -- handshakes ------------------------------------------------------------------------------------------------------


async def answer_handshake(options: Options, posted: Posted, keys: PublicKeys) -> Answer | None:
    """The answer to a ``POST`` that sets a subscription up (it was authenticated); None for every other."""
    if options["auth"] == "sns":
        return await _confirm(_mapping(_json(posted.body)), options, keys)
    if (
        posted.headers.get("aeg-event-type", "").lower() == "subscriptionvalidation"
        or VALIDATION.encode() in posted.body
    ):
        code = _validation_code(_json(posted.body))
        return None if code is None else Answer(200, {"validationResponse": code})
    return None


def answer_options(options: Options, posted: Posted) -> Answer:
    """The answer to ``OPTIONS``: CloudEvents' "Web Hooks", 4.1. Raises :class:`Unauthenticated`.

    Only sources with ``event-grid`` are asked so; the origin must be one that was configured.
    """
    origin = posted.headers.get("webhook-request-origin", "")
    good = options["auth"] == "event-grid" and _is_secret(posted, options.secret("key"), "key")
    if not good or origin not in options["origins"]:
        raise Unauthenticated(REFUSED, source=options.name)
    headers = {"allow": "POST", "webhook-allowed-origin": origin, "webhook-allowed-rate": "*"}
    return Answer(200, None, headers)


def _validation_code(document: Any) -> str | None:
    """The code of Event Grid's validation event, alone or in a list."""
    items = document if isinstance(document, list) else [document]
    for item in items[:1]:
        event = _mapping(item)
        code = _mapping(event.get("data")).get("validationCode")
        if VALIDATION in (event.get("eventType"), event.get("type")) and isinstance(code, str) and len(code) <= 200:
            return code
    return None


async def _confirm(message: Mapping[str, Any], options: Options, keys: PublicKeys) -> Answer | None:
    """Confirm a subscription to a topic that was configured, by visiting the address that SNS gave and signed."""
    if message.get("Type") not in CONFIRMATIONS:
        return None
    url = message.get("SubscribeURL")
    if message["Type"] == "SubscriptionConfirmation":
        if not is_trusted(url, options["cert_hosts"]):
            raise Unauthenticated(REFUSED, source=options.name)
        await keys.fetch(str(url))
    return Answer(200, {"topic": message.get("TopicArn"), "type": message["Type"]})


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
