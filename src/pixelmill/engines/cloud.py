"""A lease queue over a queue service of the cloud: one of its queues a priority, and one for dead letters.

Knows no service: a :class:`Transport` (``azure.py``, ``sqs.py``) does. Every call blocks, and runs in a thread.

What such services can't do is done here. A lease is ours only until its time has passed by our own clock (some services
let old receipts delete). A delivery is uncounted by sending the message anew. Dead letters carry their reason.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Protocol, Self, TypeVar

from pixelmill.engines.envelope import Bodies, Envelope
from pixelmill.engines.queue import DeadLetter, Lease, Message, QueueDepth, QueueTraits
from pixelmill.errors import JobError, StorageError
from pixelmill.storage.store import ObjectStore

log = logging.getLogger(__name__)
T = TypeVar("T")

TASK_QUEUES = ("interactive", "normal", "batch")
"""Names after the prefix, by priority."""
DEAD = "dead"

CALLS = 8
"""Calls at the same time; a transport may use more threads for one call."""
MAX_SCAN = 10_000
"""Dead letters looked at by one call."""
SCAN_S = 60.0
"""How long dead letters are hidden from others that look at them."""
GONE = "queue-gone"
"""The ``cause`` of an error that says that a queue is not there (any more)."""
MAX_HELD = 10_000
"""Leases remembered, before those that were lost are forgotten."""


@dataclass(frozen=True, slots=True)
class Received:
    """A message of the service: the handle that proves its lease, its text, and how often it was delivered."""

    handle: str
    text: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Count:
    """Messages of one queue, approximately. ``oldest_s``: age of its oldest visible one, 0 where that is not told."""

    visible: int
    hidden: int = 0
    oldest_s: float = 0.0


class Transport(Protocol):
    """One queue service. All methods block, and raise :class:`StorageError` and its children.

    An error whose cause is :data:`GONE` says that the queue is not there.

    ``max_text``: bytes of ASCII that a message may have. ``max_batch``: messages that ``receive`` gives at most.
    """

    max_text: int
    max_batch: int

    def open(self, queues: Sequence[str]) -> None:
        """Make the queues that aren't there."""
        ...

    def send(self, queue: str, texts: Sequence[str]) -> None:
        """Queue messages."""
        ...

    def receive(self, queue: str, limit: int, visibility_s: int) -> list[Received]:
        """Visible messages, at once."""
        ...

    def extend(self, queue: str, handles: Sequence[str], visibility_s: int) -> dict[str, str]:
        """Hide for so long from now; returns the new handles by the old ones, without those lost."""
        ...

    def delete(self, queue: str, handles: Sequence[str]) -> None:
        """Acknowledge; lost ones are left alone."""
        ...

    def count(self, queue: str) -> Count:
        """How much is in it."""
        ...

    def close(self) -> None:
        """End connections."""
        ...


@dataclass(eq=False, slots=True)
class _Held:
    """A lease, until settled or lost. ``until`` is of this machine's monotonic clock."""

    queue: str
    handle: str
    until: float
    deliveries: int


