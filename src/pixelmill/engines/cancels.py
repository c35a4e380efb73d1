"""How an engine learns that a task which it runs was cancelled by another process, and what is done about its traces.

With a database it is asked (``service/cancelling.py``). A worker that has none finds a mark in the object store, which
whoever cancels puts there; it looks as often as it extends its leases. A mark is of one run of a task.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from pixelmill.errors import ObjectNotFound
from pixelmill.jobs.messages import TaskMessage
from pixelmill.jobs.model import result_key
from pixelmill.storage.store import ObjectStore

PREFIX = "cancelled/"
"""Where marks lie in the object store; housekeeping removes them after a day."""
CALLS = 16
"""Marks that are put, or looked for, at once."""


class Cancels(Protocol):
    """What an engine asks about its running tasks. Raises :class:`StorageError` and its children.

    ``every_s``: seconds between two questions; None where nothing need be asked.
    """

    @property
    def every_s(self) -> float | None:
        """See above."""
        ...

    async def unwanted(self, messages: Sequence[TaskMessage]) -> frozenset[str]:
        """Ids of the messages whose tasks were cancelled or deleted; never of those that ended in another way."""
        ...

    async def discard(self, messages: Sequence[TaskMessage]) -> None:
        """Remove what the stopped runs of cancelled tasks may have stored."""
        ...


class CancelMarks:
    """Over the object store that services and workers share."""

    def __init__(self, store: ObjectStore, every_s: float | None = None) -> None:
        self._store = store
        self.every_s = every_s

    async def put(self, ids: Sequence[str]) -> None:
        """Tell that the tasks of these messages were cancelled."""

        async def mark(one: str) -> None:
            await self._store.put(PREFIX + one, b"")

        for start in range(0, len(ids), CALLS):
            await asyncio.gather(*map(mark, ids[start : start + CALLS]))

    async def unwanted(self, messages: Sequence[TaskMessage]) -> frozenset[str]:
        """Those that have a mark."""
        found: list[str] = []
        for start in range(0, len(messages), CALLS):
            some = [message.id for message in messages[start : start + CALLS]]
            marked = await asyncio.gather(*map(self._is_marked, some))
            found += [one for one, is_marked in zip(some, marked, strict=True) if is_marked]
        return frozenset(found)

    async def _is_marked(self, one: str) -> bool:
        try:
            await self._store.head(PREFIX + one)
        except ObjectNotFound:
            return False
        return True

    async def discard(self, messages: Sequence[TaskMessage]) -> None:
        """See :class:`Cancels`."""
        await discard_results(self._store, [result_key(one.owner, one.job, one.task, one.run) for one in messages])


async def discard_results(store: ObjectStore, keys: Sequence[str]) -> None:
    """Remove outcomes, each an image and its document."""
    if keys:
        await store.delete([name for key in keys for name in (key, f"{key}.json")])
