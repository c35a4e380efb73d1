"""An object store in a folder of this machine: one file an object, written beside and moved into place.

It decides what runs on the event loop and what in a thread; the system calls are in :mod:`pixelmill.storage.tree` and
:mod:`pixelmill.storage.temps`. They are made directly, not through obstore, and inline for small objects:
docs/decisions/2026-11-21-folder-store.md has the figures. It must not know what the objects are.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, ParamSpec, TypeVar

from pixelmill.errors import StorageError
from pixelmill.storage import tree
from pixelmill.storage.faults import check_bytes
from pixelmill.storage.keys import RESERVED, check_key, check_prefix
from pixelmill.storage.store import NO_HEADERS, ObjectInfo, PutHeaders, check_range
from pixelmill.storage.temps import TempFile, Temps

INLINE_BYTES = 1 << 20
"""Up to this size bytes are read and written on the event loop: a copy in the page cache costs less than a thread."""
_BATCH = 512
_PATH_MAX = 4096

P = ParamSpec("P")
T = TypeVar("T")


class FolderStore:
    """Objects as files below ``root``, which is made by the first put.

    ``fsync``: a put returns only when bytes and folder entries are on disk (they survive power loss); without it they
    survive the death of the process. May be used from several threads. An object and a folder can't have the same
    name: with an object ``a``, a put of ``a/b`` raises :class:`InvalidURI`. Symbolic links below ``root`` are never
    followed (:class:`StorageDenied`).
    """

    def __init__(self, root: Path, *, fsync: bool = False) -> None:
        self.root = Path(os.path.realpath(root))
        self._root = str(self.root)
        self._fsync = fsync
        self._temps = Temps(self.root, fsync=fsync)

    async def put(
        self,
        key: str,
        data: bytes | AsyncIterator[bytes],
        *,
        if_absent: bool = False,
        limit: int | None = None,
        headers: PutHeaders = NO_HEADERS,  # noqa: ARG002 contract
    ) -> ObjectInfo:
        """Write an object whole. Of a stream at most 1 MB and one piece are held."""
        check_key(key)
        if isinstance(data, bytes | bytearray | memoryview):
            return await self._put_bytes(key, bytes(data), if_absent, limit)
        held: list[bytes] = []
        size = total = 0
        temp: TempFile | None = None
        try:
            async for piece in data:
                total += len(piece)
                check_bytes(total, limit)
                held.append(piece)
                size += len(piece)
                if size > INLINE_BYTES:
                    temp = temp or self._temps.create()
                    await _in_thread(self._temps.write, temp, b"".join(held), key)
                    held.clear()
                    size = 0
            rest = b"".join(held)
            if temp is None:
                return await self._put_bytes(key, rest, if_absent, limit)
            return await _in_thread(self._finish, temp, rest, key, if_absent)
        except BaseException:
            if temp is not None:
                self._temps.discard(temp)
            raise

    async def get(self, key: str) -> bytes:
        """The whole object."""
        check_key(key)
        fd, size = tree.open_file(self._root, key)
        try:
            return await self._read(fd, 0, size, key)
        finally:
            os.close(fd)

    async def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``; empty past the end."""
        check_key(key)
        check_range(start, length)
        fd, size = tree.open_file(self._root, key)
        try:
            return await self._read(fd, start, max(0, min(length, size - start)), key)
        finally:
            os.close(fd)

    async def stream(self, key: str, chunk_size: int = 1 << 18) -> AsyncIterator[bytes]:
        """The object in chunks, as it was when the first one was asked for."""
        check_key(key)
        fd, size = tree.open_file(self._root, key)
        try:
            for start in range(0, size, chunk_size):
                yield await self._read(fd, start, min(chunk_size, size - start), key)
        finally:
            os.close(fd)

    async def head(self, key: str) -> ObjectInfo:
        """Facts without the bytes."""
        check_key(key)
        return tree.info(self._root, key)

    async def list(self, prefix: str = "") -> AsyncIterator[ObjectInfo]:
        """Objects below ``prefix``, folder by folder; a thread reads ahead one batch."""
        check_prefix(prefix)
        found = tree.walk(self._root, prefix)
        try:
            while batch := await _in_thread(_take, found):
                for info in batch:
                    yield info
        finally:
            found.close()

    async def delete(self, keys: Sequence[str]) -> None:
        """Remove objects, then the folders that became empty."""
        for key in keys:
            check_key(key)
        if len(keys) == 1:
            tree.delete(self._root, keys)
            return
        for start in range(0, len(keys), _BATCH):
            await _in_thread(tree.delete, self._root, keys[start : start + _BATCH])

    async def copy(self, source: str, target: str) -> None:
        """Read and written here."""
        check_key(target)
        await self.put(target, self.stream(source))

    async def presign(self, key: str, method: Literal["GET", "PUT"], expires_s: int) -> str | None:  # noqa: ARG002 contract
        """None: a folder can't make links."""
        check_key(key)
        return None

    def local_path(self, key: str) -> Path | None:
        """The file of the object; None where there is none (or a symbolic link on the way to it)."""
        check_key(key)
        try:
            tree.info(self._root, key)
        except StorageError:
            return None
        path = self.root / key
        # We walk by descriptors and so may lie deeper than a path can say.
        return path if len(os.fsencode(path)) < _PATH_MAX else None

    async def check(self) -> None:
        """Write, read and delete a small object, in the part of the folder that is not listed."""
        key = f"{RESERVED}/check/{uuid.uuid4().hex}"
        await _in_thread(self._put_whole, key, b"pixelmill", if_absent=True)
        try:
            fd, size = tree.open_file(self._root, key)
            try:
                found = tree.read(fd, 0, size, key)
            finally:
                os.close(fd)
        finally:
            tree.delete(self._root, [key])
        if found != b"pixelmill":
            raise StorageError(f"The folder {self.root} gave back other bytes than were written. Check the disk.")

    async def sweep(self) -> int:
        """Remove the temporary files of processes that died; returns how many. Call it at start."""
        return await _in_thread(self._temps.sweep)

    def close(self) -> None:
        """Give up the lock on our temporary files. The store may be used again."""
        self._temps.close()

    # -- below ------------------------------------------------------------------------------------

    async def _read(self, fd: int, start: int, length: int, key: str) -> bytes:
        if length <= INLINE_BYTES:
            return tree.read(fd, start, length, key)
        return await _in_thread(tree.read, fd, start, length, key)

    async def _put_bytes(self, key: str, data: bytes, if_absent: bool, limit: int | None) -> ObjectInfo:
        check_bytes(len(data), limit)
        if len(data) <= INLINE_BYTES and not self._fsync:
            return self._put_whole(key, data, if_absent)
        return await _in_thread(self._put_whole, key, data, if_absent)

    def _put_whole(self, key: str, data: bytes, if_absent: bool) -> ObjectInfo:
        temp = self._temps.create()
        try:
            return self._finish(temp, data, key, if_absent)
        except BaseException:
            self._temps.discard(temp)
            raise

    def _finish(self, temp: TempFile, data: bytes, key: str, if_absent: bool) -> ObjectInfo:
        self._temps.write(temp, data, key)
        return self._temps.publish(temp, key, if_absent=if_absent)


def _take(found: Iterator[ObjectInfo]) -> list[ObjectInfo]:
    return list(itertools.islice(found, _BATCH))


async def _in_thread(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``function`` in a thread and, if cancelled, wait until it has ended: it uses descriptors we close next."""
    future = asyncio.get_running_loop().run_in_executor(None, lambda: function(*args, **kwargs))
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([future])
        if not future.cancelled():
            future.exception()  # seen here, or the loop would complain that nobody did
        raise