class CloudLeaseQueue:
    """See :class:`pixelmill.engines.queue.LeaseQueue`. ``store`` keeps bodies that the service is too small for.

    ``queues`` are names after ``prefix``, by priority; there is one of each, whoever makes it first.
    """

    traits = QueueTraits(atomic=False, deduplicates=False, ranks=False, exact=False)

    def __init__(
        self,
        transport: Transport,
        prefix: str,
        *,
        queues: Sequence[str] = TASK_QUEUES,
        store: ObjectStore | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._transport = transport
        self._queues = tuple(f"{prefix}-{name}" for name in queues)
        self._dead = f"{prefix}-{DEAD}"
        self._bodies = Bodies(store, transport.max_text)
        self._now = now
        self._held: dict[str, _Held] = {}  # by our receipt
        # Extending may change handles, and a service takes only the last one: nothing is settled meanwhile.
        self._settling = asyncio.Lock()
        self._threads = ThreadPoolExecutor(CALLS, thread_name_prefix="pixelmill-queue")

    async def open(self) -> None:
        """Make the queues that aren't there."""
        await self._call(partial(self._transport.open, [*self._queues, self._dead]))

    async def close(self) -> None:
        """End connections; leases end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._transport.close)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, function: Callable[[], T]) -> T:
        """Call the transport; a queue that somebody deleted is made anew, and its tasks are found by ``missing.py``."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._threads, function)
        except StorageError as error:
            if error.context.get("cause") != GONE:
                raise
            log.error("a queue is gone, and is made anew: %s", error)  # noqa: TRY400 -- expected, and the sentence says it all
        await loop.run_in_executor(self._threads, self._transport.open, [*self._queues, self._dead])
        return await loop.run_in_executor(self._threads, function)

    # -- messages --------------------------------------------------------------------------------

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages; after a failure some may be queued."""
        await self._send([Envelope(message) for message in messages])

    async def _send(self, envelopes: Iterable[Envelope]) -> None:
        by_queue: dict[str, list[str]] = {}
        for envelope in envelopes:
            by_queue.setdefault(self._queue_of(envelope.message), []).append(await self._bodies.fold(envelope))
        await asyncio.gather(*(self._call(partial(self._transport.send, q, t)) for q, t in by_queue.items()))

    def _queue_of(self, message: Message) -> str:
        return self._queues[min(max(message.priority, 0), len(self._queues) - 1)]

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Up to ``limit`` visible messages, the most urgent queue first."""
        del models
        leases: list[Lease] = []
        for queue in self._queues:
            while len(leases) < limit:
                wanted = min(limit - len(leases), self._transport.max_batch)
                begun = time.monotonic()
                found = await self._call(
                    partial(self._transport.receive, queue, wanted, _seconds(visibility_s, least=1))
                )
                leases += await self._leased(queue, found, begun + visibility_s)
                if len(found) < wanted:
                    break
        return leases

    async def _leased(self, queue: str, found: Sequence[Received], until: float) -> list[Lease]:
        leases = []
        for one in found:
            try:
                envelope = await self._bodies.unfold(one.text)
            except JobError as error:
                await self._set_aside(queue, one, error)
                continue
            deliveries = envelope.base + one.deliveries
            receipt = secrets.token_hex(8)
            self._held[receipt] = _Held(queue, one.handle, until, deliveries)
            leases.append(Lease(envelope.message, receipt, deliveries))
        if len(self._held) > MAX_HELD:
            now = time.monotonic()
            self._held = {receipt: held for receipt, held in self._held.items() if held.until > now}
        return leases

    async def _set_aside(self, queue: str, one: Received, error: JobError) -> None:
        log.error("a message of %s was set aside: %s", queue, error)
        strange = Envelope(
            Message(f"unreadable/{secrets.token_hex(8)}", one.text[: self._transport.max_text // 4]),
            reason=str(error),
            deliveries=one.deliveries,
            at=self._now(),
        )
        await self._call(lambda: self._transport.send(self._dead, [strange.to_text()]))
        await self._call(lambda: self._transport.delete(queue, [one.handle]))

    # -- leases ----------------------------------------------------------------------------------

    def _mine(self, leases: Sequence[Lease]) -> list[tuple[Lease, _Held]]:
        """Those that still hold; the others are forgotten."""
        now, mine = time.monotonic(), []
        for lease in leases:
            held = self._held.get(lease.receipt)
            if held is not None and held.until > now:
                mine.append((lease, held))
            else:
                self._held.pop(lease.receipt, None)
        return mine

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew."""
        async with self._settling:
            begun = time.monotonic()
            for held in await self._hide(self._mine(leases), visibility_s, least=1):
                held.until = begun + visibility_s

    async def _hide(self, mine: Sequence[tuple[Lease, _Held]], visibility_s: float, *, least: int) -> list[_Held]:
        """Hide for so long; returns those that we hold, with their new handles."""
        kept = []
        for queue, held_here in _by_queue(mine).items():
            handles = [held.handle for _, held in held_here]
            after = await self._call(
                partial(self._transport.extend, queue, handles, _seconds(visibility_s, least=least))
            )
            for lease, held in held_here:
                if held.handle in after:
                    held.handle = after[held.handle]
                    kept.append(held)
                else:
                    self._held.pop(lease.receipt, None)
        return kept

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""
        async with self._settling:
            await self._delete(self._mine(leases))

    async def _delete(self, mine: Sequence[tuple[Lease, _Held]]) -> None:
        for queue, held_here in _by_queue(mine).items():
            handles = [held.handle for _, held in held_here]
            await self._call(partial(self._transport.delete, queue, handles))
        for lease, _ in mine:
            self._held.pop(lease.receipt, None)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back."""
        async with self._settling:
            mine = self._mine(leases)
            if begun:
                await self._hide(mine, after_s, least=0)
                for lease, _ in mine:
                    self._held.pop(lease.receipt, None)
            elif mine:
                # The service counts every delivery: a new message takes its place, that begins where this one was.
                await self._send([Envelope(lease.message, base=held.deliveries - 1) for lease, held in mine])
                await self._delete(mine)

    # -- dead letters ----------------------------------------------------------------------------

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter queue; a crash in the middle leaves it in both."""
        async with self._settling:
            mine = self._mine([lease])
            if mine:
                letter = Envelope(
                    lease.message, reason=reason or "unknown", deliveries=lease.deliveries, at=self._now()
                )
                text = await self._bodies.fold(letter)
                await self._call(lambda: self._transport.send(self._dead, [text]))
                await self._delete(mine)

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Dead letters; while one process looks at them they are hidden from others."""
        found = await self._scan(min(limit, MAX_SCAN))
        await self._show([one for one, _ in found])
        return list({envelope.message.id: envelope.dead_letter() for _, envelope in found}.values())

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again; looks at the first ``MAX_SCAN``."""
        return await self._take(ids, again=True)

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove dead letters; looks at the first ``MAX_SCAN``."""
        return await self._take(ids, again=False)

    async def _take(self, ids: Sequence[str], *, again: bool) -> list[str]:
        wanted, found = set(ids), await self._scan(MAX_SCAN)
        taken = {envelope.message.id: envelope for _, envelope in found if envelope.message.id in wanted}
        if again:
            await self._send(Envelope(envelope.message) for envelope in taken.values())
        handles = [one.handle for one, envelope in found if envelope.message.id in taken]
        if handles:
            await self._call(lambda: self._transport.delete(self._dead, handles))
        await self._show([one for one, envelope in found if envelope.message.id not in taken])
        return list(taken)

    async def _scan(self, limit: int) -> list[tuple[Received, Envelope]]:
        found: list[tuple[Received, Envelope]] = []
        while len(found) < limit:
            wanted = min(limit - len(found), self._transport.max_batch)
            some = await self._call(partial(self._transport.receive, self._dead, wanted, _seconds(SCAN_S)))
            for one in some:
                try:
                    found.append((one, await self._bodies.unfold(one.text)))
                except JobError as error:
                    strange = Message(f"unreadable/{one.handle[:16]}", one.text[:1000])
                    found.append((one, Envelope(strange, reason=str(error), deliveries=one.deliveries)))
            if not some:
                break
        return found

    async def _show(self, found: Sequence[Received]) -> None:
        if found:
            await self._call(lambda: self._transport.extend(self._dead, [one.handle for one in found], 0))

    async def depth(self) -> QueueDepth:
        """What the service says, which may lag."""
        *counts, dead = await asyncio.gather(
            *(self._call(partial(self._transport.count, queue)) for queue in (*self._queues, self._dead))
        )
        return QueueDepth(
            waiting=sum(count.visible for count in counts),
            leased=sum(count.hidden for count in counts),
            dead=dead.visible + dead.hidden,
            oldest_s=max(count.oldest_s for count in counts),
            counts={priority: count.visible for priority, count in enumerate(counts)},
        )


def _by_queue(mine: Sequence[tuple[Lease, _Held]]) -> dict[str, list[tuple[Lease, _Held]]]:
    found: dict[str, list[tuple[Lease, _Held]]] = {}
    for lease, held in mine:
        found.setdefault(held.queue, []).append((lease, held))
    return found


def _seconds(value: float, *, least: int = 0) -> int:
    """Whole seconds, as services take them: never less than asked for."""
    return max(least, math.ceil(value))
