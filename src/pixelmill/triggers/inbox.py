"""A queue of a cloud whose messages are documents of events: received, handed over, and only then forgotten.

Knows no service: an :class:`Inbox` does (``sqs.py``, ``azure_queue.py``). A message is hidden from others for a time,
and for longer as long as it is worked on; where this process dies it comes back by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Protocol

from pixelmill import logs
from pixelmill.engines.cloud import Received
from pixelmill.errors import PixelmillError
from pixelmill.triggers.blocking import blocking
from pixelmill.triggers.documents import is_foreign, read_events
from pixelmill.triggers.event import Parsed
from pixelmill.triggers.handing import FIRST_PAUSE_S, MAX_PAUSE_S, hand_over, tell
from pixelmill.triggers.verbs import Taker

LARGE = 100_000
"""Characters of messages that are read in a thread, lest the service stand still meanwhile."""


class Inbox(Protocol):
    """One queue. All methods block, and raise :class:`StorageError` and its children."""

    def receive(self) -> list[Received]:
        """Some messages, hidden from others from now on; waits for them for a while, then gives none."""
        ...

    def extend(self, handles: Sequence[str], seconds: int) -> dict[str, str]:
        """Hide them for so long from now; the new handles by the old ones, without those that were lost."""
        ...

    def delete(self, handles: Sequence[str]) -> None:
        """Forget messages; lost ones are left alone."""
        ...

    def set_aside(self, messages: Sequence[Received]) -> list[str]:
        """Keep messages that can't be read where somebody can look at them; the handles to delete now."""
        ...

    def close(self) -> None:
        """End connections."""
        ...


class QueueSource:
    """See :class:`pixelmill.triggers.source.EventSource`. ``visibility_s`` is how long the inbox hides messages."""

    def __init__(self, name: str, inbox: Inbox, *, receivers: int, visibility_s: int) -> None:
        self._name, self._inbox = name, inbox
        self._receivers, self._visibility_s = receivers, visibility_s
        self._closed = False

    @property
    def name(self) -> str:
        """As the rules file calls it."""
        return self._name

    async def run(self, taker: Taker) -> None:
        """Until cancelled."""
        logs.event("source.started", source=self._name)
        async with asyncio.TaskGroup() as group:
            for _ in range(self._receivers):
                group.create_task(self._receive(taker))

    async def close(self) -> None:
        """End connections."""
        if not self._closed:
            self._closed = True
            await blocking(self._inbox.close)

    async def _receive(self, taker: Taker) -> None:
        pause = FIRST_PAUSE_S
        while True:
            try:
                messages = await blocking(self._inbox.receive, self._give_back)
                if messages:
                    await self._handle(taker, messages)
                pause = FIRST_PAUSE_S
            except PixelmillError as error:
                tell("source.failed", self._name, error, pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, MAX_PAUSE_S)

    async def _handle(self, taker: Taker, messages: Sequence[Received]) -> None:
        kept: set[str] = set()
        async with self._held(messages) as handles:
            if sum(len(message.text) for message in messages) > LARGE:
                parsed = await asyncio.to_thread(lambda: [read_events(message.text) for message in messages])
            else:
                parsed = [read_events(message.text) for message in messages]
            await self._record(taker, messages, parsed)
            foreign = [message for message, one in zip(messages, parsed, strict=True) if is_foreign(one)]
            if foreign:
                kept = {message.handle for message in foreign} - set(await self._set_aside(foreign))
        if done := [held for first, held in handles.items() if first not in kept]:
            await blocking(partial(self._inbox.delete, done))

    async def _set_aside(self, messages: Sequence[Received]) -> list[str]:
        """The handles of those that can be deleted; where it fails all stay, and come again."""
        try:
            return await blocking(partial(self._inbox.set_aside, messages))
        except PixelmillError as error:
            tell("source.failed", self._name, error, self._visibility_s)
            return []

    async def _record(self, taker: Taker, messages: Sequence[Received], parsed: Sequence[Parsed]) -> None:
        """Hand over until it is taken: a message that is given back would count as a delivery that failed."""
        events = [event for one in parsed for event in one.events]
        # A message that is set aside by leaving it alone comes again; it counts once.
        unread = [
            part
            for message, one in zip(messages, parsed, strict=True)
            if message.deliveries <= 1 or not is_foreign(one)
            for part in one.unread
        ]
        for message, one in zip(messages, parsed, strict=True):
            if is_foreign(one) and message.deliveries <= 1:
                logs.event("source.unread", source=self._name, reason=one.unread[0].reason, text=message.text[:500])
        await hand_over(taker, self._name, events, unread)

    @asynccontextmanager
    async def _held(self, messages: Sequence[Received]) -> AsyncIterator[dict[str, str]]:
        """The messages' handles by those they had, kept valid; one that was lost stays as it was."""
        handles = {message.handle: message.handle for message in messages}
        done = asyncio.Event()
        keeper = asyncio.create_task(self._keep(handles, done))
        try:
            yield handles
            done.set()
            await keeper  # an extension that is under way gives the handles that are to be deleted
        finally:
            keeper.cancel()

    async def _keep(self, handles: dict[str, str], done: asyncio.Event) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._visibility_s / 3):
                    await done.wait()
                return
            try:
                after = await blocking(partial(self._inbox.extend, list(handles.values()), self._visibility_s))
            except PixelmillError as error:
                tell("source.failed", self._name, error, self._visibility_s / 3)
            else:
                for first, held in handles.items():
                    handles[first] = after.get(held, held)

    def _give_back(self, messages: Sequence[Received]) -> None:
        """Received by a call that nobody waits for any more: others may have them at once."""
        if messages:
            self._inbox.extend([message.handle for message in messages], 0)
