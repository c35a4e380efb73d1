"""Files of a watched folder that may become events: when to look at each, and what to make of what is seen.

Bounded, and without I/O: the caller looks (``wholeness.py``), and gives the time.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from dataclasses import dataclass

from pixelmill.triggers.wholeness import Looked, Verdict

MAX_CANDIDATES = 100_000
MAX_TOLD = 100_000
"""Files whose last version is remembered, so that a file is not handed over for each notice of it."""
FIRST_PAUSE_S, LAST_PAUSE_S = 0.05, 1.0
"""Between two looks at a file that is being written."""


@dataclass(slots=True)
class _Candidate:
    """``still_since``: when the file was first seen as it is now."""

    due: float
    pause: float = FIRST_PAUSE_S
    seen: tuple[int, int, int] | None = None
    still_since: float = 0.0


class Candidates:
    """``settle_s``: how long a file must lie still of which the kernel can't say whether it is whole."""

    def __init__(self, settle_s: float, maximum: int = MAX_CANDIDATES) -> None:
        self._settle_s, self._maximum = settle_s, maximum
        self._waiting: dict[str, _Candidate] = {}
        self._due: list[tuple[float, str]] = []
        self._told: OrderedDict[str, str] = OrderedDict()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        """Whether a new file would be refused."""
        return len(self._waiting) >= self._maximum

    def add(self, key: str, now: float) -> bool:
        """Look at the file soon, also where it is looked at already; False where there is no room for it."""
        known = self._waiting.get(key)
        if known is None:
            if self.is_full:
                return False
            known = self._waiting[key] = _Candidate(now)
        known.pause = FIRST_PAUSE_S
        self._again(key, known, now)
        return True

    def due(self, now: float, most: int) -> list[str]:
        """Files to be looked at now; each is to be judged then."""
        found: list[str] = []
        while self._due and len(found) < most and self._due[0][0] <= now:
            when, key = heapq.heappop(self._due)
            candidate = self._waiting.get(key)
            if candidate is not None and candidate.due == when:
                candidate.due = float("inf")  # it may stand in the heap twice
                found.append(key)
        return found

    def next_due(self) -> float | None:
        """When the next file is to be looked at; None where none waits."""
        return self._due[0][0] if self._due else None

    def judge(self, key: str, looked: Looked, now: float) -> bool:
        """What was seen of a file; True where it is to be told, for then it is whole. Empty files are not told."""
        candidate = self._waiting[key]
        wanted_again = candidate.due < float("inf")  # a notice came while it was looked at
        if looked.verdict is Verdict.WRITTEN:
            if not wanted_again:
                self._again(key, candidate, now + candidate.pause)
            candidate.pause = min(candidate.pause * 2, LAST_PAUSE_S)
            return False
        if looked.verdict is Verdict.UNKNOWN and looked.size:
            state = (looked.size, looked.modified_ns, looked.changed_ns)
            if candidate.seen != state:
                candidate.seen, candidate.still_since = state, now
            if now < candidate.still_since + self._settle_s:
                if not wanted_again:
                    self._again(key, candidate, candidate.still_since + self._settle_s)
                return False
        if not wanted_again:
            del self._waiting[key]
        whole = looked.verdict is not Verdict.GONE and looked.size > 0
        return whole and self._told.get(key) != version_of(looked)

    def tell(self, key: str, version: str) -> None:
        """This version was taken, and need not be told again."""
        self._told[key] = version
        self._told.move_to_end(key)
        while len(self._told) > MAX_TOLD:
            self._told.popitem(last=False)

    def _again(self, key: str, candidate: _Candidate, when: float) -> None:
        candidate.due = when
        heapq.heappush(self._due, (when, key))


def version_of(looked: Looked) -> str:
    """What names this state of a file: when its content changed, and its size."""
    return f"{looked.modified_ns}-{looked.size}"
