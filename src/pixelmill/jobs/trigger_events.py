"""Events of triggers as rows: one for each rule that an object's version matched, recorded once, kept for weeks.

A row goes from ``waiting`` over ``submitted`` to ``delivered``, ``superseded`` or ``failed``; the steps between are in
``trigger_work.py``. This file records, lists, redrives, counts and sweeps. It must not know rules, stores or queues.
Rows are kept as long as a source may tell of an event again: then it is a duplicate, and nothing runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Double,
    RowMapping,
    Text,
    and_,
    case,
    delete,
    exists,
    false,
    func,
    insert,
    literal,
    null,
    or_,
    select,
    update,
)

from pixelmill.jobs.connections import time_of
from pixelmill.jobs.database import Database
from pixelmill.jobs.model import Page, State
from pixelmill.jobs.records import check_limit, cursor_of, page_of, position_of
from pixelmill.jobs.rows import clean, dumps, encode, table_of
from pixelmill.jobs.schema import tasks, trigger_events
from pixelmill.jobs.trigger_counters import add_counts
from pixelmill.jobs.trigger_identity import NewTriggerEvent, new_of, object_key

WAITING, SUBMITTED, DELIVERED, SUPERSEDED, FAILED = "waiting", "submitted", "delivered", "superseded", "failed"
STATES = (WAITING, SUBMITTED, DELIVERED, SUPERSEDED, FAILED)
OPEN = (WAITING, SUBMITTED)

KEPT_S = 14 * 24 * 3600.0
"""How long a row is kept at least: no message of SQS lives longer (nor of Azure's queues, by default)."""
REDRIVEN = 1_000
"""Rows of one transaction of a redrive."""
SWEPT = 500
"""Rows of one transaction of a sweep."""

RULE, SOURCE = "rule", "source"
"""Kinds of counters."""


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """What became of one. ``destination``: where its result is, or will be. ``due``: the next attempt to deliver it.

    ``error`` is ``error_to_dict()`` of what failed last, also while it is tried again.
    """

    id: str
    owner: str
    rule: str
    uri: str
    version: str
    size: int | None
    at: float
    received: float
    source: str
    chain: tuple[str, ...]
    state: str
    job: str | None
    task: str | None
    destination: str | None
    attempts: int
    due: float
    error: Mapping[str, Any] | None
    ended: float | None


@dataclass(frozen=True, slots=True)
class Noted:
    """What a batch came to: the events that were new, and how many were not."""

    new: Sequence[NewTriggerEvent]
    duplicates: int


_keys = table_of("rows", key=Text)
_seqs = table_of("rows", seq=BigInteger)
_new = table_of(
    "rows",
    id=Text,
    owner=Text,
    rule=Text,
    uri=Text,
    object=Text,
    version=Text,
    ordinal=Text,
    size=BigInteger,
    at=Double,
    source=Text,
    chain=Text,
    received=Double,
    expires=Double,
).subquery("new")
_INSERT = insert(trigger_events).from_select(
    [*_new.c.keys(), "state", "attempts", "due", "kept"],
    select(*_new.c, literal(WAITING), literal(0), literal(0.0), false()),
)
_RESULT_KEYS = (trigger_events.c.name, trigger_events.c.beside, trigger_events.c.made)
_PRODUCERS = select(trigger_events.c.rule, trigger_events.c.chain, *_RESULT_KEYS).where(
    or_(*(column.in_(_keys) for column in _RESULT_KEYS))
)
_DELETE = delete(trigger_events).where(trigger_events.c.seq.in_(_seqs))

later = trigger_events.alias("later")
IS_LATER = and_(
    later.c.object == trigger_events.c.object,
    or_(
        later.c.ordinal > trigger_events.c.ordinal,
        and_(later.c.ordinal == trigger_events.c.ordinal, later.c.version > trigger_events.c.version),
    ),
)
"""``later`` is one of the same rule and object; of two at the same moment, one is the later."""
HAS_LATER = exists().where(IS_LATER)


class TriggerEvents:
    """All events, of all owners. Times are the database's (see ``time_of``), or those of ``now``."""

    def __init__(self, db: Database, now: Callable[[], float] | None = None) -> None:
        self._db, self._clock = db, now

    async def record(
        self, source: str, events: Sequence[NewTriggerEvent], others: Mapping[str, int] | None = None
    ) -> Noted:
        """Add those that are new, in one transaction, and count for the source; durable when this returns.

        ``others``: what else the source's batch held, by counter.
        """
        by_id: dict[str, NewTriggerEvent] = {}
        for event in events:
            known = by_id.setdefault(event.id, event)
            if event.ordinal > known.ordinal:
                by_id[event.id] = event

        def run(connection: Connection) -> Noted:
            rows = new_of(connection, by_id)
            new = list(rows.values())
            if new:
                at = time_of(connection, self._clock)
                connection.execute(
                    _INSERT, {"rows": encode(_row(one, event, source, at) for one, event in rows.items())}
                )
            noted = Noted(new, len(events) - len(new))
            counts = {(SOURCE, source, name): count for name, count in (others or {}).items()}
            counts[SOURCE, source, "accepted"] = len(new)
            counts[SOURCE, source, "duplicate"] = noted.duplicates
            for event in new:
                counts[RULE, event.rule, "accepted"] = counts.get((RULE, event.rule, "accepted"), 0) + 1
            add_counts(connection, counts)
            return noted

        return await self._db.write(run)

    async def producers(self, keys: Iterable[str]) -> Mapping[str, frozenset[str]]:
        """Of keys of addresses and states (``name_key``, ``state_key``) that are results: the rules that led to them.

        The others are left out. An address is known before its result is put, a state after.
        """
        wanted = set(keys)
        rows = encode((key,) for key in wanted)
        found = await self._db.read(lambda c: c.execute(_PRODUCERS, {"rows": rows}).all())
        rules: dict[str, frozenset[str]] = {}
        for row in found:
            for key in {row.name, row.beside, row.made} & wanted:
                rules[key] = rules.get(key, frozenset()) | {row.rule, *json.loads(row.chain)}
        return rules

    async def list(
        self, rule: str | None = None, *, state: str | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page:
        """Events (:class:`TriggerEvent`), newest first."""
        query = select(trigger_events)
        if rule is not None:
            query = query.where(trigger_events.c.rule == rule)
        if state is not None:
            query = query.where(trigger_events.c.state == state)
        if cursor is not None:
            query = query.where(trigger_events.c.seq < position_of(cursor, int)[0])
        query = query.order_by(trigger_events.c.seq.desc()).limit(check_limit(limit) + 1)
        rows = await self._db.read(lambda c: list(c.execute(query).mappings()))
        page = page_of(rows, limit, lambda last: cursor_of(last["seq"]))
        return Page([_event(row) for row in page.items], page.next)

    async def redrive(self, rule: str | None = None, ids: Sequence[str] = ()) -> int:
        """Give failed ones another try, these, or all of a rule, or all; returns how many.

        Where the result is still there it is only delivered again, else the object runs again.
        """
        which = [trigger_events.c.state == FAILED]
        if rule is not None:
            which.append(trigger_events.c.rule == rule)
        if ids:
            which.append(trigger_events.c.id.in_(list(ids)))
        began = await self._db.read(lambda connection: time_of(connection, self._clock))
        total = 0
        # What fails again meanwhile waits for the next redrive.
        while count := await self._db.write(
            lambda connection: _redrive(connection, [*which, trigger_events.c.ended <= began])
        ):
            total += count
        return total

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """By rule: how many events are waiting, submitted, failed now."""
        query = (
            select(trigger_events.c.rule, trigger_events.c.state, func.count())
            .where(trigger_events.c.state.in_((*OPEN, FAILED)))
            .group_by(trigger_events.c.rule, trigger_events.c.state)
        )
        found: dict[str, dict[str, int]] = {}
        for rule, state, count in await self._db.read(lambda c: c.execute(query).all()):
            found.setdefault(rule, {})[state] = int(count)
        return found

    async def forget(self, rule: str) -> int:
        """Remove what waits for a rule, and what was submitted and not delivered yet; returns how many."""
        mine = select(trigger_events.c.seq).where(trigger_events.c.rule == rule, trigger_events.c.state.in_(OPEN))
        total = 0
        while count := await self._db.write(
            lambda c: c.execute(delete(trigger_events).where(trigger_events.c.seq.in_(mine.limit(SWEPT)))).rowcount
        ):
            total += count
        return total

    # -- the sweep -------------------------------------------------------------------------------

    async def expired(self) -> Sequence[tuple[int, str]]:
        """Number and address of up to ``SWEPT`` rows that have ended, and were kept long enough.

        The address is empty where a later event of the object is there: only the last one may be told again whenever
        its source looks. Failed ones wait for a redrive from when they failed.
        """

        def run(connection: Connection) -> Sequence[tuple[int, str]]:
            now = time_of(connection, self._clock)
            query = (
                select(trigger_events.c.seq, case((HAS_LATER, ""), else_=trigger_events.c.uri).label("uri"))
                .where(
                    trigger_events.c.expires <= now,
                    trigger_events.c.state.not_in(OPEN),
                    or_(trigger_events.c.state != FAILED, trigger_events.c.ended <= now - KEPT_S),
                )
                .order_by(trigger_events.c.expires)
                .limit(SWEPT)
            )
            return [(row.seq, row.uri) for row in connection.execute(query)]

        return await self._db.read(run)

    async def sweep(self, gone: Sequence[int], kept: Sequence[int] = ()) -> None:
        """Remove the rows ``gone``, and keep those of ``kept`` for as long again; in one transaction."""

        def run(connection: Connection) -> None:
            if gone:
                connection.execute(_DELETE, {"rows": encode((seq,) for seq in gone)})
            if kept:
                again = update(trigger_events).where(trigger_events.c.seq.in_(_seqs))
                until = time_of(connection, self._clock) + KEPT_S
                connection.execute(again.values(expires=until), {"rows": encode((seq,) for seq in kept)})

        await self._db.write(run)


def _redrive(connection: Connection, which: Sequence[ColumnElement[bool]]) -> int:
    chosen = select(trigger_events.c.seq).where(*which).order_by(trigger_events.c.seq).limit(REDRIVEN)
    seqs = list(connection.execute(chosen).scalars())
    if not seqs:
        return 0
    rows = encode((seq,) for seq in seqs)
    mine = trigger_events.c.seq.in_(_seqs)
    there = exists().where(tasks.c.id == trigger_events.c.task, tasks.c.state == State.SUCCEEDED.value)
    fresh = {"attempts": 0, "due": 0.0, "ended": null()}
    connection.execute(
        update(trigger_events).where(mine, trigger_events.c.kept, there).values(state=SUBMITTED, **fresh),
        {"rows": rows},
    )
    connection.execute(
        update(trigger_events)
        .where(mine, trigger_events.c.state == FAILED)
        .values(
            state=WAITING,
            batch=null(),
            place=null(),
            job=null(),
            task=null(),
            destination=null(),
            name=null(),
            beside=null(),
            made=null(),
            kept=False,
            **fresh,
        ),
        {"rows": rows},
    )
    return len(seqs)


def _row(row_id: str, event: NewTriggerEvent, source: str, at: float) -> tuple[Any, ...]:
    return (
        row_id,
        event.owner,
        event.rule,
        clean(event.uri),
        object_key(event.rule, event.uri),
        clean(event.version),
        clean(event.ordinal),
        event.size,
        event.at,
        clean(source),
        dumps(event.chain),
        at,
        at + KEPT_S,
    )


_PLAIN = frozenset(TriggerEvent.__dataclass_fields__) - {"chain", "error"}


def _event(row: RowMapping) -> TriggerEvent:
    return TriggerEvent(
        chain=tuple(json.loads(row["chain"])),
        error=json.loads(row["error"]) if row["error"] else None,
        **{name: row[name] for name in _PLAIN},
    )
