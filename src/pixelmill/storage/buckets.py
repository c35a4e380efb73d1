"""An object store over any store of obstore: S3, Google Cloud Storage, Azure Blob, or its in-memory one.

Owns the translation of obstore's exceptions and of its differences from our contract. It must not know which cloud it
talks to, apart from which stores can sign links.
"""

from __future__ import annotations

import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeVar
from urllib.parse import unquote, urlsplit

import obstore
from obstore import exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store
from obstore.store import ObjectStore as ForeignStore

from pixelmill.errors import (
    InvalidURI,
    ObjectExists,
    ObjectNotFound,
    StorageDenied,
    StorageError,
    StorageUnavailable,
)
from pixelmill.storage.faults import check_bytes
from pixelmill.storage.keys import RESERVED, check_key, check_prefix
from pixelmill.storage.store import NO_HEADERS, ObjectInfo, PutHeaders, check_range

PART_BYTES = 5 << 20
"""Size of a part of a streamed put; S3 takes none below 5 MB. At most four are held in memory."""
MAX_BUFFERED_BYTES = 128 << 20
"""Put-if-absent is one request in every cloud, so a stream must be held in memory for it: at most this much."""
_PARTS_AT_ONCE = 4
_DELETE_BATCH = 1000
_PLAIN = re.compile(r"[A-Za-z0-9/._-]+").fullmatch

T = TypeVar("T")

_TABLE: tuple[tuple[type[BaseException], type[StorageError], str], ...] = (
    (FileNotFoundError, ObjectNotFound, "There is no object {key} in the store. It may have been deleted."),
    (foreign.AlreadyExistsError, ObjectExists, "There is already an object {key} in the store."),
    # S3 answers a lost put-if-absent with a failed precondition.
    (foreign.PreconditionError, ObjectExists, "There is already an object {key} in the store."),
    (PermissionError, StorageDenied, "The store refused access to {key}. Check the rights of its credentials."),
    (
        foreign.PermissionDeniedError,
        StorageDenied,
        "The store refused access to {key}. Check the rights of its credentials.",
    ),
    (foreign.UnauthenticatedError, StorageDenied, "The store knows no such credentials. Check them, and the clock."),
    (foreign.InvalidPathError, InvalidURI, "The store can't use the key {key}."),
    (foreign.NotSupportedError, StorageError, "The store can't do that with {key}: {reason}"),
    (foreign.UnknownConfigurationKeyError, StorageError, "The store is configured wrongly: {reason}"),
    (ValueError, InvalidURI, "The store can't use the key {key}: {reason}"),
    # Network trouble and 5xx answers come as these, after obstore's own retries.
    (foreign.GenericError, StorageUnavailable, "The store did not do what was asked with {key}: {reason}"),
    (foreign.BaseError, StorageUnavailable, "The store did not do what was asked with {key}: {reason}"),
    (OSError, StorageUnavailable, "The store could not be reached for {key}: {reason}"),
)
FOREIGN = (foreign.BaseError, OSError, ValueError)


def translated_foreign(error: BaseException, key: str) -> StorageError:
    """The error of the tree for what obstore raised about ``key``."""
    # The first line names the reason; below it obstore dumps its structures.
    reason = str(error).partition("\n")[0][:300]
    for cls, ours, sentence in _TABLE:
        if isinstance(error, cls):
            return ours(sentence.format(key=key, reason=reason), key=key)
    return StorageError(f"The store failed with {key}: {reason}", key=key)


