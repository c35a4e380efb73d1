"""Server-sent events: from lines to events, and where to resume after a broken connection. No I/O.

Follows the event stream section of the WHATWG HTML standard; ``retry:`` fields are left alone, as the client
has its own policy.
"""

from __future__ import annotations

import json

from pixelmill.client.retry import RetryPolicy
from pixelmill.client.values import Event
from pixelmill.client.wire import Request
from pixelmill.errors import ConnectionFailed, PixelmillError


class EventStream:
    """The state of one subscription, over any number of connections."""

    def __init__(self, path: str, policy: RetryPolicy, *, job_id: str | None = None, after: str | None = None) -> None:
        self.path = path
        self.job_id = job_id
        self.last_id = after
        self.ended = False
        """The last thing heard is that the job has ended; the service closes the stream after it."""
        self._policy = policy
        self._failures = 0
        self._reset()

    def _reset(self) -> None:
        self._type, self._id, self._data = "message", self.last_id, list[str]()

    def request(self) -> Request:
        """The request that opens, or opens again where the last connection ended."""
        self._reset()
        headers = {"accept": "text/event-stream", "cache-control": "no-store"}
        if self.last_id is not None:
            headers["last-event-id"] = self.last_id
        return Request("GET", self.path, headers=headers)

    def feed(self, line: str) -> Event | None:
        """Take one line without its end; an event where the line (an empty one) completes it."""
        if line:
            self._field(line)
            return None
        type_, data, id_ = self._type, self._data, self._id
        self.last_id = id_
        self._reset()
        if not data:
            return None
        self._failures = 0
        event = Event(id_ or "", type_, json.loads("\n".join(data)))
        if self.job_id is not None and event.type not in {"task", "progress"}:
            self.ended = event.ends_job
        return event

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._type = value
        elif name == "id" and "\0" not in value:
            self._id = value

    def nothing_left(self) -> None:
        """The service says (204) that the job has ended and was heard to its end."""
        self.ended = True

    def lost(self, error: PixelmillError | None = None) -> float:
        """The connection ended early: seconds to wait before the next; raises when it has failed too often in a row."""
        self._failures += 1
        cause = error or ConnectionFailed("The event stream ended early.")
        wait = self._policy.wait(self._failures, self.request(), cause)
        if wait is None:
            raise cause
        return wait
