"""The steps of an event's row between ``waiting`` and its end, each one transaction that may be done again.

Submitting: rows of a rule get a batch id, the batch becomes one job, the rows get the ids of their tasks. Delivering:
rows whose tasks have ended take the names of their results, and are closed when those were put. Whoever calls this
makes sure that one process at a time submits, and one delivers; where two do it for a moment, the last result of an
object still comes to stand under its name.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Boolean, Connection, Double, Integer, Text, func, null, or_, select, update

from pixelmill.jobs.connections import time_of
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import FINAL, State
from pixelmill.jobs.rows import dumps, encode, table_of
from pixelmill.jobs.schema import tasks, trigger_counters, trigger_events
from pixelmill.jobs.trigger_counters import SEEN, add_counts, note_seen
from pixelmill.jobs.trigger_events import (
    DELIVERED,
    FAILED,
    HAS_LATER,
    IS_LATER,
    RULE,
    SUBMITTED,
    SUPERSEDED,
    WAITING,
    later,
)
from pixelmill.jobs.trigger_names import Claim, Claimed, distributed

MAX_OPEN = 5_000
"""Events of a rule that are submitted and have not ended; more wait. It bounds what a deliverer looks through."""


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One event of a batch; ``place`` is that of its task in the job."""

    seq: int
    uri: str
    size: int | None
    place: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one rule that become, or became, one job."""

    id: str
    rule: str
    owner: str
    rows: Sequence[BatchRow]


@dataclass(frozen=True, slots=True)
class Ended:
    """A submitted event whose task has ended. ``task_state`` is None where the task is gone (its job was deleted)."""

    seq: int
    id: str
    owner: str
    rule: str
    uri: str
    version: str
    object: str
    at: float
    attempts: int
    job: str | None
    task: str | None
    received: float
    task_state: State | None
    run: int
    outcome: Mapping[str, Any]
    error: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt to deliver ended; with the state ``submitted`` it is made again in ``retry_s``.

    ``kept``: the result is still there, for a redrive. ``made``: what the result is now (``state_key``).
    """

    seq: int
    rule: str
    object: str
    state: str
    error: Mapping[str, Any] | None = None
    kept: bool = False
    retry_s: float | None = None
    made: str | None = None


_seqs = table_of("rows", seq=BigInteger)
_mine = trigger_events.c.seq.in_(_seqs)
_placed = table_of("rows", seq=BigInteger, place=Integer).subquery("placed")
_tasked = table_of("rows", place=Integer, task=Text).subquery("tasked")
_named = table_of("rows", seq=BigInteger, destination=Text, name=Text, beside=Text).subquery("named")
_closed = table_of(
    "rows", seq=BigInteger, state=Text, error=Text, kept=Boolean, attempts=Integer, due=Double, ended=Double, made=Text
).subquery("closed")
_rules = table_of("rows", rule=Text).subquery("rules")
_WAITING = select(_rules.c.rule).where(
    select(trigger_events.c.seq)
    .where(trigger_events.c.rule == _rules.c.rule, trigger_events.c.state == WAITING)
    .exists()
)
_LATER = select(trigger_events.c.seq).where(_mine, HAS_LATER)
_NAMES = (
    update(trigger_events)
    .values({column.name: column for column in _named.c if column.name != "seq"})
    .where(trigger_events.c.seq == _named.c.seq)
)
_CLOSE = (
    update(trigger_events)
    .values(
        state=_closed.c.state,
        error=_closed.c.error,
        kept=_closed.c.kept,
        attempts=trigger_events.c.attempts + _closed.c.attempts,
        due=_closed.c.due,
        ended=_closed.c.ended,
        made=_closed.c.made,
    )
    # What was forgotten or redriven meanwhile is not ours any more.
    .where(trigger_events.c.seq == _closed.c.seq, trigger_events.c.state == SUBMITTED)
)
_OVERWRITTEN = (
    select(later.c.seq)
    .select_from(trigger_events.join(later, IS_LATER))
    .where(_mine, later.c.state == DELIVERED)
    .distinct()
)
"""Delivered events that come after one which was delivered just now, although it should not have been."""


