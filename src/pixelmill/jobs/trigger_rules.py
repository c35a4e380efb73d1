"""Rules of triggers that came by the API, as JSON that only ``triggers`` reads. Bounded there."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from pixelmill.jobs.database import Database
from pixelmill.jobs.rows import clean, dumps
from pixelmill.jobs.schema import trigger_rules


class KeptRules:
    """The rules of all owners, by name."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def all(self) -> Mapping[str, str]:
        """The JSON of each rule, by name."""
        query = select(trigger_rules.c.name, trigger_rules.c.body).order_by(trigger_rules.c.name)
        return {row.name: row.body for row in await self._db.read(lambda c: c.execute(query).all())}

    async def put(self, name: str, owner: str, rule: Mapping[str, Any]) -> None:
        """Keep a rule, in place of the one of that name."""
        row = {"name": name, "owner": owner, "body": clean(dumps(dict(rule))), "changed": time.time()}

        def run(connection: Connection) -> None:
            connection.execute(delete(trigger_rules).where(trigger_rules.c.name == name))
            connection.execute(insert(trigger_rules), row)

        await self._db.write(run)

    async def remove(self, name: str) -> None:
        """Forget it; one that isn't there is no error."""
        await self._db.write(
            lambda connection: connection.execute(delete(trigger_rules).where(trigger_rules.c.name == name)).rowcount
        )
