"""Pipelines that owners have saved under names of their own. They are kept as written down when they were saved."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, delete, func, insert, select, update

from pixelmill.errors import NotFound, RequestError
from pixelmill.jobs.database import Database
from pixelmill.jobs.schema import pipelines

MAX_SAVED = 200
"""Of an owner."""
MAX_NAME = 80


@dataclass(frozen=True, slots=True)
class SavedPipeline:
    """``form`` is the text form, ``steps`` the canonical JSON, ``changed`` in seconds since the epoch."""

    name: str
    form: str
    steps: str
    changed: float


class SavedPipelines:
    """Of all owners, one owner at a time."""

    def __init__(self, db: Database, now: Callable[[], float] = time.time) -> None:
        self._db, self._now = db, now

    async def list(self, owner: str) -> list[SavedPipeline]:
        """All of the owner's, by name."""
        query = select(pipelines).where(pipelines.c.owner == owner).order_by(pipelines.c.name)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [SavedPipeline(row.name, row.form, row.steps, row.changed) for row in rows]

    async def put(self, owner: str, name: str, form: str, steps: str) -> tuple[SavedPipeline, bool]:
        """Save it; True where there was none of that name.

        Raises :class:`RequestError` for a name that can't be one, and for one more than :data:`MAX_SAVED`.
        """
        check_name(name)
        saved = SavedPipeline(name, form, steps, self._now())
        values = {"form": form, "steps": steps, "changed": saved.changed}
        mine = pipelines.c.owner == owner

        def run(connection: Connection) -> bool:
            change = update(pipelines).where(mine, pipelines.c.name == name).values(values)
            if connection.execute(change).rowcount:
                return False
            count = connection.execute(select(func.count()).select_from(pipelines).where(mine)).scalar() or 0
            if count >= MAX_SAVED:
                raise RequestError(
                    f"There are {count:,} saved pipelines, and no more than {MAX_SAVED:,} are kept. Delete one first.",
                    status=409,
                    maximum=MAX_SAVED,
                )
            connection.execute(insert(pipelines), {"owner": owner, "name": name, **values})
            return True

        return saved, await self._db.write(run)

    async def remove(self, owner: str, name: str) -> None:
        """Forget it; raises :class:`NotFound`."""
        gone = delete(pipelines).where(pipelines.c.owner == owner, pipelines.c.name == name)
        if not await self._db.write(lambda connection: connection.execute(gone).rowcount):
            raise NotFound(f"There is no saved pipeline {name[:MAX_NAME]!r}.")


def check_name(name: str) -> None:
    """Raise :class:`RequestError` unless it is 1 to 80 printable characters, without spaces around them.

    ``.`` and ``..`` are steps in a path, which clients take before they ask.
    """
    printable = 1 <= len(name) <= MAX_NAME and name.isprintable() and name == name.strip()
    if not printable or name in {".", ".."}:
        raise RequestError(
            f"{name[:MAX_NAME]!r} can't be the name of a pipeline: it has 1 to {MAX_NAME} printable characters, and no "
            "spaces at its ends.",
            parameter="name",
        )
