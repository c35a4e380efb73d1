"""Bytes at places: a file, a buffer, or an object that is fetched by ranges. What readers of regions read from.

Where an object lies and how it is asked for is not known here: whoever opens one gives a function that fetches.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from pixelmill.errors import CorruptImage, StorageError
from pixelmill.images.block_cache import BlockCache
from pixelmill.images.disk_faults import disk_fault
from pixelmill.images.formats import Data

BLOCK_BYTES = 1 << 20
"""What is fetched at once of an object: a request costs about as long as this takes at 50 MB/s."""
_CACHE_BYTES = 16 << 20


class ByteSource(Protocol):
    """Bytes that are read at any place, by several threads at once."""

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def near(self) -> bool:
        """Whether many small reads are cheap: a file, not an object."""
        ...

    def read_at(self, start: int, length: int) -> bytes:
        """Exactly these bytes; raises :class:`CorruptImage` where they end before, :class:`StorageError`."""
        ...

    def close(self) -> None:
        """Give back what is open. Harmless when repeated."""
        ...


class BytesSource:
    """A buffer in memory."""

    near = True

    def __init__(self, data: Data) -> None:
        self._data = memoryview(data)

    @property
    def size(self) -> int:
        """Its length."""
        return len(self._data)

    def read_at(self, start: int, length: int) -> bytes:
        """Those bytes."""
        return whole(bytes(self._data[start : start + length]), start, length)

    def close(self) -> None:
        """Nothing is open."""


class FileSource:
    """A file; raises :class:`StorageError` if it can't be opened. Its size is that when it was opened."""

    near = True

    def __init__(self, path: Path) -> None:
        self._path, self._fd = path, -1
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._size = os.fstat(self._fd).st_size
        except OSError as error:
            self.close()
            raise disk_fault(error, "read", path) from error

    @property
    def size(self) -> int:
        """Its length."""
        return self._size

    def read_at(self, start: int, length: int) -> bytes:
        """Those bytes, by ``pread``: no position is shared."""
        try:
            data = os.pread(self._fd, length, start)
            while len(data) < length and (more := os.pread(self._fd, length - len(data), start + len(data))):
                data += more
        except OSError as error:
            raise disk_fault(error, "read", self._path) from error
        return whole(data, start, length)

    def close(self) -> None:
        """Close the descriptor, once. No thread may be reading."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


class FetchedSource:
    """An object of ``size`` bytes, of which ``fetch(start, length)`` gets a range; blocks are kept, within a bound.

    Small reads (directories, small tiles) go through blocks of ``BLOCK_BYTES``; a longer one is one request of its own.
    """

    near = False

    def __init__(
        self,
        fetch: Callable[[int, int], bytes],
        size: int,
        *,
        close: Callable[[], None] = lambda: None,
        cache_bytes: int = _CACHE_BYTES,
    ) -> None:
        self._fetch, self._size, self._close = fetch, size, close
        self._blocks: BlockCache[bytes] = BlockCache(cache_bytes, len)

    @property
    def size(self) -> int:
        """Its length."""
        return self._size

    def read_at(self, start: int, length: int) -> bytes:
        """Those bytes."""
        if start + length > self._size:
            whole(b"", start, length)
        if length >= BLOCK_BYTES:
            return self._fetched(start, length)
        first, last = start // BLOCK_BYTES, max(start, start + length - 1) // BLOCK_BYTES
        data = b"".join(self._block(number) for number in range(first, last + 1))
        at = start - first * BLOCK_BYTES
        return data[at : at + length]

    def close(self) -> None:
        """Let go of the blocks."""
        self._blocks.clear()
        self._close()

    def _block(self, number: int) -> bytes:
        start = number * BLOCK_BYTES
        length = min(BLOCK_BYTES, self._size - start)
        return self._blocks.get(number, lambda: self._fetched(start, length))

    def _fetched(self, start: int, length: int) -> bytes:
        data = self._fetch(start, length)
        if len(data) != length:
            raise StorageError(
                f"The store gave {len(data):,} of {length:,} bytes from {start:,}: the object changed meanwhile."
            )
        return data


def whole(data: bytes, start: int, length: int) -> bytes:
    """``data`` if it has ``length`` bytes; else the file ends early."""
    if len(data) != length:
        raise CorruptImage(
            f"The file ends too early: {length:,} bytes from {start:,} are not all there. Get a fresh copy of it."
        )
    return data
