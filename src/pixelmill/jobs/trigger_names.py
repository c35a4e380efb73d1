"""Names of results: whose they are, so that no result overwrites that of another object."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Text, select

from pixelmill.jobs.rows import encode, table_of
from pixelmill.jobs.schema import trigger_events
from pixelmill.jobs.trigger_events import DELIVERED, SUBMITTED

_keys = table_of("rows", key=Text)


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
    """What came of claims: numbers of those that have a later event, and addresses of who has the name of others."""

    superseded: frozenset[int]
    taken: Mapping[int, str]


def distributed(
    connection: Connection, claims: Sequence[Claim], in_force: Collection[str]
) -> tuple[Sequence[Claim], Mapping[int, str]]:
    """Claims whose names are free, or theirs already; and by the numbers of the others, whose object has the name.

    Names of rules that are not ``in_force`` are kept from claims of the same rule alone.
    """
    owners = _owners(connection, {key for one in claims for key in (one.name, one.beside) if key})
    good: list[Claim] = []
    taken: dict[int, str] = {}
    for one in claims:
        keys = [key for key in (one.name, one.beside) if key]
        others = (owner for key in keys for owner in owners.get(key, ()) if _is_other(owner, one, in_force))
        if (other := next(others, None)) is not None:
            taken[one.seq] = other.uri
            continue
        for key in keys:  # the next of these finds it taken
            owners.setdefault(key, set()).add(_Owner(one.rule, one.object, one.uri))
        good.append(one)
    return good, taken


@dataclass(frozen=True, slots=True)
class _Owner:
    """Whose result has a name, or will have it."""

    rule: str
    object: str
    uri: str


def _is_other(owner: _Owner, one: Claim, in_force: Collection[str]) -> bool:
    """Whether a name's owner keeps it from a claim. Several rules may write what one object gives under one name."""
    if owner.rule == one.rule:
        return owner.object != one.object
    return owner.rule in in_force and owner.uri != one.uri


def _owners(connection: Connection, keys: set[str]) -> dict[str, set[_Owner]]:
    """Who has these names."""
    if not keys:
        return {}
    columns = (trigger_events.c.rule, trigger_events.c.object, trigger_events.c.uri)
    found: dict[str, set[_Owner]] = {}
    for column in (trigger_events.c.name, trigger_events.c.beside):
        query = (
            select(column.label("key"), *columns)
            .where(column.in_(_keys), trigger_events.c.state.in_((SUBMITTED, DELIVERED)))
            .distinct()
        )
        for row in connection.execute(query, {"rows": encode((key,) for key in keys)}):
            found.setdefault(row.key, set()).add(_Owner(row.rule, row.object, row.uri))
    return found
