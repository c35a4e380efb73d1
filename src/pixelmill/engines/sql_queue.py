"""A lease queue in the job store's database, so that a job and its messages are one transaction.

Receiving is one ``UPDATE ... RETURNING``. SQLite has a single writer, so no two receivers meet; PostgreSQL
skips rows that another receiver has locked (``FOR UPDATE SKIP LOCKED``, which SQLAlchemy leaves out on SQLite).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import (
    BigInteger,
    Connection,
    Double,
    Integer,
    String,
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

from pixelmill.engines.queue import Lease, Message, QueueDepth
from pixelmill.jobs.database import Database
from pixelmill.jobs.intake import INSERT_MESSAGES, chunks
from pixelmill.jobs.messages import PRIORITY_NUMBERS
from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import dead_letters, queue

_next = (
    select(queue.c.seq)
    .where(queue.c.visible <= bindparam("now", type_=Double))
    .order_by(queue.c.priority, queue.c.rank, queue.c.seq)
    .limit(bindparam("limit", type_=Integer))
    .with_for_update(skip_locked=True)
)
_RECEIVE = (
    update(queue)
    .where(queue.c.seq.in_(_next))
    .values(
        visible=bindparam("until", type_=Double),
        deliveries=queue.c.deliveries + 1,
        receipt=bindparam("new_receipt", type_=String),
        holder=bindparam("new_holder", type_=String),
    )
    .returning(
        queue.c.seq,
        queue.c.id,
        queue.c.owner,
        queue.c.body,
        queue.c.priority,
        queue.c.rank,
        queue.c.deliveries,
    )
)

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
# Nobody's receipt, on rows that were released for later: they are hidden, and counted with the leased ones.
_DELAYED = "delayed"
_LEASED = (queue.c.receipt.is_not(None), queue.c.visible > bindparam("now", type_=Double))


_HEAD = (
    select(queue.c.sent)
    .where(queue.c.priority == bindparam("priority", type_=Integer), queue.c.visible <= bindparam("now", type_=Double))
    .order_by(queue.c.rank, queue.c.seq)
    .limit(1)
)


class SqlLeaseQueue:
    """See :class:`pixelmill.engines.queue.LeaseQueue`. ``holder`` names this process in the leases it takes.

    Times are those of ``now`` (seconds since the epoch): every process that shares the database must share its clock.
    """

    def __init__(self, db: Database, *, holder: str = "", now: Callable[[], float] = time.time) -> None:
        self._db = db
        self._holder = holder
        self._now = now

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages, all or none."""
        now = self._now()
        rows = ((one.id, one.owner, one.body, one.priority, one.rank, now) for one in messages)

        def run(connection: Connection) -> None:
            for chunk in chunks(rows):
                connection.execute(INSERT_MESSAGES, {"rows": encode(chunk)})

        if messages:
            await self._db.write(run)

    async def receive(self, limit: int, visibility_s: float) -> list[Lease]:
        """Up to ``limit`` visible messages."""
        token = secrets.token_hex(8)
        now = self._now()
        parameters = {
            "now": now,
            "limit": limit,
            "until": now + visibility_s,
            "new_receipt": token,
            "new_holder": self._holder,
        }
        rows = await self._db.write(lambda connection: connection.execute(_RECEIVE, parameters).all())
        return [
            Lease(Message(row.id, row.body, row.priority, row.rank, row.owner), f"{row.seq}:{token}", row.deliveries)
            for row in sorted(rows, key=lambda row: (row.priority, row.rank, row.seq))
        ]

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Start the visibility time anew."""
        if leases:
            parameters = {"rows": _receipts(leases), "until": self._now() + visibility_s}
            await self._db.write(lambda connection: connection.execute(_EXTEND, parameters).rowcount)

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""
        if leases:
            parameters = {"rows": _receipts(leases)}
            await self._db.write(lambda connection: connection.execute(_DELETE, parameters).rowcount)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back."""
        if leases:
            parameters = {
                "rows": _receipts(leases),
                "until": self._now() + after_s,
                "uncounted": 0 if begun else 1,
                "new_receipt": _DELAYED if after_s > 0 else None,
            }
            await self._db.write(lambda connection: connection.execute(_RELEASE, parameters).rowcount)

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead-letter list, in one transaction."""
        rows, now = _receipts([lease]), self._now()
        message = lease.message

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
                "at": now,
            }
            connection.execute(insert(dead_letters), values)

        await self._db.write(run)

    async def depth(self) -> QueueDepth:
        """How much waits; messages are counted by pages of an index, not one by one."""
        now = self._now()
        oldest = select(queue.c.sent).where(queue.c.visible <= now).order_by(queue.c.seq).limit(1)

        def run(connection: Connection) -> QueueDepth:
            every = connection.execute(select(func.count()).select_from(queue)).scalar_one()
            leased = connection.execute(select(func.count()).where(*_LEASED), {"now": now}).scalar_one()
            dead = connection.execute(select(func.count()).select_from(dead_letters)).scalar_one()
            sent = connection.execute(oldest).scalar()
            heads = {
                priority: max(0.0, now - head)
                for priority in PRIORITY_NUMBERS.values()
                if (head := connection.execute(_HEAD, {"now": now, "priority": priority}).scalar()) is not None
            }
            return QueueDepth(every - leased, leased, dead, 0.0 if sent is None else max(0.0, now - sent), heads)

        return await self._db.read(run)

    async def recover(self, alive: Collection[str] = ()) -> list[str]:
        """Make the leases of all holders but those ``alive`` visible at once; returns the ids of their messages.

        For a process that knows the others dead: it holds the lock of the data folder. Hand the ids to
        :meth:`pixelmill.jobs.upkeep.Upkeep.reconcile`, which knows what had begun.
        """
        now = self._now()
        dead = (queue.c.receipt.is_not(None), queue.c.holder.is_not(None), queue.c.holder.not_in(list(alive)))
        statement = update(queue).where(*dead).values(visible=now, receipt=null(), holder=null()).returning(queue.c.id)
        return await self._db.write(lambda connection: list(connection.execute(statement).scalars()))


def _receipts(leases: Sequence[Lease]) -> str:
    rows = []
    for lease in leases:
        seq, _, token = lease.receipt.partition(":")
        rows.append((int(seq), token))
    return encode(rows)
