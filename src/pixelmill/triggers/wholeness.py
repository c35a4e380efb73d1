"""Is a file whole, or does somebody still write it? Asked of the kernel, where it can say.

Linux grants a read lease (``F_SETLEASE``, fcntl(2)) on a file only while nobody has it open for writing, which is
exact; it needs the file's owner or ``CAP_LEASE``, and a local file system: network file systems refuse leases for
reasons of their own. There the caller must watch the file lie still. No link is followed on the way to a file.
"""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import sys
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path

from pixelmill.storage.tree import open_parent

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LOCAL = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs"})
"""File systems whose refusal of a lease says that the file is open for writing, and nothing else."""
_HAS_LEASES = sys.platform == "linux"


class Verdict(Enum):
    """What is known of a file."""

    WHOLE = "whole"
    WRITTEN = "written"
    """Somebody has it open for writing."""
    UNKNOWN = "unknown"
    """The kernel can't say."""
    GONE = "gone"
    """There is no regular file (any more), or a link leads to it."""


@dataclass(frozen=True, slots=True)
class Looked:
    """A verdict, and the file's facts at that moment: bytes, times in nanoseconds (of the content, of the entry)."""

    verdict: Verdict
    size: int = 0
    modified_ns: int = 0
    changed_ns: int = 0


def look(root: str, key: str) -> Looked:
    """Look at one file below ``root``."""
    try:
        parent, last = open_parent(root, key)
    except OSError:
        return Looked(Verdict.GONE)
    try:
        return _look(parent, last)
    finally:
        os.close(parent)


def _look(parent: int, name: str) -> Looked:
    try:
        fd = os.open(name, _FILE, dir_fd=parent)
    except BlockingIOError:  # another program's write lease
        return _stated(Verdict.WRITTEN, parent, name)
    except PermissionError:
        return _stated(Verdict.UNKNOWN, parent, name)
    except OSError:
        return Looked(Verdict.GONE)
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return Looked(Verdict.GONE)
        if not _HAS_LEASES or _file_system(_mount_of(fd)) not in _LOCAL:
            return _looked(Verdict.UNKNOWN, before)
        return _leased(fd, before)
    finally:
        os.close(fd)


def _leased(fd: int, before: os.stat_result) -> Looked:
    try:
        # Who opens the file for writing just now breaks the lease, and the kernel tells us by a signal: by default
        # SIGIO, which would end the process; SIGURG is ignored.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return _looked(Verdict.WRITTEN, before)
    except OSError:  # not ours, or no leases here
        return _looked(Verdict.UNKNOWN, before)
    try:
        return _looked(Verdict.WHOLE, os.fstat(fd))
    finally:
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _stated(verdict: Verdict, parent: int, name: str) -> Looked:
    try:
        facts = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return Looked(Verdict.GONE)
    return _looked(verdict, facts) if stat.S_ISREG(facts.st_mode) else Looked(Verdict.GONE)


def _looked(verdict: Verdict, facts: os.stat_result) -> Looked:
    return Looked(verdict, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)


def _mount_of(fd: int) -> str:
    """The id of the mount that an open file belongs to (proc(5))."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return ""
    return next((line.split(":")[1].strip() for line in lines if line.startswith("mnt_id:")), "")


@lru_cache(maxsize=256)
def _file_system(mount: str) -> str:
    """The kind of file system of a mount; empty where it can't be found out."""
    try:
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return ""
    for line in lines:
        fields, _, rest = line.partition(" - ")
        if fields.split(" ", 1)[0] == mount:
            return rest.split(" ", 1)[0]
    return ""
