"""Bytes behind links of a direct invocation: fetched, and put. Without redirects and proxies, within a size and a time.

Who may invoke the function may have it ask any address: so it asks by HTTPS alone, and by HTTP only that host which its
own environment names as its store.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from pixelmill.errors import InvalidURI, LimitExceeded, ObjectNotFound, SourceRefused, StorageUnavailable
from pixelmill.functions.settings import FunctionSettings
from pixelmill.targets.invocation import Link

MAX_URL = 8_192
RESERVE_S = 0.5
"""Before the function's time ends, so that its caller is told why there is no result."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A link that leads elsewhere is not followed."""


_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())


class Links:
    """``within_s``: the time that is left for everything. ``follows``: whether links are followed at all."""

    def __init__(self, settings: FunctionSettings, within_s: float, *, follows: bool = True) -> None:
        self._limits, self._follows = settings.limits, follows
        self._within_s = max(0.1, within_s - RESERVE_S)
        endpoints = (options.get("endpoint", "") for options in settings.stores.values())
        self._plain = {urlsplit(endpoint).netloc for endpoint in endpoints if endpoint.startswith("http://")}

    def contents(self, part: bytes | Link) -> bytes:
        """The bytes, fetched where they are a link."""
        if isinstance(part, bytes):
            self._limits.check_bytes(len(part))
            return part
        request = urllib.request.Request(self._checked(part.url))  # noqa: S310 -- checked
        with _translated(), _opener.open(request, timeout=self._within_s) as answer:
            body = bytes(answer.read(self._limits.max_bytes + 1))
            # A connection that broke looks like the end to who reads so many bytes at most.
            if answer.length and len(body) <= self._limits.max_bytes:
                raise StorageUnavailable("The link broke off before its end.")
        if len(body) > self._limits.max_bytes:
            raise LimitExceeded(
                f"What the link gives has more than {self._limits.max_bytes:,} bytes.",
                limit="bytes",
                value=len(body),
                maximum=self._limits.max_bytes,
            )
        return body

    def put(self, link: Link, body: bytes, media_type: str) -> None:
        """Write to a link."""
        # Azure asks for the kind of blob, others don't look.
        headers = {"content-type": media_type, "x-ms-blob-type": "BlockBlob"}
        request = urllib.request.Request(  # noqa: S310 -- checked
            self._checked(link.url), data=body, headers=headers, method="PUT"
        )
        with _translated(), _opener.open(request, timeout=self._within_s):
            pass

    def check(self, link: Link) -> None:
        """Raise for a link that will not be followed, before work is done for nothing."""
        self._checked(link.url)

    def _checked(self, url: str) -> str:
        if not self._follows:
            raise SourceRefused(
                "Links are followed only for callers that are known: send the bytes, or set PIXELMILL_TOKEN in the "
                "function's environment and show it."
            )
        if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url:
            raise InvalidURI("The link is no address: it is too long, or holds what no address may.")
        try:
            parts = urlsplit(url)
            host = parts.hostname
        except ValueError as error:
            raise InvalidURI(f"The link can't be understood: {error}.") from error
        if not host or "@" in parts.netloc:
            raise InvalidURI("A link needs a host, and no user name.")
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.netloc in self._plain):
            raise SourceRefused("Links must be https.")
        return url


@contextmanager
def _translated() -> Iterator[None]:
    """What may go wrong from the connection to the last byte, as errors of the tree."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (404, 410):
            raise ObjectNotFound("There is nothing behind the link any more.") from error
        raise StorageUnavailable(f"The host of the link answered with status {error.code}.") from error
    except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
        raise StorageUnavailable(f"The link could not be followed: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    reason: object = getattr(error, "reason", error)
    return str(reason)[:200]
