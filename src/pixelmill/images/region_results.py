"""Where a result that is written by regions goes while it isn't whole: a file beside its name, renamed at the end.

A writer of a format appends pieces, and changes the first bytes when it knows them. Results in object stores fulfil the
same contract elsewhere.
"""

from __future__ import annotations

import errno
import os
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pixelmill.errors import ObjectExists
from pixelmill.images.disk_faults import disk_fault

HEAD_BYTES = 1 << 12
"""Only the first bytes of a result may be changed: an object store has long got the others."""
FLUSHED_BYTES = 16 << 20
"""Pieces of a result that go to the disk while it grows."""
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class Result(Protocol):
    """A file that comes into being. ``append`` may be called by several threads at once."""

    def append(self, data: bytes | memoryview) -> int:
        """Store a piece, and say where it begins; raises :class:`StorageError`."""
        ...

    def change(self, start: int, data: bytes) -> None:
        """Overwrite some of the first ``HEAD_BYTES``."""
        ...

    def finish(self) -> None:
        """Make it safe, and give it its name."""
        ...

    def abort(self) -> None:
        """Take it back. Harmless when repeated, and after ``finish``."""
        ...


class FileResult:
    """A file. ``if_absent``: raises :class:`ObjectExists` in ``finish`` if one of its name is there by then."""

    def __init__(self, path: Path, *, if_absent: bool = False) -> None:
        self._path, self._if_absent = path, if_absent
        self._part = part_beside(path)
        self._lock, self._end = threading.Lock(), 0
        try:
            self._fd = os.open(self._part, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise disk_fault(error, "write", path) from error

    def append(self, data: bytes | memoryview) -> int:
        """Places are given out one by one, and written to in parallel."""
        with self._lock:
            at = self._end
            self._end += len(data)
        self._write(at, data)
        if at // FLUSHED_BYTES != (at + len(data)) // FLUSHED_BYTES:
            self._flush(at // FLUSHED_BYTES - 1)
        return at

    def _flush(self, number: int) -> None:
        """Let the system begin to put a piece on the disk, so that little is left to wait for in ``finish``."""
        if number >= 0 and hasattr(os, "posix_fadvise"):  # not on macOS and Windows
            with suppress(OSError):  # advice
                os.posix_fadvise(self._fd, number * FLUSHED_BYTES, FLUSHED_BYTES, os.POSIX_FADV_DONTNEED)

    def change(self, start: int, data: bytes) -> None:
        """Overwrite."""
        if start + len(data) > HEAD_BYTES:
            raise ValueError(f"only the first {HEAD_BYTES} bytes of a result may be changed")
        self._write(start, data)

    def read_at(self, start: int, length: int) -> bytes:
        """What was appended."""
        try:
            return os.pread(self._fd, length, start)
        except OSError as error:
            raise disk_fault(error, "read", self._path) from error

    def sync(self) -> None:
        """Put on the disk what was written so far."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise disk_fault(error, "write", self._path) from error

    def finish(self) -> None:
        """Rename it."""
        try:
            os.fsync(self._fd)
            fd, self._fd = self._fd, -1
            os.close(fd)
            publish(self._part, self._path, if_absent=self._if_absent)
        except OSError as error:
            raise disk_fault(error, "write", self._path) from error

    def abort(self) -> None:
        """Remove it, if it is not finished."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        with suppress(OSError):
            self._part.unlink()

    def _write(self, at: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        try:
            while view:
                done = os.pwrite(self._fd, view, at)
                view, at = view[done:], at + done
        except OSError as error:
            raise disk_fault(error, "write", self._path) from error


def part_beside(path: Path) -> Path:
    """A hidden name in the same folder that nobody else uses."""
    start = os.fsdecode(os.fsencode(path.name)[:100])  # names are bounded in bytes
    return path.with_name(f".{start}.{uuid.uuid4().hex[:12]}.part")


def publish(part: Path, path: Path, *, if_absent: bool = False) -> None:
    """Give a file (or a folder, without ``if_absent``) its name, so that it has it after a power loss too."""
    if if_absent:
        try:
            _publish_new(part, path)
        except FileExistsError as error:
            raise ObjectExists(f"There is already a file {path}. Choose another name.", key=str(path)) from error
    else:
        part.replace(path)
    sync_folder(path.parent)


def _publish_new(part: Path, path: Path) -> None:
    """Raises :class:`FileExistsError` where the name is taken."""
    try:
        os.link(part, path)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        # FAT and some network file systems have no hard links: an empty file takes the name, and is replaced.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
        part.replace(path)
    else:
        part.unlink()


def sync_folder(folder: Path) -> None:
    """Put the names in a folder on the disk, where the file system can be asked for that."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)
