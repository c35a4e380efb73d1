"""Whose turn it is in the queue of the database: the owners with work of each class, one after another.

The law: within a class, owners take turns message by message, whatever number of jobs and messages each has; who comes
new waits for one round at most. What an owner gets in its turns is in the order of ranks, which share it among its
jobs (``jobs/outbox.py``). Each process goes round by itself, from the owner that it served last.

Owners are found by jumping from one to the next in the index ``queue_turns``: a look costs as many steps as there are
owners to serve, however much waits, and steps over the messages that are leased.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    Connection,
    Double,
    Integer,
    Row,
    Select,
    String,
    Text,
    TextClause,
    Update,
    bindparam,
    select,
    text,
    union_all,
    update,
)

from pixelmill.jobs.messages import PRIORITY_NUMBERS, queue_number, urgency
from pixelmill.jobs.schema import queue

CLASSES = tuple(queue_number(priority, models=models) for models in (False, True) for priority in PRIORITY_NUMBERS)
HEADS = 1_000
"""Owners of a class whose oldest messages are looked at for :data:`HEADS_OF`."""

# From a priority and an owner to the next owner with a visible message. In each class two walks: from the owner that
# was served last to the end, and from the beginning.
_NEXT = """(SELECT q.owner FROM queue q WHERE q.priority = {priority} AND {after} AND q.visible <= :now
            ORDER BY q.priority, q.owner LIMIT 1)"""
_FIRST = "\n  UNION ALL ".join(
    f"SELECT {one}, {lap}, 1, " + _NEXT.format(priority=one, after=after)
    for one in CLASSES
    for lap, after in ((0, f"q.owner > :last{one}"), (1, f"q.owner <= :last{one}"))
)
_TURNS = f"""
WITH RECURSIVE turn(priority, lap, place, owner) AS (
  SELECT * FROM ({_FIRST}) AS first
  UNION ALL
  SELECT turn.priority, turn.lap, turn.place + 1,
         {_NEXT.format(priority="turn.priority", after="q.owner > turn.owner")}
  FROM turn WHERE turn.owner IS NOT NULL AND turn.place < :most
)
"""  # noqa: S608 -- of the constants above
_BEHIND = " OR ".join(f"(priority = {one} AND owner > :last{one})" for one in CLASSES)
OWNERS = text(
    f"{_TURNS} SELECT priority, owner FROM turn WHERE owner IS NOT NULL AND NOT (lap = 1 AND ({_BEHIND}))"  # noqa: S608
    " ORDER BY priority, lap, place"
)
HEADS_OF = text(
    f"""{_TURNS} SELECT priority, MIN((
      SELECT q.sent FROM queue q WHERE q.priority = turn.priority AND q.owner = turn.owner AND q.visible <= :now
      ORDER BY q.rank, q.seq LIMIT 1)) AS sent
    FROM turn WHERE owner IS NOT NULL GROUP BY priority"""  # noqa: S608
)


def _typed(clause: TextClause) -> TextClause:
    lasts = [bindparam(f"last{one}", type_=Text) for one in CLASSES]
    return clause.bindparams(bindparam("now", type_=Double), bindparam("most", type_=Integer), *lasts)


OWNERS, HEADS_OF = _typed(OWNERS), _typed(HEADS_OF)


@dataclass(frozen=True, slots=True)
class Turn:
    """The next one of a class: an owner, and how many messages it gets at most."""

    owner: str
    count: int


def turns(owners: Iterable[str], room: int) -> tuple[list[Turn], str]:
    """Equal parts of ``room`` for these owners, in turn; and who was served last, after whom the next round begins.

    What can't be divided goes to the first ones, one each, and the next round begins behind them: over rounds the parts
    are equal.
    """
    served = list(owners)[:room]
    each, more = divmod(room, len(served))
    parts = [Turn(owner, each + (place < more)) for place, owner in enumerate(served)]
    return parts, served[more - 1]


def heads(connection: Connection, now: float) -> Mapping[int, float]:
    """By priority, when the oldest of the messages was sent that come next for their owners."""
    parameters = {"now": now, "most": HEADS, **{f"last{one}": "" for one in CLASSES}}
    found: dict[int, float] = {}
    for row in connection.execute(HEADS_OF, parameters):
        number = urgency(int(row.priority))
        found[number] = min(found.get(number, math.inf), float(row.sent))
    return found


def lease(connection: Connection, priority: int, parts: Sequence[Turn], values: Mapping[str, Any]) -> list[Row[Any]]:
    """Lease what is visible of these parts; each owner's by rank and then order of sending, owners in turn."""
    parameters: dict[str, Any] = {**values, "class": priority}
    for number, part in enumerate(parts):
        parameters |= {f"owner{number}": part.owner, f"count{number}": part.count}
    rows = sorted(connection.execute(receive(len(parts)), parameters).all(), key=lambda row: (row.rank, row.seq))
    place_of = {part.owner: place for place, part in enumerate(parts)}
    taken: Counter[str] = Counter()
    turn_of = {}
    for row in rows:
        turn_of[row.seq] = (taken[row.owner], place_of[row.owner])
        taken[row.owner] += 1
    return sorted(rows, key=lambda row: turn_of[row.seq])


def _part(number: int) -> Select[tuple[int]]:
    return (
        select(queue.c.seq)
        .where(
            queue.c.priority == bindparam("class", type_=Integer),
            queue.c.owner == bindparam(f"owner{number}", type_=Text),
            queue.c.visible <= bindparam("now", type_=Double),
        )
        # All columns of the index: PostgreSQL, without statistics, would sort all that waits otherwise.
        .order_by(queue.c.priority, queue.c.owner, queue.c.rank, queue.c.seq)
        .limit(bindparam(f"count{number}", type_=Integer))
        .with_for_update(skip_locked=True)
    )


@cache
def receive(owners: int) -> Update:
    """The statement that leases messages of so many owners of a class (``owner0``, ``count0``, ...)."""
    parts = [select(_part(number).subquery(f"part{number}").c.seq) for number in range(owners)]
    # Apart, since a planner may run a subquery more than once, each time locking other rows.
    found = (union_all(*parts) if owners > 1 else _part(0)).cte("next")
    return (
        update(queue)
        .where(queue.c.seq.in_(select(found.c.seq)))
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
            queue.c.trace,
            queue.c.sent,
        )
    )
