"""Amazon SQS as a transport (see ``cloud.py``), over boto3 of the extra ``[fleet]``.

Standard queues: they keep no order, and may deliver twice. Region, endpoint and credentials come from boto3's own chain
(``AWS_REGION``, ``AWS_ENDPOINT_URL_SQS``, profiles, roles), so that none of them passes through our settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from pixelmill.engines.cloud import GONE, Count, Received
from pixelmill.errors import ConfigError, MissingExtra, StorageDenied, StorageError, StorageUnavailable

T = TypeVar("T")

CONNECTIONS = 16
RETENTION_S = 14 * 24 * 3600
"""The longest that the service keeps a message; the outbox releases no more than what runs soon."""
MAX_HIDDEN_S = 12 * 3600
BATCH = 10
BATCH_BYTES = 250_000

_LOST = {"ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"}
_DENIED = {"AccessDenied", "AccessDeniedException", "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken"}
_GONE = {"NonExistentQueue", "QueueDoesNotExist"}
_BUSY = {
    "InternalError",
    "InternalFailure",
    "QueueDeletedRecently",
    "RequestThrottled",
    "ServiceUnavailable",
    "ThrottlingException",
}


class SqsTransport:
    """``options`` go to ``boto3.client`` (tests give the endpoint and a key).

    ``wait_s``: how long ``receive`` waits for messages (the service's long poll, up to 20).
    """

    max_text = 240_000
    max_batch = BATCH

    def __init__(self, *, wait_s: int = 0, **options: Any) -> None:
        try:
            import boto3
            import botocore.config
            import botocore.exceptions
        except ImportError as error:
            raise MissingExtra('SQS needs its SDK: pip install "pixelmill[fleet]"') from error
        self._errors: Any = botocore.exceptions
        config = botocore.config.Config(
            retries={"max_attempts": 3, "mode": "standard"},
            connect_timeout=5,
            read_timeout=20 + wait_s,
            max_pool_connections=CONNECTIONS,
        )
        try:
            self._client: Any = boto3.client("sqs", config=config, **options)
        except (botocore.exceptions.NoRegionError, ValueError) as error:
            raise ConfigError(
                "SQS needs a region: set AWS_REGION, or `region` in ~/.aws/config.", setting="queue_url"
            ) from error
        self._urls: dict[str, str] = {}
        self._wait_s = wait_s

    def open(self, queues: Sequence[str]) -> None:
        """Make the queues that aren't there."""
        for queue in queues:
            self._urls[queue] = self._guard(partial(self._found_or_made, queue))

    def find(self, queue: str) -> None:
        """Use a queue that is there, by its name or its URL; raises :class:`StorageUnavailable` where it isn't."""
        if "://" in queue:
            self._urls[queue] = queue
        else:
            self._urls[queue] = self._guard(lambda: str(self._client.get_queue_url(QueueName=queue)["QueueUrl"]))

    def redrives(self, queue: str) -> bool:
        """Whether the queue hands messages that were delivered too often to another one."""
        found = self._guard(
            lambda: self._client.get_queue_attributes(QueueUrl=self._urls[queue], AttributeNames=["RedrivePolicy"])
        )
        return bool(found.get("Attributes", {}).get("RedrivePolicy"))

    def _found_or_made(self, queue: str) -> str:
        try:
            return str(self._client.get_queue_url(QueueName=queue)["QueueUrl"])
        except self._client.exceptions.QueueDoesNotExist:
            attributes = {"MessageRetentionPeriod": str(RETENTION_S)}
            return str(self._client.create_queue(QueueName=queue, Attributes=attributes)["QueueUrl"])

    def send(self, queue: str, texts: Sequence[str]) -> None:
        """Queue messages, ten a request."""
        for some in _batches(texts):
            entries = [{"Id": str(i), "MessageBody": text} for i, text in enumerate(some)]
            self._batch("send_message_batch", queue, entries)

    def receive(self, queue: str, limit: int, visibility_s: int) -> list[Received]:
        """Visible messages; waits for them as long as it was told to."""
        found = self._guard(
            lambda: self._client.receive_message(
                QueueUrl=self._urls[queue],
                MaxNumberOfMessages=limit,
                VisibilityTimeout=min(visibility_s, MAX_HIDDEN_S),
                WaitTimeSeconds=self._wait_s,
                AttributeNames=["ApproximateReceiveCount"],
            )
        )
        return [
            Received(one["ReceiptHandle"], one["Body"], int(one["Attributes"]["ApproximateReceiveCount"]))
            for one in found.get("Messages", ())
        ]

    def extend(self, queue: str, handles: Sequence[str], visibility_s: int) -> dict[str, str]:
        """Hide for so long; handles stay."""
        hidden = min(visibility_s, MAX_HIDDEN_S)
        held: dict[str, str] = {}
        for some in _batches(handles):
            entries = [{"Id": str(i), "ReceiptHandle": h, "VisibilityTimeout": hidden} for i, h in enumerate(some)]
            lost = self._batch("change_message_visibility_batch", queue, entries)
            held |= {handle: handle for i, handle in enumerate(some) if str(i) not in lost}
        return held

    def delete(self, queue: str, handles: Sequence[str]) -> None:
        """Acknowledge, ten a request."""
        for some in _batches(handles):
            entries = [{"Id": str(i), "ReceiptHandle": handle} for i, handle in enumerate(some)]
            self._batch("delete_message_batch", queue, entries)

    def count(self, queue: str) -> Count:
        """The service does not tell ages."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesDelayed"]
        hidden = "ApproximateNumberOfMessagesNotVisible"
        found = self._guard(
            lambda: self._client.get_queue_attributes(QueueUrl=self._urls[queue], AttributeNames=[*names, hidden])
        )["Attributes"]
        return Count(sum(int(found.get(name, 0)) for name in names), int(found.get(hidden, 0)))

    def close(self) -> None:
        """End connections."""
        self._client.close()

    # -- below -----------------------------------------------------------------------------------

    def _batch(self, method: str, queue: str, entries: list[dict[str, Any]]) -> set[str]:
        """One request for many; returns the ids of entries whose lease was lost, raises for any other failure."""
        answer = self._guard(lambda: getattr(self._client, method)(QueueUrl=self._urls[queue], Entries=entries))
        failed = answer.get("Failed", ())
        for one in failed:
            if one["Code"].rpartition(".")[2] not in _LOST or method == "send_message_batch":
                raise _translated(one["Code"])
        return {one["Id"] for one in failed}

    def _guard(self, function: Callable[[], T]) -> T:
        """Translate what boto3 raises."""
        errors = self._errors
        try:
            return function()
        except errors.ClientError as error:
            status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
            raise _translated(error.response["Error"].get("Code", "Unknown"), status) from error
        except (errors.NoCredentialsError, errors.PartialCredentialsError) as error:
            raise StorageDenied(
                "SQS needs credentials: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role."
            ) from error
        except errors.BotoCoreError as error:
            raise StorageUnavailable(f"SQS can't be reached ({type(error).__name__}). It is tried again.") from error


def _translated(code: str, status: int = 0) -> StorageError:
    short = code.rpartition(".")[2]
    if short in _GONE:
        return StorageUnavailable("SQS has no such queue (any more).", cause=GONE)
    if short in _DENIED or status in {401, 403}:
        return StorageDenied(f"SQS refused the request ({short}). Check credentials and policy.", cause=short)
    if short in _BUSY or status >= 500 or status == 429:
        return StorageUnavailable(f"SQS is busy or away ({short}). It is tried again.", cause=short)
    return StorageError(f"SQS refused the request: {short}.", cause=short)


def _batches(texts: Sequence[str]) -> list[list[str]]:
    """Up to ten, and as many bytes as a request may have."""
    batches: list[list[str]] = []
    size = 0
    for text in texts:
        if not batches or len(batches[-1]) == BATCH or size + len(text) > BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text)
    return batches
