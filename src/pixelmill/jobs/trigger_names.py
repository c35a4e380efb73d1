"""Names of results: whose they are, so that no result overwrites that of another object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import BigInteger, Connection, Text, func, select

from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import trigger_events
from pixelmill.jobs.trigger_events import DELIVERED, SUBMITTED

_keys = table_of("rows", key=Text)
_seqs = table_of("rows", seq=BigInteger)
_ORDINALS = select(trigger_events.c.seq, trigger_events.c.ordinal).where(trigger_events.c.seq.in_(_seqs))


@dataclass(frozen=True, slots=True)
class Claim:
    """An ended event of the object ``uri``, and the names that its result wants: none where it has failed."""

    seq: int
    rule: str
    object: str
    destination: str | None = None
    name: str | None = None
    beside: str | None = None
    uri: str = ""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of claims: numbers of those that came too late, and addresses of who has the name of others."""

    superseded: frozenset[int]
    taken: Mapping[int, str]


def distributed(
    connection: Connection, claims: Sequence[Claim], in_force: Collection[str]
) -> tuple[Sequence[Claim], Claimed]:
    """Claims whose names are free, or theirs already; and what came of the others.

    Names of rules that are not ``in_force`` are kept from claims of the same rule alone. Where another rule has given
    the name to a later state of the same object (rules may divide objects by size or type), the claim is superseded.
    """
    seqs = encode((one.seq,) for one in claims)
    ordinals = {row.seq: row.ordinal for row in connection.execute(_ORDINALS, {"rows": seqs})}
    owners = _owners(connection, {key for one in claims for key in (one.name, one.beside) if key})
    good: list[Claim] = []
    late: set[int] = set()
    taken: dict[int, str] = {}
    for one in claims:
        keys = [key for key in (one.name, one.beside) if key]
        ordinal = ordinals.get(one.seq, "")
        known = [owner for key in keys for owner in owners.get(key, ())]
        if (other := next((owner for owner in known if _is_other(owner, one, in_force)), None)) is not None:
            taken[one.seq] = other.uri
            continue
        if any(owner.rule != one.rule and owner.rule in in_force and owner.ordinal > ordinal for owner in known):
            late.add(one.seq)
            continue
        for key in keys:  # the next of these finds it taken
            owners.setdefault(key, []).append(_Owner(one.rule, one.object, one.uri, ordinal))
        good.append(one)
    return good, Claimed(frozenset(late), taken)


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose result has a name, or will have it; ``ordinal`` is that of the last state of the object that had it."""

    rule: str
    object: str
    uri: str
    ordinal: str


def _is_other(owner: _Owner, one: Claim, in_force: Collection[str]) -> bool:
    """Whether a name's owner keeps it from a claim. Several rules may write what one object gives under one name."""
    if owner.rule == one.rule:
        return owner.object != one.object
    return owner.rule in in_force and owner.uri != one.uri


def _owners(connection: Connection, keys: set[str]) -> dict[str, list[_Owner]]:
    """Who has these names."""
    if not keys:
        return {}
    columns = (trigger_events.c.rule, trigger_events.c.object, trigger_events.c.uri)
    found: dict[str, list[_Owner]] = {}
    for column in (trigger_events.c.name, trigger_events.c.beside):
        query = (
            select(column.label("key"), *columns, func.max(trigger_events.c.ordinal).label("ordinal"))
            .where(column.in_(_keys), trigger_events.c.state.in_((SUBMITTED, DELIVERED)))
            .group_by(column, *columns)
        )
        for row in connection.execute(query, {"rows": encode((key,) for key in keys)}):
            found.setdefault(row.key, []).append(_Owner(row.rule, row.object, row.uri, row.ordinal))
    return found
