"""Tokens that Google signs for a service account: what Pub/Sub and Eventarc send with a push.

Google Cloud documentation, "Authentication for push subscriptions": a JWT (RFC 7519) in ``Authorization: Bearer``,
signed by Google (RS256), with the audience and the service account's email that were configured.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from pixelmill.errors import MissingExtra
from pixelmill.triggers.public_keys import PublicKeys

ISSUERS = ("https://accounts.google.com", "accounts.google.com")
SKEW_S = 10
MAX_TOKEN = 8_192


def require_google_auth() -> Any:
    """google-auth's JWT module; raises :class:`MissingExtra`."""
    try:
        from google.auth import jwt
    except ImportError as error:
        raise MissingExtra('Tokens of Google are verified by google-auth: pip install "pixelmill[fleet]"') from error
    return jwt


async def is_google_token(
    token: str, *, audiences: Sequence[str], accounts: Collection[str], certs_url: str, keys: PublicKeys
) -> bool:
    """Whether Google signed it for one of the accounts and one of the audiences, and it has not expired."""
    if not 0 < len(token) <= MAX_TOKEN:
        return False
    claims = await _claims(token, audiences, certs_url, keys)
    return (
        claims is not None
        and claims.get("iss") in ISSUERS
        and claims.get("email") in accounts
        and claims.get("email_verified") is True
    )


async def _claims(token: str, audiences: Sequence[str], certs_url: str, keys: PublicKeys) -> dict[str, Any] | None:
    """What a token says, where its signature, its times and its audience are right; else None."""
    jwt = require_google_auth()
    try:
        header = jwt.decode_header(token)
    except (ValueError, RecursionError):  # a stranger may nest JSON deep
        return None
    if header.get("alg") not in ("RS256", "ES256") or not isinstance(header.get("kid"), str):
        return None
    certs = _certs(await keys.get(certs_url))
    if header["kid"] not in certs:  # keys change every few days
        certs = _certs(await keys.get(certs_url, newer=True))
    if header["kid"] not in certs:
        return None
    try:
        claims = jwt.decode(token, certs=certs, audience=list(audiences), clock_skew_in_seconds=SKEW_S)
    except (ValueError, TypeError, RecursionError):
        return None
    return claims if isinstance(claims, dict) else None


def _certs(document: bytes) -> dict[str, str]:
    """Certificates in PEM by the id of their key."""
    try:
        found = json.loads(document)
    except ValueError:
        return {}
    return {key: value for key, value in found.items() if isinstance(value, str)} if isinstance(found, dict) else {}
