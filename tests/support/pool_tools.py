"""What the tests of the pool share: requests, a FIFO that a task announces itself through, waiting for processes."""

from __future__ import annotations

import asyncio
import os
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import RunRequest

BOUND_S = 30.0


def request(action: str, body: bytes | Path = b"", **more: Any) -> RunRequest:
    return RunRequest(id=f"task-{action}", pipeline=action, source=body, **more)


@asynccontextmanager
async def running_pool(**more: Any) -> AsyncIterator[LocalPool]:
    settings: dict[str, Any] = {"workers": 1, "entry": "misbehaving:act", "memory_bytes": 300_000_000}
    pool = LocalPool(**settings | more)
    async with asyncio.timeout(BOUND_S):
        await pool.start()
        try:
            yield pool
        finally:
            await pool.stop()


class Announcement:
    """A FIFO through which a task says that it runs now; ``source_name`` carries its path."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "announcement"
        os.mkfifo(self.path)
        os.mkfifo(f"{self.path}.go")
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)

    def _read(self) -> int:
        if not wait_readable(self._fd, BOUND_S):
            raise TimeoutError("the task never began")
        return int(os.read(self._fd, 100))

    async def pid(self) -> int:
        """The process id of the task, as soon as it runs."""
        return await asyncio.to_thread(self._read)

    def let_go(self) -> None:
        """Let ``wait_for_end`` end."""
        Path(f"{self.path}.go").write_text("")

    def close(self) -> None:
        os.close(self._fd)


def wait_readable(descriptor: int, timeout_s: float) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(timeout_s * 1000))


class Watched:
    """A process whose end can be waited for, whoever its parent is."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = None

    def ended_within(self, timeout_s: float) -> bool:
        if self._fd is None:
            return True
        ended = wait_readable(self._fd, timeout_s)
        if ended:
            os.close(self._fd)
            self._fd = None
        return ended


def sockets_of(pid: int) -> set[str]:
    """The inodes of the sockets a process holds."""
    links = set()
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.add(str(path.readlink()))
        except FileNotFoundError:
            continue
    return {link for link in links if link.startswith("socket:")}


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
