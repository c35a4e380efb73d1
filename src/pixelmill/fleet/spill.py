"""What an overflow worker may take from a queue that workers of our own take from too. Pure policy, no I/O.

It knows classes of work, how long they have waited, and whether anybody of ours takes tasks; it knows neither queues
nor targets. A hub's overflow sees the gates of its own machines (``fleet/places.py``); a worker sees only the queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from pixelmill.jobs.messages import PRIORITY_NUMBERS
from pixelmill.jobs.model import Priority

NOBODY = -1
SETTLE_S = 3.0
"""After a start, or when the queue could not be asked: who connects again does so one after the other, and it must not
cost money that we were first."""

_CLASSES = {
    number: Priority.BATCH if priority is Priority.BATCH else Priority.NORMAL
    for priority, number in PRIORITY_NUMBERS.items()
}
"""Whose latency counts, by priority of messages: nobody waits in person for a queued task."""


class Spill:
    """The gate of an overflow worker: :meth:`look` at the queue, then ask.

    Work goes while nobody of our own takes tasks (seen twice in a row), or when work of a class has waited longer than
    ``latency_s`` of it; more urgent work may go too then, for taking it serves what waits behind it. Never while there
    is a ``refusal``: the targets' own reasons, of budget and circuit.
    """

    def __init__(
        self,
        latency_s: Mapping[Priority, float],
        refusal: Callable[[], str],
        *,
        waited: str = "work had waited",
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._latency_s, self._refusal, self._waited, self._now = latency_s, refusal, waited, now
        self._patient_until = now() + SETTLE_S
        self._alone = 0
        self._reason = ""
        self.most = NOBODY
        """The least urgent priority that may be taken; below it nothing."""
        self.ready = False
        """Whether tasks would be taken if the queue were left to us."""

    def look(self, ages: Mapping[int, float], own: int | None = None) -> None:
        """Judge anew. ``ages``: seconds that work has waited, by priority; ``own``: workers of our own that take tasks.

        None where nobody can tell.
        """
        self._alone = self._alone + 1 if own == 0 and self._now() >= self._patient_until else 0
        self.ready = not self._refusal()
        self.most, self._reason = self._judged(ages) if self.ready else (NOBODY, "")

    def blind(self) -> None:
        """The queue could not be asked: nothing goes."""
        self._patient_until = self._now() + SETTLE_S
        self._alone, self.most, self._reason, self.ready = 0, NOBODY, "", False

    def _judged(self, ages: Mapping[int, float]) -> tuple[int, str]:
        if self._alone >= 2:  # once may be a worker that connects again
            return max(_CLASSES), "no worker of our own takes tasks"
        for number in sorted(_CLASSES, reverse=True):
            limit, age = self._latency_s.get(_CLASSES[number]), ages.get(number, 0.0)
            if limit is not None and age > limit:
                last = max(other for other in _CLASSES if _CLASSES[other] is _CLASSES[number])
                return last, f"{self._waited} for {age:.1f} s, longer than {limit:g} s"
        return NOBODY, ""

    def why(self, priority: int) -> str:
        """Why a message of that priority goes now; empty where it does not."""
        return self._reason if min(max(priority, 0), max(_CLASSES)) <= self.most else ""

    def reason(self) -> str | None:
        """Why work goes now; None where none does."""
        return self._reason or None


class Backlog:
    """For queues that can't tell how long a message has waited: since when each of them has not been empty."""

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._since: dict[int, float] = {}

    def ages(self, waiting: Mapping[int, int]) -> Mapping[int, float]:
        """Seconds by priority, of queues in which something waits."""
        now = self._now()
        self._since = {number: self._since.get(number, now) for number, count in waiting.items() if count}
        return {number: now - since for number, since in self._since.items()}