class ObstoreStore:
    """The contract over a store of obstore. ``prefix`` belongs into that store's own configuration."""

    def __init__(self, store: ForeignStore) -> None:
        self._store = store

    @property
    def foreign(self) -> ForeignStore:
        """The store of obstore."""
        return self._store

    @property
    def put_headers(self) -> Mapping[str, str]:
        """Headers that a presigned put must carry."""
        return {"x-ms-blob-type": "BlockBlob"} if isinstance(self._store, AzureStore) else {}

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_absent: bool = False,
        limit: int | None = None,
        headers: PutHeaders = NO_HEADERS,
    ) -> ObjectInfo:
        """Write an object whole; a stream goes in parts, or through memory with ``if_absent``."""
        check_key(key)
        if isinstance(data, bytes | bytearray | memoryview):
            check_bytes(len(data), limit)
            size, version = len(data), await self._put_bytes(key, bytes(data), if_absent, headers)
        elif if_absent:
            body = await _collected(data, limit)
            size, version = len(body), await self._put_bytes(key, body, if_absent=True, headers=headers)
        else:
            size, version = await self._put_stream(key, data, limit, headers)
        # Its own clock would cost another request; ours serves those who ask how old an object is.
        return ObjectInfo(key, size, time.time(), version)

    async def get(self, key: str) -> bytes:
        """The whole object."""
        check_key(key)
        return (await _asked(self._get(key), key)).to_bytes()

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``; empty past the end."""
        check_key(key)
        check_range(start, length)
        if length == 0:
            await self.head(key)
            return b""
        try:
            return (await obstore.get_range_async(self._store, key, start=start, length=length)).to_bytes()
        except FOREIGN as error:
            found = translated_foreign(error, key)
            # A range past the end has no exception of its own; ask for the size before calling it a failure.
            if isinstance(found, StorageUnavailable) and (await self.head(key)).size <= start:
                return b""
            raise found from error

    async def stream(self, key: str, chunk_size: int = 1 << 18) -> AsyncIterator[bytes]:
        """The object in chunks of about ``chunk_size``."""
        check_key(key)
        try:
            answer = await obstore.get_async(self._store, key)
            async for chunk in answer.stream(min_chunk_size=chunk_size):
                view = memoryview(chunk)
                for start in range(0, len(view), chunk_size):
                    yield bytes(view[start : start + chunk_size])
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    async def head(self, key: str) -> ObjectInfo:
        """Facts without the bytes."""
        check_key(key)
        return _facts(await _asked(obstore.head_async(self._store, key), key))

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects below ``prefix``."""
        check_prefix(prefix)
        try:
            async for batch in obstore.list(self._store, prefix.rstrip("/") or None, chunk_size=1000):
                for meta in batch:
                    if not meta["path"].startswith(f"{RESERVED}/"):
                        yield _facts(meta)
        except FOREIGN as error:
            raise translated_foreign(error, prefix) from error

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, a thousand at a time."""
        for key in keys:
            check_key(key)
        for start in range(0, len(keys), _DELETE_BATCH):
            batch = keys[start : start + _DELETE_BATCH]
            try:
                await obstore.delete_async(self._store, batch)
            except FileNotFoundError:  # some stores mind an absent one, and then stop: go one by one
                for key in batch:
                    await self._delete_one(key)
            except FOREIGN as error:
                raise translated_foreign(error, batch[0]) from error

    async def presign(self, key: str, method: Literal["GET", "PUT"], expires_s: int) -> str | None:
        """A signed link, where the store can sign; None also for a key that obstore would sign wrongly.

        Azure refuses what it signs for keys beyond plain ASCII, Google's library signs some otherwise, and with ``%``
        the link leads elsewhere: see ``tests/storage/test_presigned_links.py``.
        """
        check_key(key)
        if not isinstance(self._store, S3Store | GCSStore | AzureStore):
            return None
        if not isinstance(self._store, S3Store) and not _PLAIN(f"{self._store.prefix or ''}/{key}"):
            return None
        link = await _asked(obstore.sign_async(self._store, method, key, timedelta(seconds=expires_s)), key)
        return link if unquote(urlsplit(link).path).endswith(f"/{key}") else None

    async def copy(self, source: str, target: str) -> None:
        """Made by the store itself: no bytes come here."""
        check_key(source)
        check_key(target)
        await _asked(obstore.copy_async(self._store, source, target), source)

    def local_path(self, key: str) -> Path | None:
        """None: there is no file."""
        check_key(key)
        return None

    async def check(self) -> None:
        """Write, read and delete a small object that is not listed."""
        key = f"{RESERVED}/check-{uuid.uuid4().hex}"
        await _asked(obstore.put_async(self._store, key, b"pixelmill", mode="create"), key)
        try:
            found = (await _asked(self._get(key), key)).to_bytes()
        finally:
            await self._delete_one(key)
        if found != b"pixelmill":
            raise StorageError("The store gave back other bytes than were written.")

    # -- below ------------------------------------------------------------------------------------

    async def _get(self, key: str) -> obstore.Bytes:
        return await (await obstore.get_async(self._store, key)).bytes_async()

    async def _delete_one(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    async def _put_bytes(self, key: str, data: bytes, if_absent: bool, headers: PutHeaders) -> str:
        """The version that was made."""
        mode: Literal["create", "overwrite"] = "create" if if_absent else "overwrite"
        kept = attributes_of(headers)
        if if_absent and len(data) > PART_BYTES:
            # One request, for the condition holds for that one; without it obstore would take parts.
            made = await _asked(
                obstore.put_async(self._store, key, data, mode=mode, use_multipart=False, attributes=kept), key
            )
        else:
            made = await _asked(obstore.put_async(self._store, key, data, mode=mode, attributes=kept), key)
        return self._version(made)

    def _version(self, made: Any) -> str:
        """As events tell it: S3 and Google tell versions where they keep them; Azure tells the ETag in any case."""
        told = None if isinstance(self._store, AzureStore) else made.get("version")
        # S3 calls "null" what was put while it kept no versions; then events tell the ETag.
        return str((told if told != "null" else None) or made.get("e_tag") or "").strip('"')

    async def _put_stream(
        self, key: str, data: AsyncIterator[bytes], limit: int | None, headers: PutHeaders
    ) -> tuple[int, str]:
        """One request for what fits into a part, else a multipart upload.

        Where that fails, the cloud keeps invisible parts: buckets need a rule that drops them.
        """
        source = _Metered(data, limit)
        head: list[bytes] = []
        async for piece in source:
            head.append(piece)
            if source.total > PART_BYTES:
                break
        else:
            return source.total, await self._put_bytes(key, b"".join(head), if_absent=False, headers=headers)
        try:
            made = await obstore.put_async(
                self._store,
                key,
                _after(head, source),
                use_multipart=True,
                chunk_size=PART_BYTES,
                max_concurrency=_PARTS_AT_ONCE,
                attributes=attributes_of(headers),
            )
        except FOREIGN as error:
            if source.failure is not None:  # the caller's own error, on its way back through obstore
                raise source.failure from None
            raise translated_foreign(error, key) from error
        return source.total, self._version(made)


def attributes_of(headers: PutHeaders) -> dict[str, str] | None:
    """The headers in obstore's words."""
    named = {"Content-Type": headers.content_type, "Cache-Control": headers.cache_control}
    return {name: value for name, value in named.items() if value} or None


