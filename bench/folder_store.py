"""CPU of storing and reading small objects: obstore's LocalStore, plain system calls, and FolderStore.

    python bench/folder_store.py FOLDER

prints microseconds of CPU (all threads of the process) for each call: the median of rounds that take turns, so that a
noisy minute hits all alike. New keys are written each time, as the service does.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from obstore.store import LocalStore

from pixelmill.storage.folder import FolderStore

ROUNDS = 15
CALLS = 60
Call = Callable[[str], Awaitable[object]]


def plain_put(root: Path, key: str, data: bytes) -> None:
    """Write beside, move into place."""
    beside = root / f"{key}.tmp"
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)
    beside.rename(root / key)


def plain_get(root: Path, key: str) -> bytes:
    """Read a whole file."""
    fd = os.open(root / key, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, os.fstat(fd).st_size)
    finally:
        os.close(fd)


def ways(root: Path, data: bytes) -> dict[str, tuple[Call, Call]]:
    """A put and a get for each way."""
    theirs, ours = LocalStore(root), FolderStore(root)

    async def their_get(key: str) -> object:
        return (await (await theirs.get_async(key)).bytes_async()).to_bytes()

    async def their_sync_put(key: str) -> object:
        return theirs.put(key, data)

    async def their_sync_get(key: str) -> object:
        return theirs.get(key).bytes().to_bytes()

    async def inline_put(key: str) -> object:
        plain_put(root, key, data)
        return None

    async def inline_get(key: str) -> object:
        return plain_get(root, key)

    return {
        "obstore, async": (lambda key: theirs.put_async(key, data), their_get),
        "obstore, sync on the loop": (their_sync_put, their_sync_get),
        "os calls in a thread": (
            lambda key: asyncio.to_thread(plain_put, root, key, data),
            lambda key: asyncio.to_thread(plain_get, root, key),
        ),
        "os calls on the loop": (inline_put, inline_get),
        "FolderStore": (lambda key: ours.put(key, data), ours.get),
        "FolderStore, if_absent": (lambda key: ours.put(key, data, if_absent=True), ours.get),
    }


async def measure(root: Path, size: int) -> None:
    """Print a row for each way."""
    spent: dict[str, tuple[list[float], list[float]]] = {}
    for round_ in range(ROUNDS):
        for number, (name, pair) in enumerate(ways(root, os.urandom(size)).items()):
            folder = f"{size}/{round_}/{number}"
            (root / folder).mkdir(parents=True)
            for call, times in zip(pair, spent.setdefault(name, ([], [])), strict=True):
                begun = time.process_time()
                for index in range(CALLS):
                    await call(f"{folder}/{index}")
                times.append((time.process_time() - begun) / CALLS * 1e6)
    print(f"\n{size:,} bytes, microseconds of CPU (median; fastest and slowest round)\n")
    for name, both in spent.items():
        cells = [f"{statistics.median(times):5.0f} ({min(times):4.0f} to {max(times):4.0f})" for times in both]
        print(f"{name:28} put {cells[0]}   get {cells[1]}")


def main() -> None:
    """Measure 10 KB and 300 KB below the folder named on the command line."""
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        for size in (10_000, 300_000):
            asyncio.run(measure(Path(folder), size))


if __name__ == "__main__":
    main()
