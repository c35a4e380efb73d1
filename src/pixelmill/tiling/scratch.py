"""Pixels between two sweeps: stores of whole images, in memory up to a bound and on disk beyond it.

A file has no name from the moment it is made, so that it is gone when the process ends, however it ends. It is read and
written with pread and pwrite: pages of a mapping would count as memory of the process. Uncompressed: zlib's fastest
level takes more than ten times the CPU time (docs/decisions/2026-11-28-sweeps.md).
"""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import StorageDenied, StorageError, StorageFull, StorageUnavailable
from pixelmill.images.image import Size
from pixelmill.images.regions import Raster, Region
from pixelmill.tiling.grid import Grid, up

CELL = 512
"""Columns of a cell about: what is read in one go is whole rows of cells, and a halo touches the next one only."""


class Store(Protocol):
    """The pixels of an image, or what was kept of each. Several threads at once may read and write other regions."""

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Keep these; raises :class:`StorageError`."""
        ...

    def read(self, region: Region) -> NDArray[Any]:
        """An array of the caller's own, of what was written before."""
        ...

    def close(self) -> None:
        """Give memory or disk back. Harmless when repeated."""
        ...


class InMemory:
    """A :class:`Store` in one array."""

    def __init__(self, raster: Raster) -> None:
        self._pixels: NDArray[Any] | None = np.empty(
            raster.shape(Region(0, 0, raster.size.width, raster.size.height)), raster.dtype
        )

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Copy them in."""
        assert self._pixels is not None, "closed"
        self._pixels[region.top : region.bottom, region.left : region.right] = pixels

    def read(self, region: Region) -> NDArray[Any]:
        """A copy."""
        assert self._pixels is not None, "closed"
        return self._pixels[region.top : region.bottom, region.left : region.right].copy()

    def close(self) -> None:
        """Give the memory back."""
        self._pixels = None


class OnDisk:
    """A :class:`Store` in a file of cells, as wide as ``CELL`` about; the rows of a cell lie one after the other."""

    def __init__(self, raster: Raster, tile: Size, folder: Path) -> None:
        self._raster, self._folder = raster, folder
        width, height = raster.size
        parts = max(1, round(tile.width / CELL))
        cell = Size(min(width, up(-(-tile.width // parts), 64)), min(tile.height, height))
        self._grid = Grid(raster.size, cell)
        self._sample = raster.channels * raster.dtype.itemsize
        self._fd = _nameless(folder)

    def _offset(self, number: int, core: Region, row: int) -> int:
        """Bytes before the row of a cell: cells of a row of them lie one after the other, cut at the image's ends."""
        cell = self._grid.core(number)
        return (cell.top * self._raster.size.width + cell.left * cell.height + (row - cell.top) * cell.width) * (
            self._sample
        ) + (core.left - cell.left) * self._sample

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """A call a cell where rows of it are whole, else one a row."""
        for number, part in self._grid.parts(region):
            block = np.ascontiguousarray(part.of(pixels, region))
            if part.width == self._grid.core(number).width:
                self._put(block, self._offset(number, part, part.top))
            else:
                for index, row in enumerate(block):
                    self._put(row, self._offset(number, part, part.top + index))

    def read(self, region: Region) -> NDArray[Any]:
        """Whole rows of the cells that it touches are read."""
        result = np.empty(self._raster.shape(region), self._raster.dtype)
        for number, part in self._grid.parts(region):
            cell = self._grid.core(number)
            rows = Region(cell.left, part.top, cell.width, part.height)
            block = np.empty(self._raster.shape(rows), self._raster.dtype)
            self._get(block, self._offset(number, rows, part.top))
            part.of(result, region)[...] = part.of(block, rows)
        return result

    def _put(self, block: NDArray[Any], offset: int) -> None:
        view = block.reshape(-1).view(np.uint8).data
        try:
            while view:
                count = os.pwrite(self._fd, view, offset)
                view, offset = view[count:], offset + count
        except OSError as error:
            raise _translated(error, self._folder) from error

    def _get(self, block: NDArray[Any], offset: int) -> None:
        view = block.reshape(-1).view(np.uint8).data
        try:
            while view:
                count = os.preadv(self._fd, [view], offset)
                if count == 0:
                    raise StorageUnavailable(f"A scratch file in {self._folder} ended early. Was its disk taken away?")
                view, offset = view[count:], offset + count
        except OSError as error:
            raise _translated(error, self._folder) from error

    def close(self) -> None:
        """Close the file, which frees its space."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


@dataclass(slots=True)
class Scratch:
    """Makes stores: in memory while these take no more than ``memory_bytes`` together, else on disk in ``folder``.

    ``disk_bytes`` bounds the files together. As a context manager it closes whatever is left.
    """

    folder: Path = field(default_factory=lambda: Path(tempfile.gettempdir()))
    memory_bytes: int = 64_000_000
    disk_bytes: int = 1_000_000_000_000
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _stores: dict[int, tuple[Store, int, bool]] = field(default_factory=dict, repr=False)

    def make(self, raster: Raster, tile: Size) -> Store:
        """A store of that form, written along tiles of that size.

        Raises :class:`StorageFull` where it passes the bound or would not fit on the disk, another
        :class:`StorageError` where the folder can't be used.
        """
        size = raster.bytes
        with self._lock:
            in_memory = self._used(on_disk=False) + size <= self.memory_bytes
            if not in_memory:
                self._check_room(size)
            store: Store = InMemory(raster) if in_memory else OnDisk(raster, tile, self.folder)
            self._stores[id(store)] = (store, size, not in_memory)
            return store

    def give_back(self, store: Store) -> None:
        """Close it, and count it no more."""
        with self._lock:
            self._stores.pop(id(store), None)
        store.close()

    def _used(self, *, on_disk: bool) -> int:
        return sum(size for _, size, disk in self._stores.values() if disk == on_disk)

    def _check_room(self, size: int) -> None:
        if self._used(on_disk=True) + size > self.disk_bytes:
            raise StorageFull(
                f"Intermediate pixels would take {(self._used(on_disk=True) + size) / 1e9:,.1f} GB on disk; the limit "
                f"is {self.disk_bytes / 1e9:,.1f} GB. Raise it with PIXELMILL_SCRATCH_BYTES."
            )
        try:
            status = os.statvfs(self.folder)
        except OSError as error:
            raise _translated(error, self.folder) from error
        free = status.f_bavail * status.f_frsize
        if size > free:
            raise StorageFull(
                f"Intermediate pixels take {size / 1e9:,.1f} GB, and {self.folder} has {free / 1e9:,.1f} GB free. Make "
                "room, or name another folder with PIXELMILL_SCRATCH."
            )

    def close(self) -> None:
        """Close what is left."""
        with self._lock:
            stores, self._stores = list(self._stores.values()), {}
        for store, _, _ in stores:
            store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _nameless(folder: Path) -> int:
    """A file that has no name, or loses it at once where the file system can't make such."""
    try:
        with suppress(OSError, AttributeError):  # not of every file system, and of Linux alone
            return os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fd, name = tempfile.mkstemp(prefix=".pixelmill-", suffix=".scratch", dir=folder)
        Path(name).unlink()
    except OSError as error:
        raise _translated(error, folder) from error
    return fd


def _translated(error: OSError, folder: Path) -> StorageError:
    why = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(
            f"Intermediate pixels could not be written to {folder}: {why}. Make room, or name another folder with "
            "PIXELMILL_SCRATCH."
        )
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR):
        return StorageDenied(
            f"The scratch folder {folder} can't be used: {why}. Name another with PIXELMILL_SCRATCH.",
        )
    return StorageUnavailable(f"Intermediate pixels in {folder} could not be reached: {why}.")
