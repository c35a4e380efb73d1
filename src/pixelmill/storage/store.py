"""The contract of an object store: bytes under keys, in a folder, in memory, or in a bucket.

Keys are relative POSIX paths of at most 1,024 bytes of UTF-8 (segments of at most 255), without empty segments,
``.``, ``..``, NUL, backslash or control characters, and the first one is not ``.pixelmill``; anything else raises
:class:`InvalidURI`. A put is atomic: a reader sees the whole object or none.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from pixelmill.errors import StorageError


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """Facts of one object. ``modified`` is seconds since the epoch; of a put perhaps by this machine's clock.

    ``version``, of a put into a bucket: how the store's events call this state (version id, generation or ETag).
    """

    key: str
    size: int
    modified: float
    version: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class PutHeaders:
    """What a bucket answers with to who gets the object; empty is the store's default."""

    content_type: str = ""
    cache_control: str = ""


NO_HEADERS = PutHeaders()


@runtime_checkable
class ObjectStore(Protocol):
    """Async access to objects. Raises only :class:`StorageError` and its children, and :class:`LimitExceeded`."""

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_absent: bool = False,
        limit: int | None = None,
        headers: PutHeaders = NO_HEADERS,
    ) -> ObjectInfo:
        """Write an object whole. ``if_absent``: raise :class:`ObjectExists` if one is there.

        ``limit``: raise :class:`LimitExceeded` (and leave nothing behind) as soon as more bytes arrive. ``headers`` are
        kept with the object by stores that have such (buckets), and ignored by folders.
        """
        ...

    async def get(self, key: str) -> bytes:
        """The whole object; raises :class:`ObjectNotFound`."""
        ...

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``; empty past the end."""
        ...

    def stream(self, key: str, chunk_size: int = 1 << 18) -> AsyncIterator[bytes]:
        """The object in chunks; memory stays bounded."""
        ...

    async def head(self, key: str) -> ObjectInfo:
        """Facts without the bytes; raises :class:`ObjectNotFound`."""
        ...

    def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """All objects whose key starts with ``prefix`` (a folder path ending in ``/``, or empty), in any order."""
        ...

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects; those that aren't there are no error."""
        ...

    async def copy(self, source: str, target: str) -> None:
        """The bytes of ``source`` under ``target`` too, in whose place they come whole; for buckets no bytes travel."""
        ...

    async def presign(self, key: str, method: Literal["GET", "PUT"], expires_s: int) -> str | None:
        """A link that works without credentials, or None where the store can't make one."""
        ...

    def local_path(self, key: str) -> Path | None:
        """The file that holds the object, where there is one that other processes may read; else None.

        None also where the object is absent: ``get`` says so.
        """
        ...

    async def check(self) -> None:
        """Raise a :class:`StorageError` unless a small object can be written, read and deleted now."""
        ...


async def stream_range(
    store: ObjectStore, key: str, start: int, length: int, chunk_size: int = 4 << 20
) -> AsyncIterator[bytes]:
    """``length`` bytes from ``start`` in chunks, one request each; fewer where the object ends before."""
    while length > 0:
        chunk = await store.get_range(key, start, min(length, chunk_size))
        if not chunk:
            return
        yield chunk
        start += len(chunk)
        length -= len(chunk)


def check_range(start: int, length: int) -> None:
    """Raise :class:`StorageError` for a range that can't be."""
    if start < 0 or length < 0:
        raise StorageError(f"A range can't start at {start} with {length} bytes; both must be 0 or more.")
