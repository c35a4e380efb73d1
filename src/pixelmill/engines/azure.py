"""Azure Storage Queue as a transport (see ``cloud.py``), over the SDK of the extra ``[fleet]``.

The service takes one message a request, so batches go out over a few threads. Extending a lease changes its receipt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from pixelmill.engines.cloud import GONE, Count, Received
from pixelmill.errors import ConfigError, MissingExtra, StorageDenied, StorageError, StorageUnavailable

T = TypeVar("T")

THREADS = 16
FOR_EVER = -1
"""Messages don't expire: the service's own default would drop them after 7 days."""


class AzureTransport:
    """``connection`` is a connection string; without it the account at ``url`` is opened by ``azure-identity``."""

    max_text = 60_000  # of 64 KB, with the XML around it
    max_batch = 32

    def __init__(self, connection: str = "", url: str = "") -> None:
        try:
            from azure.core import exceptions
            from azure.storage.queue import QueueServiceClient
        except ImportError as error:
            raise MissingExtra('Azure Storage Queue needs its SDK: pip install "pixelmill[fleet]"') from error
        self._errors: Any = exceptions
        options: dict[str, Any] = {"retry_total": 2, "connection_timeout": 5, "read_timeout": 20}
        try:
            if connection:
                service = QueueServiceClient.from_connection_string(connection, **options)
            else:
                service = QueueServiceClient(url, credential=_identity(), **options)
        except ValueError as error:
            raise ConfigError(
                "The Azure connection string can't be used. Set PIXELMILL_AZURE_CONNECTION to the one that the portal "
                "shows under Access keys.",
                setting="azure_connection",
            ) from error
        self._service: Any = service
        self._clients: dict[str, Any] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="pixelmill-azure")

    def open(self, queues: Sequence[str]) -> None:
        """Make the queues that aren't there."""
        for queue in queues:
            self._guard(self._client(queue).create_queue, allow=(self._errors.ResourceExistsError,))

    def send(self, queue: str, texts: Sequence[str]) -> None:
        """Queue messages."""
        client = self._client(queue)
        self._each(lambda text: client.send_message(text, time_to_live=FOR_EVER), texts)

    def receive(self, queue: str, limit: int, visibility_s: int) -> list[Received]:
        """Visible messages."""
        found = self._guard(
            lambda: list(
                self._client(queue).receive_messages(
                    messages_per_page=limit, max_messages=limit, visibility_timeout=visibility_s
                )
            )
        )
        return [
            Received(f"{message.id} {message.pop_receipt}", message.content, message.dequeue_count)
            for message in found or ()
        ]

    def extend(self, queue: str, handles: Sequence[str], visibility_s: int) -> dict[str, str]:
        """Hide for so long."""
        client = self._client(queue)

        def one(handle: str) -> str:
            id_, _, receipt = handle.partition(" ")
            return f"{id_} {client.update_message(id_, receipt, visibility_timeout=visibility_s).pop_receipt}"

        after = self._each(one, handles, lost=True)
        return {handle: new for handle, new in zip(handles, after, strict=True) if new is not None}

    def delete(self, queue: str, handles: Sequence[str]) -> None:
        """Acknowledge."""
        client = self._client(queue)
        self._each(lambda handle: client.delete_message(*handle.split(" ", 1)), handles, lost=True)

    def count(self, queue: str) -> Count:
        """The service counts hidden messages with the others; the oldest visible one is looked at."""
        client = self._client(queue)

        def look() -> Count:
            every = client.get_queue_properties().approximate_message_count or 0
            first = client.peek_messages(max_messages=1)
            oldest = time.time() - first[0].inserted_on.timestamp() if first else 0.0
            return Count(every if first else 0, 0 if first else every, max(0.0, oldest))

        return self._guard(look) or Count(0)

    def close(self) -> None:
        """End connections."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._service.close()

    # -- below -----------------------------------------------------------------------------------

    def _client(self, queue: str) -> Any:
        if queue not in self._clients:
            self._clients[queue] = self._service.get_queue_client(queue)
        return self._clients[queue]

    def _each(self, function: Callable[[str], T], items: Sequence[str], *, lost: bool = False) -> list[T | None]:
        """One request an item, some at a time; None for leases that were lost."""
        if len(items) == 1:
            return [self._guard(lambda: function(items[0]), lost=lost)]
        return list(self._threads.map(lambda item: self._guard(lambda: function(item), lost=lost), items))

    def _guard(
        self, function: Callable[[], T], *, lost: bool = False, allow: tuple[type[Exception], ...] = ()
    ) -> T | None:
        """Translate what the SDK raises; None for what is allowed."""
        errors = self._errors
        try:
            return function()
        except allow:
            return None
        except errors.HttpResponseError as error:
            code = str(getattr(error, "error_code", "") or "")
            if lost and code in {"MessageNotFound", "PopReceiptMismatch"}:
                return None
            raise _translated(error.status_code or 0, code or type(error).__name__) from error
        except errors.AzureError as error:
            raise StorageUnavailable(
                f"Azure Storage Queue can't be reached ({type(error).__name__}). It is tried again."
            ) from error


def _translated(status: int, code: str) -> StorageError:
    if code == "QueueNotFound":
        return StorageUnavailable("Azure Storage Queue has no such queue (any more).", cause=GONE)
    if status in {401, 403}:
        return StorageDenied(
            f"Azure Storage Queue refused the request ({code}). Check the account's key and role.", cause=code
        )
    if status in {408, 409, 429} or status >= 500:
        return StorageUnavailable(f"Azure Storage Queue is busy or away ({code}). It is tried again.", cause=code)
    return StorageError(f"Azure Storage Queue refused the request: {code} (status {status}).", cause=code)


def _identity() -> Any:
    try:
        from azure.identity import DefaultAzureCredential
    except ImportError as error:
        raise MissingExtra(
            "An Azure account without PIXELMILL_AZURE_CONNECTION needs azure-identity: pip install azure-identity"
        ) from error
    return DefaultAzureCredential()
