"""Task events as compact JSON, for the way from workers without a database to the service that records them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from pixelmill.errors import JobError
from pixelmill.jobs.model import TaskEvent

_FIELDS = tuple(field.name for field in fields(TaskEvent))
_KINDS = frozenset({"started", "succeeded", "failed", "requeued", "returned", "progress"})


def event_to_json(event: TaskEvent) -> bytes:
    """One event; fields that say nothing are left out."""
    record = {name: value for name in _FIELDS if (value := getattr(event, name)) is not None}
    return json.dumps(record, separators=(",", ":")).encode()


def event_from_json(body: bytes) -> TaskEvent:
    """The inverse; raises :class:`JobError`. Members that this version does not know are ignored."""
    try:
        record = json.loads(body)
    except ValueError as error:
        raise JobError(f"A task event can't be read ({error}); it comes from another version.") from error
    return event_from_record(record)


def event_from_record(record: Mapping[str, Any]) -> TaskEvent:
    """The same from what JSON gave."""
    try:
        event = TaskEvent(**{name: record[name] for name in _FIELDS if name in record})
        sound = (
            event.kind in _KINDS
            and all(isinstance(value, str) for value in (event.task, event.job, event.owner))
            and all(isinstance(value, int) for value in (event.run, event.attempt))
            and isinstance(event.at, int | float)
        )
    except (TypeError, KeyError) as error:
        raise JobError(f"A task event can't be read ({error}); it comes from another version.") from error
    if not sound:
        raise JobError("A task event can't be read (a member is of the wrong type); it comes from another version.")
    return event
