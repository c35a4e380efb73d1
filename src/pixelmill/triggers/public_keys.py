"""Public keys and certificates of those who sign, fetched when they are first needed, and kept for a while.

What to fetch may be named by a stranger's request: addresses are checked by the caller, and here everything is bounded,
how much is kept, how large one is, how long it may take, and how many are fetched in a minute.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from urllib.parse import urlsplit

import httpx

from pixelmill.errors import CapacityError, ConfigError

MAX_KEPT = 32
MAX_BYTES = 262_144
KEPT_S = 3_600.0
STALE_S = 24 * 3_600.0
"""One that can't be fetched anew is used until then."""
FRESH_S = 60.0
"""One that was fetched so recently is not fetched again, though it lacks the key that a token names."""
FETCHES, PER_S = 30, 60.0
TIMEOUT_S = 10.0
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class PublicKeys:
    """A cache of small documents by their address. ``clock`` counts seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()
        self._fetched: deque[float] = deque(maxlen=FETCHES)
        self._turn = asyncio.Lock()

    async def get(self, url: str, *, newer: bool = False) -> bytes:
        """The document; with ``newer`` one that was not fetched just now, where there can be one.

        Raises :class:`CapacityError` where it can't be had now: the sender is to try again.
        """
        good_for = FRESH_S if newer else KEPT_S
        if (kept := self._younger(url, good_for)) is not None:
            return kept
        async with self._turn:
            if (kept := self._younger(url, good_for)) is not None:
                return kept
            now = self._clock()
            try:
                document = await self.fetch(url)
            except CapacityError:
                stale = None if newer else self._younger(url, STALE_S)
                if stale is None:
                    raise
                return stale
            self._kept[url] = (now, document)
            self._kept.move_to_end(url)
            while len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
            return document

    def _younger(self, url: str, seconds: float) -> bytes | None:
        """What is kept, if it is not older than that."""
        known = self._kept.get(url)
        return known[1] if known is not None and self._clock() - known[0] < seconds else None

    async def fetch(self, url: str) -> bytes:
        """Ask for it once, without keeping it; no redirect is followed."""
        now = self._clock()
        if len(self._fetched) == FETCHES and now - self._fetched[0] < PER_S:
            raise CapacityError("Too many signing keys were asked for in the last minute.", retry_after=PER_S)
        self._fetched.append(now)
        try:
            # Made for each: there are few, and the connection of an hour ago is closed anyway.
            async with (
                asyncio.timeout(TIMEOUT_S),  # httpx's own is for each piece of the answer
                httpx.AsyncClient(timeout=TIMEOUT_S) as client,
                client.stream("GET", url) as response,
            ):
                if response.status_code != 200:
                    raise CapacityError(
                        f"{_host(url)} answered {response.status_code} for a signing key.", retry_after=30
                    )
                parts = bytearray()
                async for part in response.aiter_bytes():
                    parts += part
                    if len(parts) > MAX_BYTES:
                        raise CapacityError(f"The signing key of {_host(url)} is too large.", retry_after=600)
                return bytes(parts)
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise CapacityError(
                f"The signing key of {_host(url)} can't be fetched ({type(error).__name__}).", retry_after=30
            ) from error


def check_address(url: str) -> None:
    """Raise :class:`ConfigError` for an address of keys that somebody on the way could change."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ConfigError(f"Keys must come by https, not from {url[:200]!a}.")


def _host(url: str) -> str:
    return urlsplit(url).netloc[:100]
