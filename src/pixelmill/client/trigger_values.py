"""Values of triggers; see ``values.py``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pixelmill.client.values import slug_of


@dataclass(frozen=True, slots=True)
class TriggerEvent:
    """An object's version that a rule matched.

    ``state`` is waiting, submitted, delivered, superseded or failed; ``error`` has ``type`` (a slug) and ``detail``.
    """

    id: str
    rule: str
    state: str
    uri: str
    version: str = ""
    size: int | None = None
    at: str | None = None
    received: str | None = None
    source: str = ""
    chain: Sequence[str] = ()
    job: str | None = None
    task: str | None = None
    destination: str | None = None
    attempts: int = 0
    error: Mapping[str, Any] | None = None
    ended: str | None = None

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> TriggerEvent:
        """From an event's JSON."""
        known = {name: record[name] for name in cls.__slots__ if name in record}
        if isinstance(known.get("error"), Mapping):
            known["error"] = {**known["error"], "type": slug_of(known["error"].get("type"))}
        return cls(**known)
