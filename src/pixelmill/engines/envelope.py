"""How a message travels through a queue of the cloud: a line of ASCII JSON; a large body lies beside it.

Knows no queue. ``base`` is added to the deliveries that the service counts, for it can't uncount one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from pixelmill.engines.queue import DeadLetter, Message
from pixelmill.errors import JobError, LimitExceeded, ObjectNotFound
from pixelmill.storage.store import ObjectStore

PREFIX = "queue/"
"""Where large bodies lie in the object store."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message, or a dead letter, as text. ``key``: where its body lies, if not in it."""

    message: Message
    base: int = 0
    key: str = ""
    reason: str = ""
    deliveries: int = 0
    at: float = 0.0

    def to_text(self) -> str:
        """Printable ASCII: every transport takes it as it is."""
        one = self.message
        record: dict[str, Any] = {"id": one.id, "owner": one.owner, "priority": one.priority, "rank": one.rank}
        record |= {"base": self.base} if self.base else {}
        record |= {"key": self.key} if self.key else {"body": one.body}
        record |= {"trace": one.trace} if one.trace else {}
        record |= {"sent": one.sent} if one.sent else {}
        if self.reason:
            record |= {"reason": self.reason, "deliveries": self.deliveries, "at": self.at}
        return json.dumps(record, separators=(",", ":"))

    @classmethod
    def from_text(cls, text: str) -> Envelope:
        """The inverse; raises :class:`JobError` for what others put into the queue."""
        try:
            record: dict[str, Any] = json.loads(text)
            message = Message(
                str(record["id"]),
                str(record.get("body", "")),
                int(record["priority"]),
                int(record["rank"]),
                str(record["owner"]),
                str(record.get("trace", "")),
                float(record.get("sent", 0.0)),
            )
            return cls(
                message,
                int(record.get("base", 0)),
                str(record.get("key", "")),
                str(record.get("reason", "")),
                int(record.get("deliveries", 0)),
                float(record.get("at", 0.0)),
            )
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise JobError(f"A queued message can't be read ({error}); it comes from another program.") from error

    def dead_letter(self) -> DeadLetter:
        """As a dead letter."""
        return DeadLetter(self.message, self.reason, self.deliveries, self.at)


class Bodies:
    """Keeps bodies that are too large for a queue in the object store, until housekeeping finds their task ended."""

    def __init__(self, store: ObjectStore | None, limit: int) -> None:
        self._store, self._limit = store, limit

    async def fold(self, envelope: Envelope) -> str:
        """The text to send; raises :class:`LimitExceeded` where it is too long and there is no store."""
        text = envelope.to_text()
        if len(text) <= self._limit:
            return text
        if self._store is None:
            raise LimitExceeded(
                f"The message of {envelope.message.id} has {len(text):,} bytes, and the queue takes {self._limit:,}. "
                "Use a shorter pipeline, or another queue.",
                limit="bytes of a message",
                value=len(text),
                maximum=self._limit,
            )
        key = PREFIX + envelope.message.id
        await self._store.put(key, envelope.message.body.encode())
        return replace(envelope, key=key).to_text()

    async def unfold(self, text: str) -> Envelope:
        """The envelope with its body; raises :class:`JobError` where it can't be read or its body is gone."""
        envelope = Envelope.from_text(text)
        if not envelope.key:
            return envelope
        if self._store is None or not envelope.key.startswith(PREFIX):
            raise JobError("A queued message has its body in an object store that is not configured here.")
        try:
            body = (await self._store.get(envelope.key)).decode()
        except ObjectNotFound as error:
            raise JobError(f"The body of a queued message is gone: {error}") from error
        return replace(envelope, message=replace(envelope.message, body=body), key="")
