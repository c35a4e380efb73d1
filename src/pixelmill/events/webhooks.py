"""Sending a webhook: signed (Standard Webhooks 1.0), to an address that was resolved once, with bounds on everything.

Knows HTTP and addresses; it must not know jobs or rows. https://www.standardwebhooks.com says how receivers verify.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import ipaddress
import random
import secrets
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from urllib.parse import urlsplit

import httpx

from pixelmill import __version__, tracing
from pixelmill.errors import RequestError

MAX_URL = 2_000
TIMEOUT_S = 15.0
"""For one attempt: resolving, connecting, sending and the answer."""
MAX_ANSWER = 64 * 1024
RESOLVERS = 16
"""Names that are resolved at once, in threads of their own: a name server that never answers must hold up nothing else
of this process."""
RETRIES_S = (5.0, 30.0, 120.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 14_400.0, 21_600.0, 36_000.0)
"""Pauses between attempts; about a day in all."""
JITTER = 0.2
PREFIX = "whsec_"


@dataclass(frozen=True, slots=True)
class Sent:
    """How an attempt ended; ``status`` is None where there was no answer. ``gone``: never to be tried again."""

    ok: bool
    status: int | None
    error: str = ""
    gone: bool = False


def new_secret() -> str:
    """A secret of 24 random bytes, as the standard writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(24)).decode()


def sign(secret: str, message_id: str, timestamp: int, body: str) -> str:
    """The value of ``webhook-signature``: HMAC-SHA256 over ``id.timestamp.body``."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return "v1," + base64.b64encode(signed).decode()


def retry_s(attempts: int, chance: Callable[[], float] = random.random) -> float | None:
    """Seconds until the next attempt after so many; None where it was the last one."""
    if attempts > len(RETRIES_S):
        return None
    return RETRIES_S[attempts - 1] * (1 + JITTER * (2 * chance() - 1))


def check_webhook_url(url: str) -> str:
    """The address, if it may be one; raises :class:`RequestError`. Where it leads is looked at when it is used."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if (
        not good
        or len(url) > MAX_URL
        or not url.isascii()
        or not url.isprintable()
        or " " in url
        or "@" in parts.netloc
    ):
        raise RequestError(
            f"A webhook needs an http:// or https:// address of at most {MAX_URL:,} ASCII characters, without user, "
            "password and spaces.",
            parameter="url",
        )
    return url


def is_public(address: str) -> bool:
    """Whether it is an address of the internet: no loopback, private, link-local, multicast or reserved one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # What stands for an IPv4 address is judged as that one.
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
    if isinstance(ip, ipaddress.IPv6Address) and ip.is_site_local:
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


class WebhookSender:
    """Sends one message at a time to one endpoint; makes a connection for each, to an address that it has checked."""

    def __init__(self, *, allow_private: bool = False, timeout_s: float = TIMEOUT_S) -> None:
        self._allow_private, self._timeout_s = allow_private, timeout_s
        self._tls = httpx.create_ssl_context()
        self._resolvers = ThreadPoolExecutor(RESOLVERS, thread_name_prefix="pixelmill-webhook-dns")

    async def send(self, url: str, secret: str, message_id: str, timestamp: int, body: str) -> Sent:
        """One attempt; never raises what the endpoint did. Redirects are not followed."""
        try:
            async with asyncio.timeout(self._timeout_s):
                address = await self._resolve(url)
                if address is None:
                    return Sent(ok=False, status=None, error=_REFUSED)
                return await self._post(
                    url, address, sign(secret, message_id, timestamp, body), message_id, timestamp, body
                )
        except TimeoutError:
            return Sent(ok=False, status=None, error=f"no answer within {self._timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Sent(ok=False, status=None, error=f"{type(error).__name__}: {error}"[:300])

    async def _resolve(self, url: str) -> str | None:
        """The address that is used, resolved once: a name may lead elsewhere the next time. None: refused."""
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        look_up = partial(socket.getaddrinfo, parts.hostname, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(self._resolvers, look_up)
        addresses = [str(entry[4][0]) for entry in found]
        if self._allow_private:
            return addresses[0]
        return next(iter(addresses), None) if all(map(is_public, addresses)) else None

    async def _post(self, url: str, address: str, signature: str, message_id: str, timestamp: int, body: str) -> Sent:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        target = httpx.URL(url).copy_with(host=address, port=port)
        headers = {
            "host": parts.netloc,
            "content-type": "application/json",
            "user-agent": f"Pixelmill/{__version__}",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": signature,
            **tracing.headers(),
        }
        extensions = {"sni_hostname": parts.hostname}  # the certificate must be the name's, not the address's
        async with (
            httpx.AsyncClient(
                verify=self._tls, trust_env=False, follow_redirects=False, timeout=self._timeout_s
            ) as client,
            client.stream("POST", target, content=body.encode(), headers=headers, extensions=extensions) as answer,
        ):
            size = 0
            async for chunk in answer.aiter_raw():
                size += len(chunk)
                if size > MAX_ANSWER:
                    break  # enough: the status is all that counts
            ok = 200 <= answer.status_code < 300
            error = "" if ok else f"the endpoint answered {answer.status_code}"
            return Sent(ok, answer.status_code, error, gone=answer.status_code == 410)


_REFUSED = (
    "the address is private, loopback or link-local; such endpoints are only used where the service is configured with "
    "webhook_allow_private"
)