class TriggerWork:
    """Steps of all rules. ``new_id`` makes ids of batches."""

    def __init__(self, db: Database, new_id: Callable[[], str], now: Callable[[], float] | None = None) -> None:
        self._db, self._new_id, self._clock = db, new_id, now

    # -- submitting ------------------------------------------------------------------------------

    async def waiting(self, rules: Sequence[str]) -> Sequence[str]:
        """Those of these rules that have waiting events. One look into an index for each."""
        rows = encode((rule,) for rule in rules)
        return await self._db.read(lambda connection: list(connection.execute(_WAITING, {"rows": rows}).scalars()))

    async def unfinished(self) -> Sequence[Batch]:
        """Batches that were made, and whose job may or may not have been submitted."""
        query = select(
            *(trigger_events.c[name] for name in ("batch", "rule", "owner", "seq", "uri", "size", "place"))
        ).where(trigger_events.c.state == WAITING, trigger_events.c.batch.is_not(None))
        rows = await self._db.read(lambda c: c.execute(query.order_by(trigger_events.c.place)).all())
        found: dict[tuple[str, str, str], list[BatchRow]] = {}
        for row in rows:
            found.setdefault((row.batch, row.rule, row.owner), []).append(
                BatchRow(row.seq, row.uri, row.size, row.place)
            )
        return [Batch(*which, rows) for which, rows in found.items()]

    async def batch(self, rule: str, owner: str, limit: int) -> tuple[Batch | None, int]:
        """A new batch of a rule (None where nothing waits, or enough is open), and how many were superseded."""

        def run(connection: Connection) -> tuple[Batch | None, int]:
            of_rule = trigger_events.c.rule == rule
            open_ = select(func.count()).where(of_rule, trigger_events.c.state == SUBMITTED)
            room = min(limit, MAX_OPEN - int(connection.execute(open_).scalar() or 0))
            if room <= 0:
                return None, 0
            query = (
                select(trigger_events.c.seq, trigger_events.c.uri, trigger_events.c.size)
                .where(of_rule, trigger_events.c.state == WAITING, trigger_events.c.batch.is_(None))
                .order_by(trigger_events.c.seq)
                .limit(room)
            )
            rows = connection.execute(query).all()
            late = set(connection.execute(_LATER, {"rows": encode((row.seq,) for row in rows)}).scalars())
            if late:
                ended = {"state": SUPERSEDED, "ended": time_of(connection, self._clock)}
                connection.execute(update(trigger_events).where(_mine).values(ended), {"rows": _numbers(late)})
                add_counts(connection, {(RULE, rule, SUPERSEDED): len(late)})
            left = [row for row in rows if row.seq not in late]
            if not left:
                return None, len(late)
            batch = Batch(
                self._new_id(),
                rule,
                owner,
                [BatchRow(row.seq, row.uri, row.size, place) for place, row in enumerate(left)],
            )
            made = update(trigger_events).values(batch=batch.id, owner=owner, place=_placed.c.place)
            connection.execute(
                made.where(trigger_events.c.seq == _placed.c.seq),
                {"rows": encode((row.seq, row.place) for row in batch.rows)},
            )
            return batch, len(late)

        return await self._db.write(run)

    async def submitted(self, batch: str, job: str, task_ids: Mapping[int, str]) -> None:
        """The batch is this job; ``task_ids`` by place."""
        rows = encode(task_ids.items())
        done = (
            update(trigger_events)
            .values(state=SUBMITTED, job=job, task=_tasked.c.task)
            .where(
                trigger_events.c.batch == batch,
                trigger_events.c.state == WAITING,
                trigger_events.c.place == _tasked.c.place,
            )
        )
        await self._db.write(lambda connection: connection.execute(done, {"rows": rows}).rowcount)

    async def refused(self, batch: Batch, error: Mapping[str, Any]) -> None:
        """The batch can't become a job, and never will as it is."""
        values = {"state": FAILED, "error": dumps(error), "kept": False}

        def run(connection: Connection) -> None:
            at = time_of(connection, self._clock)
            mine = (trigger_events.c.batch == batch.id, trigger_events.c.state == WAITING)
            count = connection.execute(update(trigger_events).where(*mine).values(ended=at, **values)).rowcount
            add_counts(connection, {(RULE, batch.rule, FAILED): count})

        await self._db.write(run)

    # -- delivering ------------------------------------------------------------------------------

    async def ended(
        self, limit: int, without: Sequence[str] = (), rules: Collection[str] | None = None
    ) -> Sequence[Ended]:
        """Up to ``limit`` submitted events whose task has ended and whose time has come, the oldest first.

        ``without``: addresses of objects that are being delivered. ``rules``: only theirs; others are left to
        services that know them.
        """
        final = [state.value for state in FINAL]
        columns = [trigger_events.c[name] for name in Ended.__dataclass_fields__ if name in trigger_events.c]
        columns = [column for column in columns if column.name != "error"]
        query = (
            select(*columns, tasks.c.state.label("task_state"), tasks.c.run, tasks.c.outcome, tasks.c.error)
            .select_from(trigger_events.outerjoin(tasks, tasks.c.id == trigger_events.c.task))
            .where(trigger_events.c.state == SUBMITTED, or_(tasks.c.id.is_(None), tasks.c.state.in_(final)))
            .order_by(trigger_events.c.seq)
            .limit(limit)
        )
        if without:
            query = query.where(trigger_events.c.uri.not_in(list(without)))
        if rules is not None:
            query = query.where(trigger_events.c.rule.in_(list(rules)))

        def run(connection: Connection) -> list[Ended]:
            now = time_of(connection, self._clock)
            rows = connection.execute(query.where(trigger_events.c.due <= now)).mappings()
            return [
                Ended(
                    **{
                        **row,
                        "task_state": None if row["task_state"] is None else State(row["task_state"]),
                        "run": row["run"] or 0,
                        "outcome": json.loads(row["outcome"]) if row["outcome"] else {},
                        "error": json.loads(row["error"]) if row["error"] else None,
                    }
                )
                for row in rows
            ]

        return await self._db.read(run)

    async def next_due_s(self) -> float | None:
        """Seconds until the next attempt that was put off; None where there is none."""
        query = select(func.min(trigger_events.c.due)).where(trigger_events.c.state == SUBMITTED)

        def run(connection: Connection) -> float | None:
            now = time_of(connection, self._clock)
            due = connection.execute(query.where(trigger_events.c.due > now)).scalar()
            return None if due is None else max(0.0, float(due) - now)

        return await self._db.read(run)

    async def claim(self, claims: Sequence[Claim], in_force: Collection[str] = ()) -> Claimed:
        """Names for results, in one transaction: each is its object's from now on.

        A claim whose event has a later one, or whose name another object's result of the rule, or of one of those
        ``in_force``, has, gets none. Names of rules that are gone are free: others write in their place.
        """
        if not claims:
            return Claimed(frozenset(), {})

        def run(connection: Connection) -> Claimed:
            numbers = encode((one.seq,) for one in claims)
            late = frozenset(connection.execute(_LATER, {"rows": numbers}).scalars())
            wanting = [one for one in claims if one.destination is not None and one.seq not in late]
            named, found = distributed(connection, wanting, in_force)
            if named:
                connection.execute(
                    _NAMES, {"rows": encode((one.seq, one.destination, one.name, one.beside) for one in named)}
                )
            return Claimed(late | found.superseded, found.taken)

        return await self._db.write(run)

    async def close(self, endings: Sequence[Ending]) -> None:
        """Write down how attempts ended, and count, in one transaction."""

        def run(connection: Connection) -> None:
            now = time_of(connection, self._clock)
            connection.execute(_CLOSE, {"rows": encode(_closing(one, now) for one in endings)})
            put = [one for one in endings if one.state == DELIVERED]
            if put:
                again = connection.execute(
                    _OVERWRITTEN,
                    {"rows": _numbers(one.seq for one in put)},
                )
                _deliver_again(connection, list(again.scalars()))
            counts: dict[tuple[str, str, str], int] = {}
            for one in endings:
                if one.state != SUBMITTED:
                    key = (RULE, one.rule, one.state)
                    counts[key] = counts.get(key, 0) + 1
            add_counts(connection, counts)

        await self._db.write(run)

    async def seen(self, rules: Collection[str]) -> None:
        """These rules are in force in this service."""
        await self._db.write(lambda connection: note_seen(connection, RULE, rules, time_of(connection, self._clock)))

    async def orphans(self, older_s: float, error: Mapping[str, Any]) -> int:
        """Fail open events of rules that no service has seen for so long (see :meth:`seen`); returns how many.

        The events too are older: a rule may be new, and not seen yet.
        """

        def run(connection: Connection) -> int:
            now = time_of(connection, self._clock)
            there = select(trigger_counters.c.subject).where(
                trigger_counters.c.kind == RULE,
                trigger_counters.c.counter == SEEN,
                trigger_counters.c.value > now - older_s,
            )
            lost = (
                select(trigger_events.c.seq)
                .where(
                    trigger_events.c.state.in_((WAITING, SUBMITTED)),
                    trigger_events.c.rule.not_in(there),
                    trigger_events.c.received <= now - older_s,
                )
                .limit(MAX_OPEN)
            )
            values = {"state": FAILED, "ended": now, "error": dumps(error), "kept": False, "batch": null()}
            done = update(trigger_events).where(trigger_events.c.seq.in_(lost)).values(values)
            return connection.execute(done).rowcount

        return await self._db.write(run)


def _numbers(seqs: Any) -> str:
    return encode((seq,) for seq in seqs)


def _closing(one: Ending, now: float) -> tuple[Any, ...]:
    again = one.state == SUBMITTED
    return (
        one.seq,
        one.state,
        None if one.error is None else dumps(one.error),
        one.kept,
        1,
        now + (one.retry_s or 0.0),
        None if again else now,
        one.made,
    )


def _deliver_again(connection: Connection, seqs: Sequence[int]) -> None:
    if seqs:
        values = {"state": SUBMITTED, "due": 0.0, "ended": null()}
        connection.execute(update(trigger_events).where(_mine).values(values), {"rows": _numbers(seqs)})
