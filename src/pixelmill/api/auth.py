"""Who asks, and may they: tokens, scopes, and what protects a service that needs no token from web pages.

On loopback without a token everybody is the owner ``local``. A browser is somebody on loopback too, so such requests
must carry a loopback ``Host`` (against DNS rebinding) and must not come from a page of another origin. Requests with a
token need neither: a foreign page doesn't know it. A session's cookie is sent by the browser whoever asked, so with one
a request that changes something must say that it comes from our own page.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from typing import Literal, Protocol
from urllib.parse import urlsplit

from pixelmill.api.settings import ApiSettings, is_loopback
from pixelmill.errors import ConfigError, Forbidden, Unauthenticated
from pixelmill.service import Caller

Scope = Literal["process", "jobs:read", "jobs:write", "node", "admin"]
SCOPES: tuple[Scope, ...] = ("process", "jobs:read", "jobs:write", "node", "admin")
"""``process`` runs single images; ``jobs:read`` sees jobs, tasks, results and events; ``jobs:write`` uploads, submits,
cancels, retries and deletes; ``node`` joins as a node, and sees the images that it is given; ``admin`` sees nodes and
metrics, and implies the others."""

LOCAL = Caller("local", frozenset(SCOPES))
REMEMBERED_S = 30.0
MAX_REMEMBERED = 1_024
COOKIE = "pixelmill_session"
MAX_SECRET = 256
"""Characters of a token or of a session's secret."""
SAFE_METHODS = frozenset({"GET", "HEAD"})


class Authenticator(Protocol):
    """What is asked of the service."""

    async def authenticate(self, token: str) -> Caller:
        """Who holds the token; raises :class:`Unauthenticated`."""
        ...

    async def authenticate_session(self, secret: str) -> Caller:
        """Who holds the session; raises :class:`Unauthenticated`."""
        ...


class Access:
    """Decides for each request who its caller is.

    A good token or session is remembered for ``REMEMBERED_S`` (so a revoked one works that long at most) among the
    last ``MAX_REMEMBERED``; only its hash is kept. Bad ones are not remembered.
    """

    def __init__(
        self, service: Authenticator, settings: ApiSettings, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._service, self._clock = service, clock
        self._known: OrderedDict[bytes, tuple[Caller, float]] = OrderedDict()
        self._tokens_needed, self._on_loopback = settings.tokens_needed, settings.on_loopback
        self._hosts = frozenset(name.lower() for name in settings.allowed_hosts)

    async def caller(self, method: str, headers: Iterable[tuple[bytes, bytes]]) -> Caller:
        """The caller; raises :class:`Unauthenticated`, or :class:`Forbidden` for a browser's foreign request."""
        found = relevant(headers)
        authorization = found.get(b"authorization")
        if authorization is not None:
            return await self._of_token(authorization)
        secret = session_secret(found.get(b"cookie", b""))
        if secret and (caller := await self._of_session(method, secret, found)) is not None:
            return caller
        if self._tokens_needed:
            raise Unauthenticated(
                "This service needs a token: send `Authorization: Bearer pm_…`. "
                "`pixelmill tokens create` on the service's machine makes one."
            )
        host = found.get(b"host", b"").decode("latin-1")
        self._check_host(host)
        if method not in SAFE_METHODS:
            check_origin(found)
        return LOCAL

    async def _of_token(self, header: bytes) -> Caller:
        token = bearer_token(header)
        return await self._remembered(_key("token", token), lambda: self._service.authenticate(token))

    async def _of_session(self, method: str, secret: str, found: dict[bytes, bytes]) -> Caller | None:
        """Its caller. None for one that has ended, where nobody needs one: the cookie may be another service's."""
        if method not in SAFE_METHODS:
            check_own_page(found)
        try:
            return await self._remembered(_key("session", secret), lambda: self._service.authenticate_session(secret))
        except Unauthenticated:
            if self._tokens_needed:
                raise
            return None

    async def _remembered(self, key: bytes, ask: Callable[[], Awaitable[Caller]]) -> Caller:
        now = self._clock()
        known = self._known.get(key)
        if known is not None and now < known[1]:
            return known[0]
        self._known.pop(key, None)
        caller = await ask()
        self._known[key] = (caller, now + REMEMBERED_S)
        while len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)
        return caller

    def forget_session(self, secret: str) -> None:
        """It was ended: ask again."""
        self._known.pop(_key("session", secret), None)

    def _check_host(self, host: str) -> None:
        if not host or not self._on_loopback:
            return
        name = _without_port(host)
        if not (is_loopback(name) or name.lower() in self._hosts):
            raise Forbidden(
                f"Requests without a token must name this machine, not {name!r}, in their Host header. Use "
                "http://127.0.0.1 or http://localhost, or send a token.",
                host=name,
            )


