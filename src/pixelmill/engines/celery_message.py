"""How a task travels through RabbitMQ: a message of Celery's protocol 2, as JSON, and what was counted in headers.

Any Celery client can read it. Knows no broker.
Source: https://docs.celeryq.dev/en/stable/internals/protocol.html.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pixelmill import tracing
from pixelmill.engines.queue import DeadLetter, Message
from pixelmill.errors import JobError

TASK = "pixelmill.run"
"""The name of the one Celery task."""
COUNT = "x-delivery-count"
"""RabbitMQ's header: how often the message was delivered and neither acknowledged nor given back by us."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message with its history.

    ``lost``: attempts that a worker reported lost. ``silent``: deliveries that nobody said anything about.
    ``reason``, ``deliveries``, ``at``: those of a dead letter.
    """

    message: Message
    lost: int = 0
    silent: int = 0
    reason: str = ""
    deliveries: int = 0
    at: float = 0.0

    def body(self) -> str:
        """Positional arguments, named ones, and Celery's own."""
        return json.dumps([[self.message.body], {}, {}], separators=(",", ":"))

    def headers(self) -> dict[str, Any]:
        """Celery's, then ours."""
        one = self.message
        headers: dict[str, Any] = {"lang": "py", "task": TASK, "id": one.id, "root_id": one.id, "parent_id": None}
        headers |= {"retries": 0, "group": None, "timelimit": [None, None], "argsrepr": "", "kwargsrepr": ""}
        headers |= {"owner": one.owner, "priority": one.priority, "rank": one.rank, "lost": self.lost}
        if (context := tracing.from_text(one.trace)) is not None:
            headers |= context.headers()  # as tracing of Celery itself names them
        # "sent" as text: not every client of AMQP writes numbers with a point.
        headers |= {"sent": str(one.sent)} if one.sent else {}
        if self.reason:
            headers |= {"reason": self.reason, "deliveries": self.deliveries, "at": str(self.at)}
        return headers

    @classmethod
    def read(cls, headers: Mapping[str, Any] | None, body: str | bytes | memoryview) -> Parcel:
        """The inverse; raises :class:`JobError` for what others put into the queue."""
        try:
            known = headers or {}
            text = body if isinstance(body, str) else bytes(body).decode()
            ((argument,), *_) = json.loads(text)
            if known.get("task") != TASK or not isinstance(argument, str):
                raise ValueError("it is no task of ours")  # noqa: TRY301 -- as what json.loads raises
            message = Message(
                str(known["id"]),
                argument,
                int(known["priority"]),
                int(known["rank"]),
                str(known["owner"]),
                f"{known.get('traceparent', '')} {known.get('tracestate', '')}".strip(),
                float(known.get("sent", 0.0)),
            )
            return cls(
                message,
                int(known.get("lost", 0)),
                int(known.get(COUNT, 0)),
                str(known.get("reason", "")),
                int(known.get("deliveries", 0)),
                float(known.get("at", 0.0)),
            )
        except (ValueError, TypeError, KeyError) as error:
            raise JobError(f"A queued message can't be read ({error}); it comes from another program.") from error

    def dead_letter(self) -> DeadLetter:
        """As a dead letter."""
        return DeadLetter(self.message, self.reason, self.deliveries, self.at)
