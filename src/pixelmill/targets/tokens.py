"""What a call shows to the machine it calls: nothing, a token, or an identity token of Google that is fetched and kept.

Google's come from the metadata server of the machine, or from a service account's file that
``GOOGLE_APPLICATION_CREDENTIALS`` names: google-auth finds out (https://cloud.google.com/run/docs/authenticating).
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from pixelmill.errors import MissingExtra, TargetUnavailable

MARGIN = timedelta(minutes=5)
"""A token is renewed so long before it ends: calls take time, and clocks differ."""
FETCH_S = 10.0


class Credentials(Protocol):
    """Where the ``Authorization`` header comes from."""

    async def header(self) -> str | None:
        """Its value; raises :class:`TargetUnavailable` where there is none to be had."""
        ...

    def refused(self) -> None:
        """The other side did not take it: get a new one."""
        ...


class Anonymous:
    """No header."""

    async def header(self) -> str | None:
        """None."""
        return None

    def refused(self) -> None:
        """There is nothing to renew."""


class Bearer:
    """A token that stays the same."""

    def __init__(self, token: str) -> None:
        self._token = token

    async def header(self) -> str | None:
        """The token."""
        return f"Bearer {self._token}"

    def refused(self) -> None:
        """There is no other."""


class GoogleIdToken:
    """An identity token for ``audience`` (the service's URL), fetched when first needed and before it ends."""

    def __init__(self, audience: str) -> None:
        try:
            import google.auth.transport.requests
            from google.auth.exceptions import GoogleAuthError
            from google.oauth2 import id_token
        except ImportError as error:
            raise MissingExtra('Google ID tokens need google-auth: pip install "pixelmill[fleet]".') from error
        self._audience = audience
        self._fetch_credentials: Any = id_token.fetch_id_token_credentials
        self._error = GoogleAuthError
        self._transport: Any = google.auth.transport.requests.Request
        self._credentials: Any = None
        self._fresh = False
        self._turn = asyncio.Lock()

    async def header(self) -> str | None:
        """The token; one fetch at a time, in a thread."""
        async with self._turn:
            if not self._is_fresh():
                try:
                    async with asyncio.timeout(FETCH_S):
                        await asyncio.to_thread(self._fetch)
                # Its transport translates what requests raises; what the server says may be no JSON at all.
                except (self._error, ValueError, OSError) as error:
                    raise TargetUnavailable(
                        f"No Google ID token could be fetched for {self._audience}: {error}", billed="none"
                    ) from error
            return f"Bearer {self._credentials.token}"

    def refused(self) -> None:
        """Fetch a new one before the next call."""
        self._fresh = False

    def _is_fresh(self) -> bool:
        if not self._fresh or self._credentials is None or self._credentials.expiry is None:
            return False
        # google-auth's times are UTC without saying so.
        expiry: datetime = self._credentials.expiry.replace(tzinfo=UTC)
        return datetime.now(UTC) < expiry - MARGIN

    def _fetch(self) -> None:
        transport = self._transport()
        if self._credentials is None:
            self._credentials = self._fetch_credentials(self._audience, transport)
        self._credentials.refresh(transport)
        self._fresh = True
