"""The contract of a lease queue: at-least-once, with a visibility time and a dead-letter list.

A message that is received and not deleted comes back when its lease ends. Adapters: ``sql`` (SQLite now,
PostgreSQL), ``memory``; Azure Storage Queue and SQS follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """What is queued: ``id`` is the task's id and run (``task/run``), ``body`` JSON with all that a worker needs.

    ``rank`` orders messages within a priority: smaller first (see ``jobs/outbox.py`` for fair shares). ``owner`` is
    whose task it is.
    """

    id: str
    body: str
    priority: int = 1
    rank: int = 0
    owner: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """A received message. ``receipt`` proves the lease; ``deliveries`` counts from 1."""

    message: Message
    receipt: str
    deliveries: int


class LeaseQueue(Protocol):
    """Async; raises :class:`StorageUnavailable` and the like. Ids that are queued already are not queued twice."""

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages, all or none; returns when they are durable."""
        ...

    async def receive(self, limit: int, visibility_s: float) -> list[Lease]:
        """Up to ``limit`` visible messages by priority, rank, order of sending; empty at once if there are none."""
        ...

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew; a lease that was lost is left alone."""
        ...

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge; a lease that was lost meanwhile is left alone."""
        ...

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back, visible after ``after_s`` (a drain, a lost attempt); lost leases are left alone.

        ``begun`` False: they were only fetched ahead; the delivery is not counted, where the queue can do that.
        """
        ...

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter list; one whose lease was lost is left alone."""
        ...

    async def depth(self) -> QueueDepth:
        """How much waits, and for how long the oldest has."""
        ...


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """``waiting`` messages are visible, ``leased`` are not; ``oldest_s`` is the age of the oldest visible one.

    ``heads``: by priority the age of the message that comes next; None where the queue can't tell.
    """

    waiting: int
    leased: int
    dead: int
    oldest_s: float
    heads: Mapping[int, float] | None = None
