"""Spends from a ledger in a process of its own: ``python spender.py DATABASE URL BUDGET PRICE CALLS``.

Fifty calls at once to a server, until the budget refuses; then prints a line.
"""

from __future__ import annotations

import asyncio
import sys

from pixelmill.errors import PixelmillError
from pixelmill.fleet.overflow import PaidTarget, Price
from pixelmill.jobs.database import Database
from pixelmill.jobs.ledger import UNIT, Ledger
from pixelmill.targets.serverless import ServerlessTarget
from pixelmill.targets.target import RunRequest

AT_ONCE = 50


async def spend(database: str, url: str, budget: float, price: float, calls: int) -> None:
    async with Database(database) as db:
        ledger = Ledger(db, {"hour": int(budget * UNIT), "day": int(budget * UNIT)}, now=lambda: 86_400.0 * 365)
        target = PaidTarget(ServerlessTarget("cloud", url, concurrency=AT_ONCE), Price(price), ledger, timeout_s=30)
        await target.start()
        numbers = iter(range(calls))

        async def lane() -> None:
            for number in numbers:
                try:
                    await target.run(RunRequest(f"{number}", '{"operations":[]}', b"x"))
                except PixelmillError as error:
                    sys.stdout.write(f"{error.type} {error}\n")
                    return

        await asyncio.gather(*(lane() for _ in range(AT_ONCE)))
        await target.stop()
        await ledger.refresh()
        spent = ledger.spend("hour")
        sys.stdout.write(f"done {spent.spent} {spent.reserved} {spent.calls}\n")


if __name__ == "__main__":
    asyncio.run(spend(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])))
