"""Events from an Azure storage queue, as Event Grid puts them there: base64 around JSON.

The service has no long poll: an empty queue is looked at again after pauses that grow. A message that can't be read
goes to a queue of its own, with the name that Azure Functions uses for such: ``QUEUE-poison``.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from pixelmill.engines.azure import AzureTransport
from pixelmill.engines.cloud import Received
from pixelmill.triggers.inbox import QueueSource
from pixelmill.triggers.source_options import Options

BATCH = 32
FIRST_PAUSE_S = 0.1


class AzureInbox:
    """See :class:`pixelmill.triggers.inbox.Inbox`. ``wait_s`` is the longest pause between two looks.

    The queue is never made; that for poison is, when it is first needed.
    """

    def __init__(self, transport: AzureTransport, queue: str, poison: str, *, wait_s: float, visibility_s: int) -> None:
        self._transport, self._queue, self._poison = transport, queue, poison
        self._wait_s, self._visibility_s = wait_s, visibility_s
        self._pause_s = FIRST_PAUSE_S

    def receive(self) -> list[Received]:
        """Up to 32 messages; waits before it returns none."""
        found = self._transport.receive(self._queue, BATCH, self._visibility_s)
        if found:
            self._pause_s = FIRST_PAUSE_S
        else:
            time.sleep(self._pause_s)
            self._pause_s = min(self._pause_s * 2, self._wait_s)
        return found

    def extend(self, handles: Sequence[str], seconds: int) -> dict[str, str]:
        """Hide them for so long from now."""
        return self._transport.extend(self._queue, handles, seconds)

    def delete(self, handles: Sequence[str]) -> None:
        """Forget messages."""
        self._transport.delete(self._queue, handles)

    def set_aside(self, messages: Sequence[Received]) -> list[str]:
        """Copied to the queue for poison, then to be deleted."""
        self._transport.open([self._poison])
        self._transport.send(self._poison, [message.text for message in messages])
        return [message.handle for message in messages]

    def close(self) -> None:
        """End connections."""
        self._transport.close()


def open_azure(options: Options) -> QueueSource:
    """The source; raises :class:`MissingExtra`, and :class:`ConfigError` for a connection string of another form."""
    transport = AzureTransport(options.secret("connection"), options["account"])
    queue = options["queue"]
    inbox = AzureInbox(
        transport,
        queue,
        options["poison"] or f"{queue}-poison",
        wait_s=options["wait"],
        visibility_s=options["visibility"],
    )
    return QueueSource(options.name, inbox, receivers=options["receivers"], visibility_s=options["visibility"])
