"""When a worker of our own with a gate takes from a queue on which workers don't see each other. Pure policy, no I/O.

A gate says where work goes, never whether: the worker rests while its gate is shut, until nobody else takes what waits.
On RabbitMQ the broker tells who else consumes (``engines/celery_engine.py``); here only the queue shows what others do.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from pixelmill.fleet.gates import GatePolicy
from pixelmill.fleet.places import OWN
from pixelmill.fleet.spill import NOBODY
from pixelmill.jobs.messages import PRIORITY_NUMBERS

PATIENCE_S = 5.0
"""How long work waits, and nobody else takes any, until a worker takes tasks although its gate is shut."""
TURN_S = 30.0
"""How long it goes on then, at least; where the queue does not tell what others hold, also at most."""


class Resting:
    """A door (see ``engines/leased.py``): all work while ``gate`` is open, else none but what nobody else takes.

    ``tells``: the queue says how many messages are leased. Else others are judged by whether messages vanish, and a
    turn ends after ``turn_s`` so that they can be seen again.
    """

    def __init__(
        self,
        gate: GatePolicy,
        *,
        tells: bool = True,
        patience_s: float = PATIENCE_S,
        turn_s: float = TURN_S,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._gate, self._tells, self._patience_s, self._turn_s, self._now = gate, tells, patience_s, turn_s, now
        self._since: float | None = None  # work waits, and nobody else takes any
        self._until: float | None = None  # our turn, although the gate is shut
        self._total: int | None = None

    @property
    def shut(self) -> bool:
        """Whether the gate is."""
        return not self._gate.verdict().open

    @property
    def most(self) -> int:
        """The least urgent priority that may be taken, below 0 for nothing."""
        return max(PRIORITY_NUMBERS.values()) if self._until is not None or not self.shut else NOBODY

    def why(self, _priority: int) -> str:
        """Why a message may be taken; empty where it may not."""
        verdict = self._gate.verdict()
        if verdict.open:
            return OWN
        return f"nobody else takes tasks, so a shut gate ({verdict.reason}) counts as open" if self._until else ""

    def reason(self) -> str:
        """The gate's, for people."""
        return self._gate.verdict().reason

    def opened(self) -> None:
        """The gate is open: what was seen while it was shut counts no more."""
        self._since = self._until = self._total = None

    def look(self, waiting: int, leased: int, own: int) -> None:
        """Judge anew while the gate is shut. ``waiting`` and ``leased`` messages of the queue, ``own``: held by us."""
        now, total = self._now(), waiting + leased
        others = leased > own
        fell = self._total is not None and total < self._total
        self._total = total
        if self._until is not None:
            # Not all that have a turn end it in the same moment: of several that are shut one goes on.
            if now >= self._until and (others or not self._tells):
                self._since = self._until = None
            return
        if not waiting or others or fell:
            self._since = None
        elif self._since is None:
            self._since = now
        elif now - self._since >= self._patience_s:
            self._until = now + self._turn_s * random.uniform(1.0, 1.5)  # noqa: S311 -- no secret
