"""A lease queue in the job store's database, so that a job and its messages are one transaction.

Receiving is a look whose turn it is (``turns.py``) and an ``UPDATE ... RETURNING``. SQLite has a single writer, so no
two receivers meet; PostgreSQL skips rows that another receiver has locked (``FOR UPDATE SKIP LOCKED``, which SQLAlchemy
leaves out on SQLite).
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    Row,
    Text,
    bindparam,
    delete,
    exists,
    func,
    insert,
    null,
    select,
    update,
)

from pixelmill.engines import turns
from pixelmill.engines.queue import DeadLetter, Lease, Message, QueueDepth, QueueTraits
from pixelmill.jobs.connections import time_of
from pixelmill.jobs.database import Database
from pixelmill.jobs.intake import INSERT_MESSAGES, chunks
from pixelmill.jobs.messages import CLASSES, urgency
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import dead_letters, queue

# A receipt is "row:token": the row makes the look-up quick, the token proves the lease.
_held = table_of("rows", seq=BigInteger, receipt=Text).subquery("held")
_is_held = exists().where(_held.c.seq == queue.c.seq, _held.c.receipt == queue.c.receipt)
_mine = queue.c.seq.in_(select(_held.c.seq))
_EXTEND = update(queue).where(_mine, _is_held).values(visible=bindparam("until", type_=Double))
_DELETE = delete(queue).where(_mine, _is_held)
_RELEASE = (
    update(queue)
    .where(_mine, _is_held)
    .values(
        visible=bindparam("until", type_=Double),
        deliveries=queue.c.deliveries - bindparam("uncounted", type_=Integer),
        receipt=bindparam("new_receipt", type_=Text),
        holder=null(),
    )
)
_TAKE_DEAD = (
    delete(dead_letters)
    .where(dead_letters.c.id.in_(table_of("rows", id=Text)))
    .returning(
        dead_letters.c.id,
        dead_letters.c.owner,
        dead_letters.c.body,
        dead_letters.c.priority,
        dead_letters.c.rank,
    )
)
# Nobody's receipt, on rows that were released for later: they are hidden, and counted with the leased ones.
_DELAYED = "delayed"
_LEASED = (queue.c.receipt.is_not(None), queue.c.visible > bindparam("now", type_=Double))


class SqlLeaseQueue:
    """See :class:`pixelmill.engines.queue.LeaseQueue`. ``holder`` names this process in the leases it takes.

    Times (seconds since the epoch) are the database's (see ``time_of``), or those of ``now``.
    """

    traits = QueueTraits(lanes=True)

    def __init__(self, db: Database, *, holder: str = "", now: Callable[[], float] | None = None) -> None:
        self._db = db
        self._holder = holder
        self._now = now
        self._last = dict.fromkeys(turns.CLASSES, "")  # by priority, whom we served last

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages, all or none."""

        def run(connection: Connection) -> None:
            now = time_of(connection, self._now)
            rows = ((one.id, one.owner, one.body, one.priority, one.rank, now, one.trace or None) for one in messages)
            for chunk in chunks(rows):
                connection.execute(INSERT_MESSAGES, {"rows": encode(chunk)})

        if messages:
            await self._db.write(run)

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Up to ``limit`` visible messages, of tasks that want learned models at most ``models``."""
        token = secrets.token_hex(8)

        def run(connection: Connection) -> tuple[list[Row[Any]], dict[int, str]]:
            now = time_of(connection, self._now)
            lease = {"now": now, "until": now + visibility_s, "new_receipt": token, "new_holder": self._holder}
            return self._take(connection, limit, limit if models is None else models, lease)

        rows, last = await self._db.write(run, alone=False)
        self._last |= last
        return [
            Lease(
                Message(row.id, row.body, row.priority, row.rank, row.owner, row.trace or "", row.sent),
                f"{row.seq}:{token}",
                row.deliveries,
            )
            for row in rows
        ]

    def _take(
        self, connection: Connection, limit: int, models: int, lease: dict[str, Any]
    ) -> tuple[list[Row[Any]], dict[int, str]]:
        """Lease messages, the most urgent class first, owners in turn; and who was served last in each class.

        Of a priority those with models come first: they are few, and take no slots from the others.
        """
        lasts = {f"last{one}": owner for one, owner in self._last.items()}
        found = connection.execute(turns.OWNERS, {"now": lease["now"], "most": limit, **lasts}).all()
        rows: list[Row[Any]] = []
        last: dict[int, str] = {}
        for priority in sorted(turns.CLASSES, key=lambda one: (urgency(one), -one)):
            of_models = priority >= CLASSES
            owners = [row.owner for row in found if row.priority == priority]
            while owners and (room := min(limit - len(rows), models if of_models else limit)) > 0:
                parts, last[priority] = turns.turns(owners, room)
                more = turns.lease(connection, priority, parts, lease)
                rows += more
                models -= len(more) if of_models else 0
                # What some left of their parts goes to those who took all of theirs.
                count = Counter(row.owner for row in more)
                owners = [part.owner for part in parts if count[part.owner] == part.count] if more else []
        return rows, last

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew."""
        if leases:
            rows = _receipts(leases)

            def run(connection: Connection) -> None:
                connection.execute(_EXTEND, {"rows": rows, "until": time_of(connection, self._now) + visibility_s})

            await self._db.write(run, alone=False)

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""
        if leases:
            parameters = {"rows": _receipts(leases)}
            await self._db.write(lambda connection: connection.execute(_DELETE, parameters).rowcount, alone=False)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back."""
        if leases:
            parameters = {
                "rows": _receipts(leases),
                "uncounted": 0 if begun else 1,
                "new_receipt": _DELAYED if after_s > 0 else None,
            }

            def run(connection: Connection) -> None:
                until = time_of(connection, self._now) + after_s
                connection.execute(_RELEASE, {**parameters, "until": until})

            await self._db.write(run, alone=False)

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter list, in one transaction."""
        rows, message = _receipts([lease]), lease.message

        def run(connection: Connection) -> None:
            if not connection.execute(_DELETE, {"rows": rows}).rowcount:
                return  # the lease was lost
            connection.execute(delete(dead_letters).where(dead_letters.c.id == message.id))
            values = {
                "id": message.id,
                "owner": message.owner,
                "body": message.body,
                "priority": message.priority,
                "rank": message.rank,
                "deliveries": lease.deliveries,
                "reason": reason,
                "at": time_of(connection, self._now),
            }
            connection.execute(insert(dead_letters), values)

        await self._db.write(run)

    async def depth(self) -> QueueDepth:
        """How much waits; messages are counted by pages of an index, not one by one."""

        def run(connection: Connection) -> QueueDepth:
            now = time_of(connection, self._now)
            oldest = select(queue.c.sent).where(queue.c.visible <= now).order_by(queue.c.seq).limit(1)
            every = connection.execute(select(func.count()).select_from(queue)).scalar_one()
            leased = connection.execute(select(func.count()).where(*_LEASED), {"now": now}).scalar_one()
            dead = connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()
            sent = connection.execute(oldest).scalar()
            heads = {one: max(0.0, now - head) for one, head in turns.heads(connection, now).items()}
            return QueueDepth(every - leased, leased, dead, 0.0 if sent is None else max(0.0, now - sent), heads)

        return await self._db.read(run)

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Dead letters, newest first."""
        query = select(dead_letters).order_by(dead_letters.c.at.desc(), dead_letters.c.id).limit(limit)
        rows = await self._db.read(lambda connection: connection.execute(query).all())
        return [
            DeadLetter(Message(row.id, row.body, row.priority, row.rank, row.owner), row.reason, row.deliveries, row.at)
            for row in rows
        ]

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again, as if for the first time, in one transaction."""
        wanted = encode((one,) for one in ids)

        def run(connection: Connection) -> list[str]:
            found = connection.execute(_TAKE_DEAD, {"rows": wanted}).all()
            now = time_of(connection, self._now)
            again = encode((row.id, row.owner, row.body, row.priority, row.rank, now, None) for row in found)
            connection.execute(INSERT_MESSAGES, {"rows": again})
            return [row.id for row in found]

        return await self._db.write(run)

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove dead letters."""
        wanted = encode((one,) for one in ids)
        return await self._db.write(lambda c: [row.id for row in c.execute(_TAKE_DEAD, {"rows": wanted}).all()])

    async def recover(self) -> list[str]:
        """Make the leases of this ``holder`` visible at once; returns the ids of their messages.

        For a process that knows that whoever used the name before is dead: it holds the lock of the data folder that
        the name stands for. Hand the ids to :meth:`pixelmill.jobs.upkeep.Upkeep.reconcile`, which knows what had begun.
        """
        mine = (queue.c.receipt.is_not(None), queue.c.holder == self._holder)

        def run(connection: Connection) -> list[str]:
            free = (
                update(queue).where(*mine).values(visible=time_of(connection, self._now), receipt=null(), holder=null())
            )
            return list(connection.execute(free.returning(queue.c.id)).scalars())

        return await self._db.write(run)


def _receipts(leases: Sequence[Lease]) -> str:
    rows = []
    for lease in leases:
        seq, _, token = lease.receipt.partition(":")
        rows.append((int(seq), token))
    return encode(rows)
