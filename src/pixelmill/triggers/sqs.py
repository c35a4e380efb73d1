"""Events from an SQS queue: long polls, and the queue's redrive policy for what can't be read.

A message that can't be read is left alone where the queue has a redrive policy: after the deliveries that it allows,
SQS moves the message to the dead-letter queue. Where it has none, the message is logged, and deleted.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pixelmill.engines.cloud import Received
from pixelmill.engines.sqs import BATCH, SqsTransport
from pixelmill.errors import StorageError
from pixelmill.triggers.inbox import QueueSource
from pixelmill.triggers.source_options import Options

_REGION = re.compile(r"https://(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue)\.amazonaws\.com(?:\.cn)?/").match


class SqsInbox:
    """See :class:`pixelmill.triggers.inbox.Inbox`. The queue is looked up when it is first asked, and never made."""

    def __init__(self, queue: str, *, wait_s: int, visibility_s: int, **options: Any) -> None:
        self._queue, self._visibility_s = queue, visibility_s
        self._transport = SqsTransport(wait_s, **options)
        self._found = False

    def receive(self) -> list[Received]:
        """Up to ten messages."""
        if not self._found:
            self._transport.find(self._queue)
            self._found = True
        return self._transport.receive(self._queue, BATCH, self._visibility_s)

    def extend(self, handles: Sequence[str], seconds: int) -> dict[str, str]:
        """Hide them for so long from now."""
        return self._transport.extend(self._queue, handles, seconds)

    def delete(self, handles: Sequence[str]) -> None:
        """Forget messages."""
        self._transport.delete(self._queue, handles)

    def set_aside(self, messages: Sequence[Received]) -> list[str]:
        """Left to the redrive policy, or to be deleted where there is none, or it may not be looked at.

        Raises what may pass: nothing is deleted while it is not known.
        """
        try:
            redrives = self._transport.redrives(self._queue)
        except StorageError as error:
            if error.retryable:
                raise
            redrives = False
        return [] if redrives else [message.handle for message in messages]

    def close(self) -> None:
        """End connections."""
        self._transport.close()


def open_sqs(options: Options) -> QueueSource:
    """The source; raises :class:`MissingExtra`, and :class:`ConfigError` where no region is known."""
    queue = options["queue"]
    given: dict[str, Any] = {}
    named = _REGION(queue)
    if region := options["region"] or (named and (named[1] or named[2])):
        given["region_name"] = region
    if options["endpoint"]:
        given["endpoint_url"] = options["endpoint"]
    inbox = SqsInbox(queue, wait_s=options["wait"], visibility_s=options["visibility"], **given)
    return QueueSource(options.name, inbox, receivers=options["receivers"], visibility_s=options["visibility"])
