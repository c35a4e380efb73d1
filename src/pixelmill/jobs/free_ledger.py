"""The ledger of targets that cost nothing, for a process without a database: it counts and refuses nothing.

A target with a price needs ``jobs/ledger.py``: a budget in memory would be one a process, and begin anew with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from pixelmill.jobs.ledger import ALL, PERIODS, Reservation, Spend


class FreeLedger:
    """Has the methods of :class:`pixelmill.jobs.ledger.Ledger`. Amounts are 0; the figures are of this process."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._seen: dict[tuple[str, int, str], Spend] = {}

    async def reserve(self, target: str, amount: int) -> Reservation:
        """Count a call; raises :class:`ValueError` for one that costs anything."""
        if amount:
            raise ValueError("what costs money needs a ledger in the database")
        windows = self._windows()
        for key in self._keys(target, windows):
            self._seen[key] = replace(spend := self._seen.get(key, Spend()), calls=spend.calls + 1)
        return Reservation(target, 0, windows)

    async def settle(self, reservation: Reservation, actual: int, *, failed: bool = False) -> None:
        """Count a failure."""
        del actual
        for key in self._keys(reservation.target, dict(reservation.windows)):
            if failed and key in self._seen:
                self._seen[key] = replace(spend := self._seen[key], failures=spend.failures + 1)

    async def refresh(self) -> None:
        """Forget the windows that have passed."""
        windows = self._windows()
        self._seen = {key: spend for key, spend in self._seen.items() if windows[key[0]] == key[1]}

    async def prune(self) -> None:
        """Nothing is kept."""

    def spend(self, period: str, target: str = ALL) -> Spend:
        """This window's calls of one target, or of all."""
        return self._seen.get((period, self._windows()[period], target), Spend())

    def left(self, period: str) -> int | None:
        """No limit."""
        del period
        return None

    def room(self, amount: int, most: int) -> int:
        """All that is asked for."""
        del amount
        return most

    def refusal(self, amount: int) -> str:
        """None."""
        del amount
        return ""

    def _windows(self) -> dict[str, int]:
        now = self._now()
        return {period: int(now // seconds) for period, seconds in PERIODS.items()}

    @staticmethod
    def _keys(target: str, windows: dict[str, int]) -> list[tuple[str, int, str]]:
        return [(period, number, name) for period, number in windows.items() for name in (ALL, target)]
