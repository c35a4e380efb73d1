"""A lease queue in memory: for tests, and for what need not survive the process."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pixelmill.engines.queue import DeadLetter, Lease, Message, QueueDepth, QueueTraits
from pixelmill.jobs.messages import CLASSES, urgency


@dataclass(slots=True)
class _Entry:
    """A queued message; ``seq`` grows with the order of sending."""

    message: Message
    seq: int
    sent: float
    visible: float
    deliveries: int = 0
    receipt: str | None = field(default=None)

    def order(self) -> tuple[int, int, int, int]:
        """What a receiver takes first; of a priority what wants models."""
        number = self.message.priority
        return (urgency(number), -number, self.message.rank, self.seq)


class MemoryLeaseQueue:
    """See :class:`pixelmill.engines.queue.LeaseQueue`. Not durable; belongs to one event loop."""

    traits = QueueTraits(lanes=True)

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._entries: dict[str, _Entry] = {}
        self._dead: dict[str, DeadLetter] = {}
        self._seq = itertools.count()

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages."""
        now = self._now()
        for message in messages:
            if message.id not in self._entries:
                self._entries[message.id] = _Entry(message, next(self._seq), now, now)

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Up to ``limit`` visible messages, of tasks that want learned models at most ``models``."""
        now = self._now()
        visible = sorted((entry for entry in self._entries.values() if entry.visible <= now), key=_Entry.order)
        room = limit if models is None else models
        learned = [entry for entry in visible if entry.message.priority >= CLASSES][room:]
        leases = []
        for entry in [entry for entry in visible if entry not in learned][:limit]:
            entry.receipt = secrets.token_hex(8)
            entry.visible = now + visibility_s
            entry.deliveries += 1
            leases.append(Lease(entry.message, entry.receipt, entry.deliveries))
        return leases

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew."""
        for entry in self._mine(leases):
            entry.visible = self._now() + visibility_s

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""
        for entry in self._mine(leases):
            del self._entries[entry.message.id]

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back."""
        for entry in self._mine(leases):
            entry.receipt = None
            entry.visible = self._now() + after_s
            entry.deliveries -= 0 if begun else 1

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter list."""
        for entry in self._mine([lease]):
            del self._entries[entry.message.id]
            self._dead[entry.message.id] = DeadLetter(entry.message, reason, entry.deliveries, self._now())

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Dead letters, oldest first."""
        return list(self._dead.values())[:limit]

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again."""
        again = [self._dead.pop(one).message for one in ids if one in self._dead]
        await self.send(again)
        return [message.id for message in again]

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove dead letters."""
        return [one for one in ids if self._dead.pop(one, None) is not None]

    async def depth(self) -> QueueDepth:
        """How much waits."""
        now = self._now()
        visible = [entry.sent for entry in self._entries.values() if entry.visible <= now]
        return QueueDepth(
            waiting=len(visible),
            leased=len(self._entries) - len(visible),
            dead=len(self._dead),
            oldest_s=max(0.0, now - min(visible)) if visible else 0.0,
        )

    def _mine(self, leases: Sequence[Lease]) -> list[_Entry]:
        """The entries whose lease these still are."""
        found = ((self._entries.get(lease.message.id), lease) for lease in leases)
        return [entry for entry, lease in found if entry is not None and entry.receipt == lease.receipt]
