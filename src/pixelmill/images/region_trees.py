"""Results of many files, of which one, the last, makes them whole: a folder that comes into being beside its name.

Results in object stores fulfil the same contract elsewhere, with an object for each file.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import threading
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Protocol

from pixelmill.errors import ObjectExists
from pixelmill.images.disk_faults import disk_fault
from pixelmill.images.region_results import part_beside, publish, sync_folder


class Tree(Protocol):
    """Files by relative POSIX path. ``put`` may be called by several threads at once, once for each name."""

    def put(self, name: str, data: bytes) -> None:
        """Store a file; raises :class:`StorageError`."""
        ...

    def finish(self, name: str, data: bytes) -> None:
        """Store the file that makes the result whole: readers look for it first."""
        ...

    def abort(self) -> None:
        """Take everything back. Harmless when repeated, and after ``finish``."""
        ...


class FolderTree:
    """Files below ``folder``, in a hidden folder there until they are whole; what has their names is replaced then.

    With ``if_absent``, ``finish`` raises :class:`ObjectExists` where one of their top names is taken.
    """

    def __init__(self, folder: Path, name: str, *, if_absent: bool = False) -> None:
        self._folder, self._if_absent = folder, if_absent
        self._part = part_beside(folder / name)
        self._made: set[str] = set()
        self._lock = threading.Lock()
        try:
            self._part.mkdir()
        except OSError as error:
            raise disk_fault(error, "write", folder / name) from error

    def put(self, name: str, data: bytes) -> None:
        """Write a file."""
        path = self._part / name
        above = str(PurePosixPath(name).parent)
        try:
            if above not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                with self._lock:
                    self._made.add(above)
            path.write_bytes(data)
        except OSError as error:
            raise disk_fault(error, "write", self._folder / name) from error

    def finish(self, name: str, data: bytes) -> None:
        """Write the last file, put all on the disk, and give them their names: that of the last one at the end."""
        self.put(name, data)
        last = PurePosixPath(name).parts[0]
        try:
            _sync(self._part)
            others = sorted(path.name for path in self._part.iterdir() if path.name != last)
            taken = [other for other in (last, *others) if (self._folder / other).exists()]
            if self._if_absent and taken:
                raise ObjectExists(
                    f"There is already {self._folder / taken[0]}. Choose another name.",
                    key=str(self._folder / taken[0]),
                )
            # While the others change places, there is nothing that looks whole.
            _remove(self._folder / last)
            for other in others:
                _remove(self._folder / other)
                publish(self._part / other, self._folder / other)
            publish(self._part / last, self._folder / last)
            self._part.rmdir()
            sync_folder(self._folder)
        except OSError as error:
            raise disk_fault(error, "write", self._folder / name) from error

    def abort(self) -> None:
        """Remove the hidden folder."""
        shutil.rmtree(self._part, ignore_errors=True)


def _remove(path: Path) -> None:
    """Take a file or a folder away: under another name at once, and then for good."""
    aside = part_beside(path)
    try:
        path.rename(aside)
    except FileNotFoundError:
        return
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink()


def _sync(folder: Path) -> None:
    """Put the folder's file system on the disk: one call, where a flush of each file would take a minute."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with suppress(AttributeError):  # a C library without it: the system writes in its own time
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.syncfs(fd):
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
    finally:
        os.close(fd)
