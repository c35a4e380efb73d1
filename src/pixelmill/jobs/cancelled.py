"""Which runs of tasks nobody wants any more, for those who hold them or have just heard of their end."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Text, select

from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import split_message_id
from pixelmill.jobs.model import State
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import tasks

_ids = table_of("rows", id=Text).subquery("ids")
_FETCH = select(tasks.c.id, tasks.c.run, tasks.c.state).select_from(_ids.join(tasks, tasks.c.id == _ids.c.id))


async def cancelled_among(db: Database, message_ids: Iterable[str], *, or_gone: bool = False) -> frozenset[str]:
    """Those whose task was cancelled in that run, or is in a later one; none that ended in another way.

    ``or_gone``: and those whose task is not known (any more).
    """
    runs = {one: split_message_id(one) for one in message_ids}
    if not runs:
        return frozenset()
    rows = encode((task,) for task in {task for task, _ in runs.values()})
    found = await db.read(lambda connection: connection.execute(_FETCH, {"rows": rows}).all())
    now = {row.id: (row.run, row.state) for row in found}

    def is_cancelled(task: str, run: int) -> bool:
        if task not in now:
            return or_gone
        current, state = now[task]
        return bool(current > run or (current == run and state == State.CANCELLED))

    return frozenset(one for one, (task, run) in runs.items() if is_cancelled(task, run))
