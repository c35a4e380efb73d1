"""Small pictures of results and inputs, for lists: made by the pool when they are asked for, the last ones kept.

Equal requests that come together share the work, which is given up when none of them waits any more (somebody scrolls
past). Thumbnails are never sent to overflow: they are not worth its price.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pixelmill.errors import IllegalTransition, NoImage
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.jobs.model import Priority, State, Task, result_key
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.results import Results
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.target import RunRequest

Of = Literal["result", "input"]
CACHE_BYTES = 32_000_000
"""Of all thumbnails that are kept in memory."""
MAX_ENTRY = CACHE_BYTES // 16
ENTRY_BYTES = 500
"""What an entry takes beside its image."""


@dataclass(frozen=True, slots=True)
class Thumbnail:
    """An encoded image."""

    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Of what, how large (pixels of the square that it fits), and the formats it may have: one, or a choice."""

    of: Of
    size: int
    formats: tuple[str, ...]

    @property
    def pipeline(self) -> str:
        """First frame, never enlarged, transparency kept: of several formats the one that fits the pixels."""
        end = f"format:{self.formats[0]}" if len(self.formats) == 1 else f"format:auto,accept={':'.join(self.formats)}"
        return Pipeline.parse(f"frame:0/resize:{self.size},{self.size},fit=inside/{end}").to_json()


_Key = tuple[str, int, Wanted]


@dataclass(slots=True, eq=False)
class _Making:
    """A thumbnail in the making, and how many wait for it."""

    work: asyncio.Task[Thumbnail]
    readers: int = 0


class Thumbnails:
    """Belongs to one event loop."""

    def __init__(
        self,
        store: ObjectStore,
        results: Results,
        dispatcher: Dispatcher,
        config: ServiceConfig,
        *,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self._store, self._results, self._dispatcher, self._config = store, results, dispatcher, config
        self._most = cache_bytes
        self._kept: OrderedDict[_Key, Thumbnail] = OrderedDict()
        self._bytes = 0
        self._making: dict[_Key, _Making] = {}

    async def get(self, task: Task, wanted: Wanted) -> Thumbnail:
        """The picture, kept or made now.

        Raises:
            IllegalTransition: the task has no result (yet).
            NoImage: its result is data only.
            Busy, QueueFull, ShuttingDown: no slot came free.
            InputError, StorageError: what is to be shown can't be read.
        """
        if wanted.of == "result":
            check_image(task)
        key = (task.id, task.run, wanted)
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        making = self._making.get(key)
        if making is None:
            making = self._making[key] = _Making(asyncio.create_task(self._make(task, wanted)))
            making.work.add_done_callback(lambda _: self._made(key, making, keep=stays(task, wanted.of)))
        making.readers += 1
        try:
            return await asyncio.shield(making.work)
        finally:
            making.readers -= 1
            if not making.readers and not making.work.done():
                self._forget(key, making)
                making.work.cancel()

    async def _make(self, task: Task, wanted: Wanted) -> Thumbnail:
        async with await self._dispatcher.acquire(
            Priority.INTERACTIVE, self._config.interactive_wait_s, own=True
        ) as slot:
            # Read with the slot in hand: only so many images lie in memory at once.
            request = RunRequest(
                id=f"thumbnail-{secrets.token_hex(8)}",
                pipeline=wanted.pipeline,
                source=await self._source(task, wanted.of),
                source_name=task.name,
                limits=self._config.limits,
                timeout_s=self._config.timeout_s,
            )
            outcome = (await slot.run(request)).outcome
        assert outcome.bytes is not None, "a pipeline with a format gives an image"
        assert outcome.media_type is not None, "and its type"
        return Thumbnail(outcome.bytes, outcome.media_type)

    async def _source(self, task: Task, of: Of) -> bytes | Path:
        if of == "input" and not task.source.startswith("key:"):
            return await self._collected(task)
        key = task.source.removeprefix("key:") if of == "input" else result_key(task.owner, task.job, task.id, task.run)
        return self._store.local_path(key) or await self._store.get(key)

    async def _collected(self, task: Task) -> bytes:
        """A source that lies elsewhere, whole."""
        parts, total = [], 0
        async for chunk in self._results.input(task):
            total += len(chunk)
            self._config.limits.check_bytes(total)
            parts.append(chunk)
        return b"".join(parts)

    def _forget(self, key: _Key, making: _Making) -> None:
        if self._making.get(key) is making:
            del self._making[key]

    def _made(self, key: _Key, making: _Making, *, keep: bool) -> None:
        self._forget(key, making)
        if making.work.cancelled() or making.work.exception() is not None or not keep:
            return
        made = making.work.result()
        if len(made.body) > min(MAX_ENTRY, self._most):
            return
        self._kept[key] = made
        self._bytes += len(made.body) + ENTRY_BYTES
        while self._bytes > self._most:
            _, gone = self._kept.popitem(last=False)
            self._bytes -= len(gone.body) + ENTRY_BYTES

    @property
    def kept_bytes(self) -> int:
        """What the thumbnails that are kept take; never more than the bound."""
        return self._bytes

    async def stop(self) -> None:
        """Give up what is being made."""
        works = [making.work for making in self._making.values()]
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)


def check_image(task: Task) -> None:
    """Raise :class:`IllegalTransition` where there is no result, :class:`NoImage` where it is data only."""
    if task.state is not State.SUCCEEDED:
        raise IllegalTransition(
            f"Task {task.id} has no result: it is {task.state}.", state=str(task.state), error=task.error
        )
    if not (task.outcome or {}).get("format"):
        raise NoImage(f"The result of task {task.id} is data only; GET /v1/tasks/{task.id} shows it.")


def stays(task: Task, of: Of) -> bool:
    """Whether it can't change: results and uploads don't, files and objects of others do."""
    return of == "result" or task.source.startswith("key:")
