"""The scratch folder of runs over tiles: a folder a task, kept for its next attempt, bounded, and cleared of old ones.

What lies in a folder is the business of the run. A run that goes on holds a lock on its folder, so that no process
clears it, or runs the same task, at the same time.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pixelmill.errors import Busy, StorageError, StorageFull
from pixelmill.storage.faults import translated

LOCK = "lock"
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


class TaskFolders:
    """Folders below ``root``, of ``most`` bytes together; what nobody has touched for ``kept_s`` seconds goes."""

    def __init__(self, root: Path, most: int, kept_s: float) -> None:
        self.root, self._most, self._kept_s = root, most, kept_s

    @contextmanager
    def folder(self, task: str) -> Iterator[Path]:
        """The folder of a task, locked; raises :class:`Busy` where another process runs it, :class:`StorageError`."""
        folder = self.root / _UNSAFE.sub("-", task)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise translated(error, "write", str(folder)) from error
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise Busy(f"The task {task} is run over tiles by another process already.", retry_after=5) from error
            os.utime(folder)
            yield folder
            with suppress(OSError):
                os.utime(folder)
        finally:
            os.close(descriptor)

    def sweep(self) -> int:
        """Remove folders that were left alone for too long, then the oldest until all fit; returns how many went."""
        now, gone, left = time.time(), 0, []
        for folder in self._folders():
            with suppress(OSError):
                age = now - folder.stat().st_mtime
                if age > self._kept_s and self._remove(folder):
                    gone += 1
                else:
                    left.append((age, _bytes_in(folder), folder))
        total = sum(size for _, size, _ in left)
        for _, size, folder in sorted(left, reverse=True):
            if total <= self._most:
                break
            if self._remove(folder):
                total -= size
                gone += 1
        return gone

    def check_room(self, needed: int) -> None:
        """Raise :class:`StorageFull` where ``needed`` bytes more would pass the bound, or the disk has no room."""
        free = shutil.disk_usage(self.root).free
        used = sum(map(_bytes_in, self._folders()))
        if needed > free or used + needed > self._most:
            raise StorageFull(
                f"The run over tiles needs {needed / 1e9:,.1f} GB in {self.root}; {free / 1e9:,.1f} GB of the disk are "
                f"free, and {(self._most - used) / 1e9:,.1f} GB of the scratch folder's bound. Free some space, or set "
                "PIXELMILL_SCRATCH and PIXELMILL_SCRATCH_BYTES."
            )

    def _folders(self) -> list[Path]:
        try:
            return [folder for folder in self.root.iterdir() if folder.is_dir() and not folder.is_symlink()]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise StorageError(f"The scratch folder {self.root} can't be read: {error.strerror}.") from error

    def _remove(self, folder: Path) -> bool:
        """Remove it unless a run holds it."""
        name = folder.name
        try:
            with self.folder(name) as held:
                shutil.rmtree(held, ignore_errors=True)
        except (Busy, StorageError):
            return False
        return not folder.exists()


def _bytes_in(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512  # noqa: PTH118 -- sparse files count as what they take
    return total