async def _after(head: list[bytes], rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The pieces of ``head`` (which is emptied), then the others."""
    while head:
        yield head.pop(0)
    async for piece in rest:
        yield piece


class _Metered:
    """Passes a stream on, stops it at a limit, and keeps what it raised."""

    def __init__(self, data: AsyncIterator[bytes], limit: int | None) -> None:
        self._data = data
        self._limit = limit
        self.total = 0
        self.failure: BaseException | None = None

    def __aiter__(self) -> _Metered:
        return self

    async def __anext__(self) -> bytes:
        try:
            piece = await anext(self._data)
            self.total += len(piece)
            check_bytes(self.total, self._limit)
        except StopAsyncIteration:
            raise
        except BaseException as error:
            self.failure = error
            raise
        return piece


async def _collected(data: AsyncIterator[bytes], limit: int | None) -> bytes:
    """The whole stream, within ``limit`` and within what may be held in memory."""
    maximum = MAX_BUFFERED_BYTES if limit is None else min(limit, MAX_BUFFERED_BYTES)
    pieces: list[bytes] = []
    total = 0
    async for piece in data:
        total += len(piece)
        check_bytes(total, maximum)
        pieces.append(piece)
    return b"".join(pieces)


async def _asked(answer: Awaitable[T], key: str) -> T:
    """Await a call of obstore and translate what it raises."""
    try:
        return await answer
    except FOREIGN as error:
        raise translated_foreign(error, key) from error


def _facts(meta: Any) -> ObjectInfo:
    return ObjectInfo(meta["path"], meta["size"], meta["last_modified"].timestamp())
