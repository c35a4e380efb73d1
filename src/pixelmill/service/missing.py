"""Sends tasks again whose messages a queue elsewhere has lost: it was wiped or made anew, or it let them expire.

Such a queue can't be asked for one message. But what it has not waits nowhere: a task that was released, of which
nothing is heard for longer than a worker may be silent, while the queue says each time that nothing waits in it, has no
message. It is released again, a few times at most. Where the queue was only slow to tell, the task is delivered twice,
which costs work and changes nothing: its first result stands.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence

from pixelmill.engines.queue import QueueDepth
from pixelmill.jobs.suspects import OpenTask, Suspects

LOOK_S = 10.0
LEAST_S = 60.0
"""Added to three times what a worker may hold a task without a word."""
MAX_WATCHED = 5_000
"""Several times the window of the outbox."""
MAX_TRIES = 3
"""Of one task in one process: a message that no worker can read would otherwise come again for ever."""
MAX_REMEMBERED = 50_000


class Missing:
    """Call :meth:`look` now and then. ``again`` records the ends of tasks that have a result, releases the others."""

    def __init__(
        self,
        suspects: Suspects,
        depth: Callable[[], Awaitable[QueueDepth]],
        again: Callable[[Sequence[OpenTask]], Awaitable[object]],
        *,
        silence_s: float,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._suspects, self._depth, self._again = suspects, depth, again
        self._after_s = LEAST_S + 3 * silence_s
        self._now = now
        self._since: dict[OpenTask, float] = {}  # unchanged since then, and nothing waited in the queue
        self._tries: OrderedDict[tuple[str, int], int] = OrderedDict()

    async def look(self) -> int:
        """One look; returns how many tasks were taken for lost."""
        released = await self._suspects.unattended("", MAX_WATCHED)
        # In this order: what is released after the look at the table is none of ours.
        if not released or (await self._depth()).waiting:
            self._since.clear()
            return 0
        now = self._now()
        self._since = {task: self._since.get(task, now) for task in released}
        lost = [task for task, since in self._since.items() if now - since >= self._after_s and self._may_try(task)]
        if lost:
            await self._again(lost)
            for task in lost:
                self._tries[task.id, task.run] = self._tries.pop((task.id, task.run), 0) + 1
                del self._since[task]
            while len(self._tries) > MAX_REMEMBERED:
                self._tries.popitem(last=False)
        return len(lost)

    def _may_try(self, task: OpenTask) -> bool:
        return self._tries.get((task.id, task.run), 0) < MAX_TRIES
