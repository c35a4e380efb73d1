"""Temporary files of one store in one process: made in a locked folder, published in one step, swept after a crash.

They lie in ``.pixelmill/tmp/ID/`` below the store's root. Each process holds a lock (flock) on its own ID for as long
as it lives, so that any other may remove an ID whose lock is free: that needs no process ids, which mean nothing across
containers and come again. Locks and descriptors end with the process, ``kill -9`` included.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import shutil
import threading
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pixelmill.errors import ObjectExists
from pixelmill.storage import tree
from pixelmill.storage.faults import translated
from pixelmill.storage.keys import RESERVED
from pixelmill.storage.store import ObjectInfo

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LOCKED = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHECK_ENDED_S = 3600
_ATTEMPTS = 8  # a put races with the pruning of its empty folder at most this often


@dataclass(slots=True)
class TempFile:
    """An open temporary file. ``fd`` is -1 once closed; ``folder`` is the descriptor of the folder it lies in."""

    fd: int
    name: str
    folder: int

    def close(self) -> None:
        """Close the descriptor, once."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


class Temps:
    """Makes temporary files and moves them into place."""

    def __init__(self, root: Path, *, fsync: bool) -> None:
        self._path = root
        self._root = str(root)
        self._fsync = fsync
        self._numbers = itertools.count()
        self._folder: int | None = None
        self._lock = threading.Lock()

    def create(self) -> TempFile:
        """A new empty file, not visible as an object."""
        try:
            for last in (False, True):
                name = f"{os.getpid()}-{next(self._numbers)}"
                folder = self._locked_folder()
                try:
                    return TempFile(os.open(name, _CREATE, 0o644, dir_fd=folder), name, folder)
                except FileNotFoundError:  # somebody emptied the data folder under us
                    if last:
                        raise
                    self._folder = None  # left open: other threads may still write through it
        except OSError as error:
            raise translated(error, "write to", self._root) from error
        raise AssertionError("unreachable")

    def write(self, temp: TempFile, data: bytes, key: str) -> None:
        """Append ``data``."""
        try:
            written = os.write(temp.fd, data)
            if written < len(data):  # nearly full, or more than 2 GB: the next write says which
                rest = memoryview(data)[written:]
                while rest:
                    rest = rest[os.write(temp.fd, rest) :]
        except OSError as error:
            raise translated(error, "write", key) from error

    def publish(self, temp: TempFile, key: str, *, if_absent: bool) -> ObjectInfo:
        """Make the file the object ``key`` in one step; raises :class:`ObjectExists` if ``if_absent`` lost."""
        try:
            if self._fsync:
                os.fsync(temp.fd)
            facts = os.fstat(temp.fd)
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._move(temp, key, if_absent)
                    break
                except FileNotFoundError:  # a delete pruned the folder we just made
                    if attempt == _ATTEMPTS:
                        raise
            if self._fsync:
                tree.sync_folders(self._path, key)
            temp.close()
        except FileExistsError as error:
            raise ObjectExists(f"There is already an object {key} in the store.", key=key) from error
        except OSError as error:
            raise translated(error, "write", key) from error
        return ObjectInfo(key, facts.st_size, facts.st_mtime)

    def _move(self, temp: TempFile, key: str, if_absent: bool) -> None:
        parent, last = tree.open_parent(self._root, key, make=True)
        try:
            if if_absent:
                os.link(temp.name, last, src_dir_fd=temp.folder, dst_dir_fd=parent, follow_symlinks=False)
                os.unlink(temp.name, dir_fd=temp.folder)
            else:
                os.rename(temp.name, last, src_dir_fd=temp.folder, dst_dir_fd=parent)
        finally:
            os.close(parent)

    def discard(self, temp: TempFile) -> None:
        """Remove the file after a failure; what can't be removed now is left to :meth:`sweep`."""
        with suppress(OSError):
            temp.close()
        with suppress(OSError):
            os.unlink(temp.name, dir_fd=temp.folder)

    def sweep(self) -> int:
        """Remove what dead processes left, and checks they didn't finish; returns the number of files removed."""
        base = self._path / RESERVED
        removed = 0
        try:
            for folder in base.glob("tmp/*"):
                removed += self._sweep_one(folder)
            for check in base.glob("check/*"):
                # Nobody locks these; a check takes milliseconds, so an old one is nobody's.
                if time.time() - check.lstat().st_mtime > _CHECK_ENDED_S:
                    check.unlink(missing_ok=True)
                    removed += 1
        except FileNotFoundError:  # another process sweeps too
            return removed
        except OSError as error:
            raise translated(error, "sweep", str(base)) from error
        return removed

    @staticmethod
    def _sweep_one(folder: Path) -> int:
        try:
            fd = os.open(folder, _LOCKED)
        except OSError:  # swept by another process, or not a folder of ours
            return 0
        try:
            if not _try_lock(fd):
                return 0
            count = len(os.listdir(fd))  # noqa: PTH208 counts through the locked descriptor
            shutil.rmtree(folder, ignore_errors=True)
            return count
        finally:
            os.close(fd)

    def _locked_folder(self) -> int:
        """The descriptor of our folder, made and locked at first use."""
        if self._folder is not None:
            return self._folder
        with self._lock:
            while self._folder is None:
                folder = self._path / RESERVED / "tmp" / uuid.uuid4().hex
                folder.mkdir(parents=True)
                fd = os.open(folder, _LOCKED)
                if _try_lock(fd) and _is_at(fd, folder):
                    self._folder = fd
                else:  # a sweep took it between mkdir and lock
                    os.close(fd)
            return self._folder

    def close(self) -> None:
        """Remove our folder and give up its lock. Using the store again makes a new one."""
        with self._lock:
            folder, self._folder = self._folder, None
        if folder is not None:
            with suppress(OSError):
                os.rmdir(os.readlink(f"/proc/self/fd/{folder}"))  # noqa: PTH106, PTH115 the path of a descriptor
            os.close(folder)


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(fd: int, folder: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), folder.stat())
    except FileNotFoundError:
        return False
