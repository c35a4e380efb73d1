"""Bytes behind links that a caller gives: read from and put to hosts that the settings allow, and nowhere else.

A link is a request that this machine makes for somebody else, so (OWASP, Server-Side Request Forgery Prevention):
HTTPS only, to hosts that are listed, no redirects, no proxies. The name is resolved once, every address of it must be
public, and the connection goes to an address that was looked at: a name that changes its mind changes nothing.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import httpx

from pixelmill.errors import InvalidURI, ObjectNotFound, SourceRefused, StorageUnavailable
from pixelmill.targets.invocation import Link

WITHIN_S = 60.0
CONNECT_S = 10.0
MAX_URL = 8_192


class Links:
    """``hosts``: exact names, or ``.example.com`` for all below it. ``private``: also HTTP and private addresses."""

    def __init__(self, hosts: Sequence[str], *, private: bool = False) -> None:
        self._hosts = [host.lower() for host in hosts]
        self._private = private

    def check(self, link: str) -> httpx.URL:
        """The address, if its form and host are allowed; raises :class:`InvalidURI`, :class:`SourceRefused`."""
        if len(link) > MAX_URL:
            raise InvalidURI(f"The link has {len(link):,} characters, the limit is {MAX_URL:,}.")
        try:
            url = httpx.URL(link)
        except (httpx.InvalidURL, ValueError, UnicodeError) as error:
            raise InvalidURI(f"The link can't be understood: {error}.") from error
        host = url.host.rstrip(".").lower()
        if not host or url.userinfo:
            raise InvalidURI("A link needs a host, and no user name.")
        if url.scheme != "https" and not (self._private and url.scheme == "http"):
            raise SourceRefused("Links must be https.")
        if not any(host.endswith(name) if name.startswith(".") else host == name for name in self._hosts):
            raise SourceRefused(
                f"This service may not use links to {host[:100]}: its setting link_hosts does not list that host."
            )
        return url

    async def contents(self, part: bytes | Link, check: Callable[[int], None], take: Callable[[int], None]) -> bytes:
        """The bytes of a part, fetched where it is a link. ``check`` and ``take`` bound them as they arrive."""
        if not isinstance(part, Link):
            check(len(part))
            take(len(part))  # it stays in memory for as long as the request waits, as what is fetched does
            return part
        data = bytearray()
        async with self._answer("GET", part.url) as answer:
            if answer.status_code != 200:
                kind = ObjectNotFound if answer.status_code in (403, 404) else StorageUnavailable
                raise kind(f"The link to the source was answered with status {answer.status_code}.")
            async for chunk in answer.aiter_raw():
                take(len(chunk))
                data += chunk
                check(len(data))
        return bytes(data)

    async def put(self, link: str, data: bytes, media_type: str | None) -> None:
        """Put the result there; raises :class:`StorageUnavailable` where it is not taken."""
        headers = {"x-ms-blob-type": "BlockBlob"}  # Azure asks for it, others don't look
        if media_type is not None:
            headers["content-type"] = media_type
        async with self._answer("PUT", link, data, headers) as answer:
            if answer.status_code not in (200, 201, 204):
                raise StorageUnavailable(f"The link for the result was answered with status {answer.status_code}.")

    @asynccontextmanager
    async def _answer(
        self, method: str, link: str, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> AsyncIterator[httpx.Response]:
        url = self.check(link)
        address = await self._address(url.host, url.port or (443 if url.scheme == "https" else 80))
        pinned = url.copy_with(host=address)
        sent = {"host": url.netloc.decode("ascii"), "accept-encoding": "identity", **(headers or {})}
        timeout = httpx.Timeout(WITHIN_S, connect=CONNECT_S)
        try:
            async with (
                asyncio.timeout(WITHIN_S),
                httpx.AsyncClient(timeout=timeout, follow_redirects=False, trust_env=False) as client,
                # The certificate must be that of the name, though the connection goes to a number.
                client.stream(
                    method, pinned, content=data, headers=sent, extensions={"sni_hostname": url.host}
                ) as answer,
            ):
                yield answer
        except (httpx.HTTPError, TimeoutError) as error:
            raise StorageUnavailable(f"The link to {url.host} could not be used: {type(error).__name__}.") from error

    async def _address(self, host: str, port: int) -> str:
        """One address of the host; raises :class:`SourceRefused` if any of them is not public."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            raise StorageUnavailable(f"The host {host[:100]} of the link can't be found.") from error
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            if not self._private and not is_public(address):
                raise SourceRefused(f"The host {host[:100]} of the link is at an address that is not public.")
        return addresses[0]


def is_public(address: str) -> bool:
    """True for an address of the Internet, also where IPv6 wraps one of IPv4."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is not None:
            return is_public(str(inner))
        if ip in ipaddress.ip_network("64:ff9b::/96"):
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
    return ip.is_global and not ip.is_multicast
