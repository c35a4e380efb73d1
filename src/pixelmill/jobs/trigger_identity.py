"""What an event of a trigger is known by, and which of those that were told are new.

A store may tell an event twice, and in any order. Most are known by rule, address and version; what else there is to it
stands in :func:`new_of`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Text, func, select

from pixelmill.jobs.rows import clean, encode, table_of
from pixelmill.jobs.schema import trigger_events


@dataclass(frozen=True, slots=True)
class NewTriggerEvent:
    """An object's version that a rule matched. ``ordinal`` is text that grows with the events of the object.

    ``at`` is when the object appeared; ``chain``: the rules whose results it comes from, the first one first.
    """

    owner: str
    rule: str
    uri: str
    version: str
    ordinal: str
    at: float
    size: int | None = None
    chain: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The same for the same rule, address and version."""
        return f"ev_{_hash(self.rule, self.uri, self.version)}"

    @property
    def id_again(self) -> str:
        """That of an object which had this version before, and another one since then."""
        return f"ev_{_hash(self.rule, self.uri, self.version, self.ordinal)}"


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:40]


def object_key(rule: str, uri: str) -> str:
    """What the events of one object and rule have in common; short enough for any index."""
    return _hash(rule, uri)


def name_key(destination: str) -> str:
    """The same of the address of a result."""
    return _hash(destination)


def state_key(name: str, version: str) -> str:
    """The same of the last part of an object's address with its version: a bucket may have several names."""
    return _hash("state", name, version)


_rows = table_of("rows", id=Text)
_keys = table_of("rows", key=Text)
_KNOWN = select(trigger_events.c.id, trigger_events.c.ordinal).where(trigger_events.c.id.in_(_rows))
_HISTORIES = (
    select(trigger_events.c.object, trigger_events.c.version, func.max(trigger_events.c.ordinal).label("last"))
    .where(trigger_events.c.object.in_(_keys))
    .group_by(trigger_events.c.object, trigger_events.c.version)
)
"""When each version of an object was there last."""


def new_of(connection: Connection, by_id: Mapping[str, NewTriggerEvent]) -> dict[str, NewTriggerEvent]:
    """Those of events by id that are to be recorded, by the ids that they get.

    A version that an object had before is new again where another one was recorded in between: stores without versions
    name what they hold by its content, and an object may get back what it held.
    """
    if not by_id:
        return {}
    told = {row.id: row.ordinal for row in connection.execute(_KNOWN, {"rows": encode((one,) for one in by_id)})}
    new = {one: event for one, event in by_id.items() if one not in told}
    later_told = [event for one, event in by_id.items() if one in told and event.ordinal > told[one]]
    if later_told:
        keys = {object_key(event.rule, event.uri) for event in later_told}
        histories: dict[str, dict[str, str]] = {}
        for row in connection.execute(_HISTORIES, {"rows": encode((key,) for key in keys)}):
            histories.setdefault(row.object, {})[row.version] = row.last
        for event in later_told:
            if _is_back(event, histories.get(object_key(event.rule, event.uri), {})):
                new[event.id_again] = event
    return new


def _is_back(event: NewTriggerEvent, history: Mapping[str, str]) -> bool:
    """Whether the object had another version between the last time that it had the event's, and the event."""
    version = clean(event.version)
    before = history.get(version, event.ordinal)
    return any(other != version and before < last < event.ordinal for other, last in history.items())
