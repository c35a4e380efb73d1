"""The contract of a lease queue: at-least-once, with a visibility time and a dead-letter list.

A message that is received and not deleted comes back when its lease ends. Adapters: ``sql`` (SQLite and PostgreSQL),
``azure`` (Azure Storage Queue), ``sqs``, ``memory``. What a service of the cloud can't do is optional, and said in
:class:`QueueTraits`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Message:
    """What is queued: ``id`` is the task's id and run (``task/run``), ``body`` JSON with all that a worker needs.

    ``rank`` orders messages within a priority: smaller first (see ``jobs/outbox.py`` for fair shares). ``owner`` is
    whose task it is. ``trace``: what it belongs to (``tracing.TraceContext.to_text``), empty where nobody said;
    ``sent``: when it was queued, in seconds since the epoch, 0 where that is not known. Dead letters
    need not keep them.
    """

    id: str
    body: str
    priority: int = 1
    rank: int = 0
    owner: str = ""
    trace: str = ""
    sent: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Lease:
    """A received message. ``receipt`` proves the lease; ``deliveries`` counts from 1."""

    message: Message
    receipt: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class QueueTraits:
    """What a queue can do beyond delivering at least once, by priority, with counted deliveries and dead letters.

    ``atomic``: ``send`` queues all or none (else a failure may leave some queued). ``deduplicates``: an id that is
    queued already is not queued twice. ``ranks``: messages come by rank, then by order of sending. ``exact``:
    ``depth`` tells all its figures, as of now (else they are approximate, and some are 0). ``lanes``: ``receive`` can
    be told how many messages of tasks with learned models to give; else those for which there is no room are put back
    for ``aside_s`` seconds (0: to the end of the queue).
    """

    atomic: bool = True
    deduplicates: bool = True
    ranks: bool = True
    exact: bool = True
    lanes: bool = False
    aside_s: float = 2.0


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that was given up, and why; ``at`` is seconds since the epoch."""

    message: Message
    reason: str
    deliveries: int
    at: float


class LeaseQueue(Protocol):
    """Async; raises :class:`StorageUnavailable` and the like."""

    @property
    def traits(self) -> QueueTraits:
        """What it can do."""
        ...

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages; returns when they are durable."""
        ...

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Up to ``limit`` visible messages by priority, rank, order of sending; empty at once if there are none.

        ``models``: with the trait ``lanes``, at most so many of the classes of tasks with models
        (``jobs.messages.queue_number``), which come first within their priority.
        """
        ...

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew; a lease that was lost is left alone."""
        ...

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge; a lease that was lost meanwhile is left alone."""
        ...

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back, visible after ``after_s`` (a drain, a lost attempt); lost leases are left alone.

        ``begun`` False: they were only fetched ahead; the delivery is not counted.
        """
        ...

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter list; one whose lease was lost is left alone."""
        ...

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Up to ``limit`` dead letters, in any order."""
        ...

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue these dead letters (ids of messages) again, their deliveries counted anew; returns those found."""
        ...

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove these dead letters; returns those found."""
        ...

    async def depth(self) -> QueueDepth:
        """How much waits, and for how long the oldest has."""
        ...


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """``waiting`` messages are visible, ``leased`` are not; ``oldest_s`` is the age of the oldest visible one.

    ``heads``: by priority the age of the message that comes next; None where the queue can't tell. ``counts``: by
    priority how many are visible; None where ``heads`` says more.
    """

    waiting: int
    leased: int
    dead: int
    oldest_s: float
    heads: Mapping[int, float] | None = None
    counts: Mapping[int, int] | None = None
