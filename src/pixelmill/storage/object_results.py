"""Results that come into being in an object store, piece by piece, with no copy on this machine.

What a writer of images expects of them is said in ``images/region_results.py`` and ``images/region_trees.py``; nothing
is imported from there. Whoever reads the store sees the whole result or none.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import suppress

from pixelmill.errors import Cancelled, ObjectExists, ObjectNotFound, PixelmillError, StorageError
from pixelmill.storage.blocking import BlockingStore

_WAITING = 4
_PIECE_BYTES = 4 << 20
"""Appended pieces are joined to about this size; so many of them wait for the store at most."""


class StreamedObject:
    """An object of which pieces come in their order and none changes: one put, in parts as the store does it.

    ``if_absent``: raises :class:`ObjectExists`. A large object can't be put on that condition in one request, so it is
    looked for before, and a second writer at the same moment would win or lose by chance.
    """

    def __init__(self, blocking: BlockingStore, key: str, *, if_absent: bool = False) -> None:
        self._blocking, self._key = blocking, key
        if if_absent:
            refuse_existing(blocking, key)
        self._lock, self._end = threading.Lock(), 0
        self._held: list[bytes] = []
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(_WAITING)
        self._given_up = False
        self._put: Future[None] | None = None

    def append(self, data: bytes | memoryview) -> int:
        """Hand a piece on; waits while the store is behind."""
        with self._lock:
            at, self._end = self._end, self._end + len(data)
            self._held.append(bytes(data))
            if sum(map(len, self._held)) >= _PIECE_BYTES:
                self._hand_on()
            return at

    def change(self, start: int, data: bytes) -> None:
        """It can't be done: the first bytes have gone."""
        raise NotImplementedError(f"bytes {start} to {start + len(data)} of a stream can't be changed")

    def finish(self) -> None:
        """Send the rest, and wait until the object is there."""
        with self._lock:
            self._hand_on()
            self._give(None)
            assert self._put is not None
            self._put.result()
            self._put = None
        self._blocking.close()

    def abort(self) -> None:
        """End the put: there is no object."""
        with self._lock:
            put, self._put = self._put, None
            if put is not None and not put.done():
                self._given_up = True
                self._wake()
                with suppress(PixelmillError):
                    put.result()
            self._held.clear()
        self._blocking.close()

    def _hand_on(self) -> None:
        if self._put is None:
            self._put = self._blocking.start(self._run())
        piece = b"".join(self._held)
        self._held.clear()
        if piece:
            self._give(piece)

    def _give(self, piece: bytes | None) -> None:
        """Into the queue; a put that has failed takes no more, and says why."""
        assert self._put is not None
        given = self._blocking.start(self._queue.put(piece))
        while True:
            with suppress(TimeoutError):
                given.result(timeout=1)
                return
            if self._put.done():
                given.cancel()
                self._put.result()
                raise StorageError(f"The store ended {self._key} too early.", key=self._key)

    def _wake(self) -> None:
        """Let a put that waits for a piece see that there is none."""

        async def wake() -> None:
            with suppress(asyncio.QueueFull):
                self._queue.put_nowait(None)

        self._blocking.run(wake())

    async def _run(self) -> None:
        await self._blocking.store.put(self._key, self._pieces())

    async def _pieces(self) -> AsyncIterator[bytes]:
        while (piece := await self._queue.get()) is not None:
            if self._given_up:
                break
            yield piece
        if self._given_up:
            raise Cancelled(f"The result {self._key} was given up.")


class ObjectTree:
    """Files as objects below ``prefix`` (empty, or ending in ``/``); the last one makes them a result.

    What was there under the last one's name is taken away before: nothing looks whole that isn't. With ``if_absent``
    :class:`ObjectExists` is raised instead, at the start, and by the last put: two attempts at one result write the
    same objects, and one of them is told that the other was first. Two different results at the same moment would mix.
    """

    def __init__(self, blocking: BlockingStore, prefix: str, last: str, *, if_absent: bool = False) -> None:
        self._blocking, self._prefix, self._if_absent = blocking, prefix, if_absent
        self._lock = threading.Lock()
        self._names: set[str] = set()
        if if_absent:
            refuse_existing(blocking, prefix + last)
        else:
            blocking.delete([prefix + last])

    def put(self, name: str, data: bytes) -> None:
        """Put an object; callers wait each for their own, so there are as many at once as they are."""
        with self._lock:
            self._names.add(name)
        self._blocking.put(self._prefix + name, data)

    def finish(self, name: str, data: bytes) -> None:
        """Put the last object, and remove those of an older result that this one did not replace."""
        with self._lock:
            folders = {each.partition("/")[0] for each in self._names if "/" in each}
        try:
            self._blocking.put(self._prefix + name, data, if_absent=self._if_absent)
        except ObjectExists:
            self._names.clear()  # they are the other's objects as well: abort must leave them
            raise
        kept = {self._prefix + each for each in (*self._names, name)}
        self._names.clear()
        for folder in folders:
            old = [key for key in self._blocking.keys(f"{self._prefix}{folder}/") if key not in kept]
            if old:
                self._blocking.delete(old)
        self._blocking.close()

    def abort(self) -> None:
        """Remove what was put."""
        with self._lock:
            names, self._names = sorted(self._names), set()
        if names:
            with suppress(StorageError):
                self._blocking.delete([self._prefix + name for name in names])
        self._blocking.close()


def refuse_existing(blocking: BlockingStore, key: str) -> None:
    """Raise :class:`ObjectExists` if there is an object."""
    with suppress(ObjectNotFound):
        blocking.size(key)
        raise ObjectExists(f"There is already an object {key} in the store. Choose another name.", key=key)