_RELEVANT = frozenset({b"authorization", b"cookie", b"host", b"origin", b"sec-fetch-site"})


def relevant(headers: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers that say who asks, and from where."""
    return {name: value for name, value in headers if name in _RELEVANT}


def bearer_token(header: bytes) -> str:
    """The token of an ``Authorization`` header; raises :class:`Unauthenticated` for another form."""
    scheme, _, token = header.decode("latin-1").strip().partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > MAX_SECRET:
        raise Unauthenticated("The Authorization header must be of the form `Bearer pm_…`.")
    return token


def session_secret(cookies: bytes) -> str:
    """The secret in a ``Cookie`` header (RFC 6265, 4.2), or an empty text."""
    for pair in cookies.decode("latin-1").split(";"):
        name, _, value = pair.strip().partition("=")
        if name == COOKIE and 0 < len(value) <= MAX_SECRET:
            return value
    return ""


def _key(kind: str, secret: str) -> bytes:
    return hashlib.sha256(f"{kind} {secret}".encode()).digest()


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]


def check_own_page(found: dict[bytes, bytes]) -> None:
    """Raise :class:`Forbidden` unless the headers say that a page of this very origin asks."""
    check_origin(found)
    if not found.get(b"origin") and found.get(b"sec-fetch-site") != b"same-origin":
        raise Forbidden(
            "With a session's cookie only this service's own pages may change anything, and the request does not say "
            "where it comes from (Origin, Sec-Fetch-Site). A script sends a token: `Authorization: Bearer pm_…`."
        )


def check_origin(found: dict[bytes, bytes]) -> None:
    """Refuse what a page of another origin makes a browser send (WHATWG Fetch: Origin, Sec-Fetch-Site)."""
    host = found.get(b"host", b"").decode("latin-1")
    origin = found.get(b"origin", b"").decode("latin-1")
    site = found.get(b"sec-fetch-site", b"").decode("latin-1")
    foreign = bool(origin) and urlsplit(origin).netloc.lower() != host.lower()
    if foreign or site in {"cross-site", "same-site"}:
        raise Forbidden(
            "A web page of another origin may not change anything here. Ask from this service's own pages, or send a "
            "token.",
            origin=origin,
        )


def check_scope(caller: Caller, scope: Scope) -> None:
    """Raise :class:`Forbidden` unless the caller has the scope (``admin`` has all)."""
    if scope not in caller.scopes and "admin" not in caller.scopes:
        raise Forbidden(
            f"The token lacks the scope {scope!r}. `pixelmill tokens create --scope {scope}` makes one that has it.",
            scope=scope,
        )


def check_address(settings: ApiSettings, *, has_tokens: bool) -> None:
    """Raise :class:`ConfigError` where the service would be open to others, or closed to everybody."""
    if settings.tokens_needed and not has_tokens:
        raise ConfigError(
            f"Listening on {settings.host} needs at least one token, and there is none. Create one with `pixelmill "
            "tokens create`, listen on 127.0.0.1 (--host, PIXELMILL_HOST), or take the risk with --insecure."
        )
