"""An object store for threads that wait: tiles are computed by threads, and stores speak asyncio.

One loop in one thread of its own carries the requests of all; each caller waits for its own.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

from pixelmill.storage.store import ObjectStore

T = TypeVar("T")


class BlockingStore:
    """``store`` with a loop of its own, until ``close``."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="object-store", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What ``work`` gives, or raises; not from the loop's own thread."""
        return self.start(work).result()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """The same without waiting."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def get_range(self, key: str, start: int, length: int) -> bytes:
        """At most ``length`` bytes from ``start``."""
        return self.run(self.store.get_range(key, start, length))

    def size(self, key: str) -> int:
        """Bytes of an object; raises :class:`ObjectNotFound`."""
        return self.run(self._size(key))

    def put(self, key: str, data: bytes, *, if_absent: bool = False) -> None:
        """Write an object whole."""
        self.run(self._put(key, data, if_absent))

    def delete(self, keys: list[str]) -> None:
        """Remove objects; absent ones are no error."""
        self.run(self.store.delete(keys))

    def keys(self, prefix: str) -> list[str]:
        """Of all objects below ``prefix``."""
        return self.run(self._keys(prefix))

    def close(self) -> None:
        """End the loop; what is still under way is cancelled. Harmless when repeated."""
        if self._loop.is_closed():
            return
        self.start(_cancel_others()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _size(self, key: str) -> int:
        return (await self.store.head(key)).size

    async def _put(self, key: str, data: bytes, if_absent: bool) -> None:
        await self.store.put(key, data, if_absent=if_absent)

    async def _keys(self, prefix: str) -> list[str]:
        return [info.key async for info in self.store.list(prefix)]


async def _cancel_others() -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
