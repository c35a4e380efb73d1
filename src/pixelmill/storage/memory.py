"""An object store in memory: for tests, and for runs that keep nothing. Bounded by its capacity."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Literal

import obstore
from obstore.store import MemoryStore as ForeignMemoryStore

from pixelmill.errors import StorageFull
from pixelmill.storage.buckets import FOREIGN, ObstoreStore, attributes_of, translated_foreign
from pixelmill.storage.faults import check_bytes
from pixelmill.storage.keys import check_key
from pixelmill.storage.store import NO_HEADERS, ObjectInfo, PutHeaders

INLINE_BYTES = 1 << 20
"""Up to this size bytes are copied on the event loop: the way to the threads of obstore and back costs more."""


class MemoryStore(ObstoreStore):
    """The bucket store over obstore's in-memory one. ``capacity`` bounds the bytes of all objects together."""

    def __init__(self, capacity: int = 1 << 30) -> None:
        super().__init__(ForeignMemoryStore())
        self.capacity = capacity
        self._sizes: dict[str, int] = {}
        self._used = 0
        self._pending = 0

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_absent: bool = False,
        limit: int | None = None,
        headers: PutHeaders = NO_HEADERS,
    ) -> ObjectInfo:
        """Write an object whole; raises :class:`StorageFull` beyond the capacity."""
        check_key(key)
        arriving = _once(bytes(data)) if isinstance(data, bytes | bytearray | memoryview) else data
        pieces: list[bytes] = []
        held = 0
        try:
            async for piece in arriving:
                held += len(piece)
                self._pending += len(piece)
                check_bytes(held, limit)
                self._make_sure_it_fits(key)
                pieces.append(piece)
            info = await super().put(key, b"".join(pieces), if_absent=if_absent, headers=headers)
            self._used += info.size - self._sizes.get(key, 0)
            self._sizes[key] = info.size
        finally:
            self._pending -= held
        return info

    async def _put_bytes(self, key: str, data: bytes, if_absent: bool, headers: PutHeaders) -> str:
        if len(data) > INLINE_BYTES:
            return await super()._put_bytes(key, data, if_absent, headers)
        try:
            mode: Literal["create", "overwrite"] = "create" if if_absent else "overwrite"
            made = obstore.put(self._store, key, data, mode=mode, attributes=attributes_of(headers))
        except FOREIGN as error:
            raise translated_foreign(error, key) from error
        return self._version(made)

    async def _get(self, key: str) -> obstore.Bytes:
        found = obstore.get(self._store, key)
        return found.bytes() if found.meta["size"] <= INLINE_BYTES else await found.bytes_async()

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects and free their room."""
        await super().delete(keys)
        for key in keys:
            self._used -= self._sizes.pop(key, 0)

    async def copy(self, source: str, target: str) -> None:
        """As a put, so that it is counted."""
        check_key(target)
        await self.put(target, await self.get(source))

    def _make_sure_it_fits(self, key: str) -> None:
        if self._used - self._sizes.get(key, 0) + self._pending > self.capacity:
            raise StorageFull(
                f"Could not write {key}: the memory store holds at most {self.capacity:,} bytes. Delete old jobs.",
                key=key,
            )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
