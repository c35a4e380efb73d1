"""Bytes on their way to somebody else's machine and back, by links into the store that both can reach.

Each call has keys of its own below ``transfer/``, which go with it: a call that was given up may still write, and must
never write where a result stands. What a process that died left there is swept by the service's housekeeping.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from pixelmill.errors import ObjectNotFound, StorageError, TargetUnavailable
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.invocation import Link
from pixelmill.targets.target import RunRequest, near

PREFIX = "transfer/"


async def contents(part: bytes | Path) -> bytes:
    """The bytes of a part of a request; a file is read in a thread."""
    return part if isinstance(part, bytes) else await asyncio.to_thread(part.read_bytes)


class Transfer:
    """The objects of one call. Links work for ``expires_s``; ``close`` removes everything."""

    def __init__(self, store: ObjectStore, expires_s: float) -> None:
        self._store, self._expires_s = store, max(1, round(expires_s))
        self._base = f"{PREFIX}{secrets.token_hex(16)}"
        self._keys: list[str] = []

    @classmethod
    async def is_possible(cls, store: ObjectStore) -> bool:
        """Whether the store makes links."""
        return await store.presign(f"{PREFIX}probe", "GET", 60) is not None

    async def send(self, request: RunRequest) -> tuple[Link, Mapping[str, Link]]:
        """Links to the source and the images; what already lies in the store is not sent again."""
        url = await self._store.presign(request.source_key, "GET", self._expires_s) if request.source_key else None
        if url is not None:
            source = Link(url)
        else:  # it does not lie there, or below a name that the store can't sign
            source = await self._put("source", await contents(near(request.source, "This target")))
        images = {
            reference: await self._put(f"image{number}", await contents(image))
            for number, (reference, image) in enumerate(request.images.items())
        }
        return source, images

    async def result_link(self) -> Link:
        """Where the result may be put."""
        self._keys.append(f"{self._base}/result")
        return await self._link(f"{self._base}/result", "PUT")

    async def result(self, name: str, most: int) -> bytes:
        """What was put there; raises :class:`TargetUnavailable` where that is nothing, or too much."""
        key = f"{self._base}/result"
        try:
            if (await self._store.head(key)).size > most:
                raise TargetUnavailable(f"{name} stored more than {most:,} bytes.", begun=True)
            return await self._store.get(key)
        except ObjectNotFound:
            raise TargetUnavailable(f"{name} said that it stored a result, but there is none.", begun=True) from None

    async def close(self) -> None:
        """Remove what was sent and stored."""
        with suppress(StorageError):
            await self._store.delete(self._keys)

    async def _put(self, part: str, data: bytes) -> Link:
        key = f"{self._base}/{part}"
        self._keys.append(key)
        await self._store.put(key, data)
        return await self._link(key, "GET")

    async def _link(self, key: str, method: str) -> Link:
        url = await self._store.presign(key, "PUT" if method == "PUT" else "GET", self._expires_s)
        if url is None:
            raise TargetUnavailable("The store makes no links any more.", billed="none", fault=False)
        return Link(url)
