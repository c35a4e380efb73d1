"""What overflow costs: a ledger that reserves the worst case before each call, so that budgets are never passed.

Owns the tables ``overflow_spend`` and ``overflow_calls``. It must not know what is called, or how prices are made.
Amounts are whole billionths of the currency, for sums must be exact. One conditional statement a window both checks the
budget and reserves, so it holds for any number of processes on one database. A row for each open call is removed when
the call is settled, so that settling again changes nothing. No sum is made of those rows, and nobody asks who is dead:
what a process had reserved when it was killed stays reserved, and so counts as spent at its worst case, until its hour
and its day have passed.

Windows are the clock's hours and days, UTC. A process whose clock is wrong spends from another window's budget; no
window's sum passes its budget even then.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, text, update

from pixelmill.errors import TargetUnavailable
from pixelmill.jobs.database import Database
from pixelmill.jobs.schema import overflow_calls as calls
from pixelmill.jobs.schema import overflow_spend as table

UNIT = 10**9
"""Billionths of the currency in one of it."""
PERIODS: Mapping[str, int] = {"day": 86_400, "hour": 3_600}
"""Seconds of each window. In this order everybody takes the rows, so that two processes never wait for each other."""
KEPT = 40
"""Windows of each period that are kept for people to read."""
OPEN_DAYS = 2
"""So long the row of a call that nobody settles is kept; one that would be settled later stays at its worst case."""
ALL = ""
"""The target of the rows that sum up all targets."""
UNLIMITED = 2**62

_RESERVE = text(
    """
    INSERT INTO overflow_spend (period, number, target, owner, spent, reserved, calls, failures)
    VALUES (:period, :number, :target, '', 0, :amount, 1, 0)
    ON CONFLICT (period, number, target) DO UPDATE
    SET reserved = overflow_spend.reserved + excluded.reserved, calls = overflow_spend.calls + 1
    WHERE overflow_spend.spent + overflow_spend.reserved + excluded.reserved <= :budget
    """
)
SETTLE = (
    update(table)
    .where(
        table.c.period == bindparam("in_period"),
        table.c.number == bindparam("in_number"),
        table.c.target.in_(("", bindparam("in_target"))),
    )
    .values(
        reserved=table.c.reserved - bindparam("worst"),
        spent=table.c.spent + bindparam("actual"),
        failures=table.c.failures + bindparam("failed"),
    )
)


@dataclass(frozen=True, slots=True)
class Reservation:
    """Room in the budgets for one call: ``amount`` billionths, in the windows of those numbers by period."""

    target: str
    amount: int
    windows: Mapping[str, int]
    call: str = ""  # its row among the open calls


@dataclass(frozen=True, slots=True)
class Spend:
    """Of one window and target, in billionths. ``reserved`` is for calls that have not ended, or never will."""

    spent: int = 0
    reserved: int = 0
    calls: int = 0
    failures: int = 0

    @property
    def used(self) -> int:
        """What counts against the budget."""
        return self.spent + self.reserved


class Ledger:
    """Budgets by period in billionths (absent: no limit), all targets together.

    Keeps the sums as last seen (at a reservation, a settlement, or :meth:`refresh`) for who must decide at once.
    """

    def __init__(
        self, database: Database, budgets: Mapping[str, int] | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self._db, self._budgets, self._now = database, dict(budgets or {}), now
        self._seen: dict[tuple[str, int, str], Spend] = {}

    async def reserve(self, target: str, amount: int) -> Reservation:
        """Set ``amount`` aside in this hour and this day, durably, or raise :class:`TargetUnavailable`."""
        windows, call = self._windows(), secrets.token_hex(12)

        def run(connection: Connection) -> list[tuple[tuple[str, int, str], Spend]]:
            for period, number in windows.items():
                for name in (ALL, target):
                    limit = self._budgets.get(period, UNLIMITED) if name == ALL else UNLIMITED
                    values = {"period": period, "number": number, "target": name, "amount": amount, "budget": limit}
                    # A row that is not there yet is inserted without a look at the budget.
                    if amount > limit or not connection.execute(_RESERVE, values).rowcount:
                        raise TargetUnavailable(self._exhausted(period, amount), budget=period)
            connection.execute(insert(calls), {"id": call, "owner": "", "day": windows["day"]})
            return _sums(connection, windows)

        try:
            sums = await self._db.write(run)
        except TargetUnavailable:
            await self.refresh()
            raise
        self._seen = dict(sums)
        return Reservation(target, amount, windows, call)

    async def settle(self, reservation: Reservation, actual: int, *, failed: bool = False) -> None:
        """Replace the reservation by what the call has cost, which is never more; again changes nothing.

        So it may be tried again where nobody knows whether it was done.
        """
        actual = min(max(0, actual), reservation.amount)

        def run(connection: Connection) -> list[tuple[tuple[str, int, str], Spend]]:
            mine = connection.execute(delete(calls).where(calls.c.id == reservation.call)).rowcount
            for period, number in reservation.windows.items() if mine else ():
                values = {
                    "in_period": period,
                    "in_number": number,
                    "in_target": reservation.target,
                    "worst": reservation.amount,
                    "actual": actual,
                    "failed": int(failed),
                }
                connection.execute(SETTLE, values)
            return _sums(connection, self._windows())

        self._seen = dict(await self._db.write(run))

    async def refresh(self) -> None:
        """Read the sums: other processes spend too, and windows pass."""
        windows = self._windows()
        self._seen = dict(await self._db.read(lambda connection: _sums(connection, windows)))

    async def prune(self) -> None:
        """Forget windows that nobody asks about any more, and calls that nobody settles."""
        windows = self._windows()

        def run(connection: Connection) -> None:
            for period, number in windows.items():
                connection.execute(delete(table).where(table.c.period == period, table.c.number < number - KEPT))
            connection.execute(delete(calls).where(calls.c.day < windows["day"] - OPEN_DAYS))

        await self._db.write(run)

    # -- as last seen ----------------------------------------------------------------------------

    def spend(self, period: str, target: str = ALL) -> Spend:
        """This window's sums of one target, or of all."""
        return self._seen.get((period, self._windows()[period], target), Spend())

    def left(self, period: str) -> int | None:
        """What this window's budget has left; None where there is no limit."""
        budget = self._budgets.get(period)
        return None if budget is None else budget - self.spend(period).used

    def room(self, amount: int, most: int) -> int:
        """How many calls of that worst case fit now, ``most`` at most."""
        if amount <= 0:
            return most
        lefts = [left for period in PERIODS if (left := self.left(period)) is not None]
        return max(0, min([most, *(left // amount for left in lefts)]))

    def refusal(self, amount: int) -> str:
        """Why a call of that worst case does not fit, or an empty text."""
        for period in PERIODS:
            left = self.left(period)
            if left is not None and left < amount:
                return self._exhausted(period, amount)
        return ""

    def _exhausted(self, period: str, amount: int) -> str:
        budget = self._budgets.get(period, UNLIMITED)
        used = self.spend(period).used
        ends_s = PERIODS[period] - self._now() % PERIODS[period]
        return (
            f"the budget of this {period} is used up ({used / UNIT:.6g} of {budget / UNIT:.6g}; the next call may cost "
            f"{amount / UNIT:.6g}); the next {period} begins in {ends_s:.0f} s"
        )

    def _windows(self) -> dict[str, int]:
        now = self._now()
        return {period: int(now // seconds) for period, seconds in PERIODS.items()}


def _sums(connection: Connection, windows: Mapping[str, int]) -> list[tuple[tuple[str, int, str], Spend]]:
    sums = []
    for period, number in windows.items():
        rows = connection.execute(select(table).where(table.c.period == period, table.c.number == number))
        sums += [
            ((period, number, row.target), Spend(row.spent, row.reserved, row.calls, row.failures)) for row in rows
        ]
    return sums
