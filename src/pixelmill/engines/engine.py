"""The contract of an engine: keeps tasks moving from their queue to the slots of this process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pixelmill.engines.queue import QueueDepth


class Engine(Protocol):
    """Tasks come from the queue by themselves; whoever queues some calls :meth:`wake`."""

    async def start(self) -> None:
        """Begin to take tasks."""
        ...

    def wake(self) -> None:
        """There may be work; cheap, and may be called at any time from the engine's event loop."""
        ...

    async def cancel(self, messages: Sequence[str]) -> None:
        """Stop the tasks of these messages (``TaskMessage.id``) where this process holds them.

        No event is emitted for them any more. A later run of the same task is another message, and goes on.
        """
        ...

    async def depth(self) -> QueueDepth:
        """What waits in the queue."""
        ...

    async def stop(self, drain_s: float) -> None:
        """Take no more tasks, let running ones end within ``drain_s``, give the rest back."""
        ...
