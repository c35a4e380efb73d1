"""What a store says happened to one object, in one form for all clouds and folders.

Pure values without dependencies: function handlers import them on every cold start.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["created", "removed", "test"]


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """One object appeared, or went, or a store only tries out the way.

    ``uri`` is canonical (``str(URI)``): ``s3://bucket/key``, ``gs://``, ``az://container/key``, ``file:///path``.
    ``version`` names this state of the object (version id, else etag or generation; of files: time and size), and with
    ``uri`` it is the event's identity: a store may tell the same twice, and in any order. ``sequencer`` orders the
    events of one object (see :func:`order_of`); empty where the store has none. ``at`` is when it appeared, in seconds
    since the epoch. ``size`` in bytes and ``media_type`` as the store told them, or None and empty. ``provider``: whose
    form the event had (``s3``, ``gcs``, ``azure``, ``folder``).
    """

    uri: str
    kind: Kind
    version: str
    at: float
    size: int | None = None
    media_type: str = ""
    sequencer: str = ""
    provider: str = ""


@dataclass(frozen=True, slots=True)
class Unread:
    """A part of a document that is no event of an object, with the reason, for counters and logs."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a document holds: events, and what could not be taken for one."""

    events: tuple[ObjectEvent, ...] = ()
    unread: tuple[Unread, ...] = ()


def order_of(event: ObjectEvent) -> str:
    """Text that grows with the events of one object: its sequencer, or its time in microseconds.

    S3's sequencers are hexadecimal numbers of differing lengths, to be padded on the left (Amazon S3 user guide, "Event
    message structure"); Azure's and the generations of Google are numbers too, which the same padding serves.
    """
    return (event.sequencer or f"{round(event.at * 1e6):x}").rjust(64, "0")
