"""What a pool process asks of the operating system.

To die with its parent, to hold no descriptor that is not its own, to have a bound on its memory, and to leave the
terminal's signals to the service. Linux has all of it. Elsewhere the end of a socket stands in for the parent-death
signal, and memory is bounded only by the time limit. This module knows no messages and no pools.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

LINUX = sys.platform == "linux"
PAGE = resource.getpagesize()

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_LIBC = ctypes.CDLL(None, use_errno=True) if LINUX else None


def die_with(parent: int) -> None:
    """Have the kernel kill this process when ``parent`` ends; end at once if it has ended already.

    The kernel looks at the *thread* that created this process: it must live as long as the parent does.
    """
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def name_process(name: str) -> None:
    """Show ``name`` (at most 15 bytes) in ``ps -o comm`` and ``top``."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def leave_signals_to_parent() -> None:
    """Ignore what a terminal or a service manager sends to the whole group: the parent decides when to stop."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)


def close_descriptors(keep: int) -> None:
    """Close every descriptor but the standard three and ``keep``."""
    highest = max(int(name) for name in os.listdir("/dev/fd"))  # noqa: PTH208 - Path would stat what is closing
    os.closerange(3, keep)
    os.closerange(keep + 1, highest + 1)


def detach_standard_streams() -> None:
    """Read nothing, and write what is printed to standard error: standard output may carry an image."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)


def bound_memory(extra: int) -> None:
    """Let private writable memory grow by ``extra`` bytes and no more; allocations beyond that fail (Linux)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if not LINUX:
        return
    data_pages = int(Path("/proc/self/statm").read_text().split()[5])
    limit = data_pages * PAGE + extra
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def offer_to_oom_killer() -> None:
    """When the machine runs out of memory, let the kernel end this process before the service."""
    with suppress(OSError):  # not Linux, or a sandbox without it
        Path("/proc/self/oom_score_adj").write_text("500")


class ResidentSize:
    """Reads the resident size of a process again and again, for the price of one system call."""

    __slots__ = ("_descriptor",)

    def __init__(self, pid: int) -> None:
        self._descriptor: int | None = None
        with suppress(OSError):  # not Linux, or gone already
            self._descriptor = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)

    def read(self) -> int:
        """Bytes; 0 where it can't be known (the process has ended, or this is not Linux)."""
        if self._descriptor is None:
            return 0
        try:
            fields = os.pread(self._descriptor, 128, 0).split()
        except OSError:
            return 0
        return int(fields[1]) * PAGE if len(fields) > 1 else 0

    def close(self) -> None:
        """Give the descriptor back."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
