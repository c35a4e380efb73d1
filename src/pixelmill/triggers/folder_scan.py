"""Which files a folder has: a walk in pieces of bounded size, that can leave out what it has seen before.

Names that programs use for what isn't finished or isn't meant to be seen are left out, as are links. Blocking.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import suppress

from pixelmill.storage.tree import open_parent

TEMPORARY = (".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", "~")
"""Ends of the names of files that browsers, copy programs and editors have not finished with."""
MAX_FOLDERS = 200_000
"""Folders remembered; in a larger tree every walk tells everything."""


def is_skipped(key: str) -> bool:
    """Whether a file is hidden (itself, or a folder on the way to it), or has a temporary name."""
    name = key.rpartition("/")[2]
    return key.startswith(".") or "/." in key or name.startswith("~$") or name.lower().endswith(TEMPORARY)


def is_folder(root: str, key: str) -> bool:
    """Whether there is a folder below ``root``, without a link on the way, and not hidden."""
    if key.startswith(".") or "/." in key:
        return False
    try:
        parent, last = open_parent(root, key)
    except OSError:
        return False
    try:
        return stat.S_ISDIR(os.stat(last, dir_fd=parent, follow_symlinks=False).st_mode)
    except OSError:
        return False
    finally:
        os.close(parent)


class Walker:
    """Walks below one root, again and again, and remembers the folders that it has seen."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._folders: dict[str, int] = {}

    def walk(self, since: float | None = None, *, start: str = "", learn: bool = False) -> Iterator[str]:
        """Keys of files below ``start`` (a key; empty for all).

        With ``since``, only of those whose entry changed at that time or later (by the file system's clock: a file
        that is renamed changes too), or that are in a folder that was not seen before, as one that was moved here.
        ``learn``: folders that were not seen before are no reason to tell of their files.
        """
        if start and not is_folder(self._root, start):
            return
        if since is not None and len(self._folders) >= MAX_FOLDERS and not learn:
            since = None
        stack = [(start, since)]
        while stack:
            folder, limit = stack.pop()
            for entry in _entries(f"{self._root}/{folder}" if folder else self._root):
                key = f"{folder}/{entry.name}" if folder else entry.name
                with suppress(OSError):  # gone meanwhile
                    if entry.is_dir(follow_symlinks=False):
                        if entry.name.startswith("."):
                            continue
                        is_known = self._remember(key, entry.inode())
                        stack.append((key, limit if is_known or learn else None))
                    elif entry.is_file(follow_symlinks=False) and not is_skipped(key) and _is_new(entry, limit):
                        yield key

    def _remember(self, key: str, number: int) -> bool:
        if self._folders.get(key) == number:
            return True
        if len(self._folders) < MAX_FOLDERS or key in self._folders:
            self._folders[key] = number
        return False


def _is_new(entry: os.DirEntry[str], limit: float | None) -> bool:
    return limit is None or entry.stat(follow_symlinks=False).st_ctime >= limit


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    """One at a time, however many there are."""
    with suppress(OSError), os.scandir(folder) as entries:
        yield from entries
