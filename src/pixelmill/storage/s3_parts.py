"""An object in S3 of which the first part is uploaded last, so that its first bytes may still change.

S3 takes the parts of an upload in any order; obstore does not pass that on, so this goes through boto3 (an extra), with
the configuration of obstore's store. Parts that were uploaded are no object: the upload is completed, or aborted.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from obstore.store import S3Store

from pixelmill.errors import ObjectExists, StorageDenied, StorageError, StorageUnavailable
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.storage.store import ObjectStore

T = TypeVar("T")

_AT_ONCE = 3
_LEAST_PART = 8 << 20
_MOST_PARTS = 10_000
_DENIED = frozenset({"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"})


def can_take_parts(store: ObjectStore) -> bool:
    """Whether :class:`PartsObject` works over that store here."""
    if not isinstance(store, ObstoreStore) or not isinstance(store.foreign, S3Store) or _boto3() is None:
        return False
    return "skip_signature" not in store.foreign.config


class PartsObject:
    """An object of S3; ``most`` is how large it may become, which sets the size of its parts.

    In memory are the first part, the one that grows, and three on their way. Appending waits while these are slower.
    """

    def __init__(self, store: ObjectStore, key: str, *, most: int, if_absent: bool = False) -> None:
        assert isinstance(store, ObstoreStore)
        self._client, self._bucket, prefix = _client(store.foreign)
        self._key, self._if_absent = f"{prefix}{key}", if_absent
        self._part_bytes = max(_LEAST_PART, -(-most // (_MOST_PARTS - 1)))
        self._lock, self._end = threading.Lock(), 0
        self._first, self._growing = bytearray(), bytearray()
        self._pool = ThreadPoolExecutor(_AT_ONCE, "s3-part")
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._sent: list[Future[dict[str, Any]]] = []
        self._open = True
        if if_absent:
            self._refuse_existing()
        self._upload = self._asked(
            lambda: self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key)["UploadId"]
        )

    def append(self, data: bytes | memoryview) -> int:
        """Add to the part that grows."""
        with self._lock:
            at, self._end = self._end, self._end + len(data)
            view = memoryview(data)
            room = self._part_bytes - len(self._first)
            if room > 0:
                self._first += view[:room]
                view = view[room:]
            self._growing += view
            while len(self._growing) >= self._part_bytes:
                part = bytes(self._growing[: self._part_bytes])
                del self._growing[: self._part_bytes]
                self._send(part)
            return at

    def change(self, start: int, data: bytes) -> None:
        """Overwrite bytes of the first part."""
        with self._lock:
            if start + len(data) > len(self._first):
                raise ValueError("only the first part of an object may be changed")
            self._first[start : start + len(data)] = data

    def finish(self) -> None:
        """Upload the rest, then the first part, and make it an object."""
        with self._lock:
            if self._growing:
                self._send(bytes(self._growing))
                self._growing.clear()
            parts = [sent.result() for sent in self._sent]
            parts.insert(0, self._part(1, bytes(self._first)))
            condition = {"IfNoneMatch": "*"} if self._if_absent else {}
            self._asked(
                lambda: self._client.complete_multipart_upload(
                    Bucket=self._bucket,
                    Key=self._key,
                    UploadId=self._upload,
                    MultipartUpload={"Parts": parts},
                    **condition,
                )
            )
            self._open = False
            self._end_threads()

    def abort(self) -> None:
        """Drop the parts that were uploaded."""
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._end_threads()
            with suppress(StorageError):
                self._asked(
                    lambda: self._client.abort_multipart_upload(
                        Bucket=self._bucket, Key=self._key, UploadId=self._upload
                    )
                )

    def _send(self, data: bytes) -> None:
        self._room.acquire()
        number = len(self._sent) + 2

        def upload() -> dict[str, Any]:
            try:
                return self._part(number, data)
            finally:
                self._room.release()

        self._sent.append(self._pool.submit(upload))
        for sent in self._sent:
            if sent.done():
                sent.result()  # a part that failed fails the next append

    def _part(self, number: int, data: bytes) -> dict[str, Any]:
        made = self._asked(
            lambda: self._client.upload_part(
                Bucket=self._bucket, Key=self._key, UploadId=self._upload, PartNumber=number, Body=data
            )
        )
        return {"ETag": made["ETag"], "PartNumber": number}

    def _end_threads(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._client.close()

    def _refuse_existing(self) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            self._client.head_object(Bucket=self._bucket, Key=self._key)
        except (ClientError, BotoCoreError):
            return  # it is not there, or what begins the upload says what is wrong
        raise ObjectExists(f"There is already an object {self._key} in the store.", key=self._key)

    def _asked(self, ask: Callable[[], T]) -> T:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            return ask()
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))
            if code in ("PreconditionFailed", "412", "ConditionalRequestConflict"):
                raise ObjectExists(f"There is already an object {self._key} in the store.", key=self._key) from error
            if code in _DENIED:
                raise StorageDenied(
                    f"The store refused access to {self._key}. Check the rights of its credentials.", key=self._key
                ) from error
            raise StorageUnavailable(
                f"The store did not do what was asked with {self._key}: {error}", key=self._key
            ) from error
        except BotoCoreError as error:
            raise StorageUnavailable(
                f"The store could not be reached for {self._key}: {error}", key=self._key
            ) from error


def _boto3() -> Any:
    try:
        return importlib.import_module("boto3")
    except ImportError:
        return None


def _client(store: Any) -> tuple[Any, str, str]:
    """A client of boto3 that reaches what obstore's store reaches, its bucket, and its prefix."""
    from botocore.config import Config

    given = dict(store.config)
    style = "virtual" if str(given.get("virtual_hosted_style_request", "false")).lower() == "true" else "path"
    client = _boto3().client(
        "s3",
        endpoint_url=given.get("endpoint"),
        region_name=given.get("region") or "us-east-1",
        aws_access_key_id=given.get("access_key_id"),
        aws_secret_access_key=given.get("secret_access_key"),
        aws_session_token=given.get("session_token") or given.get("token"),
        config=Config(
            s3={"addressing_style": style},
            connect_timeout=5,
            read_timeout=120,
            retries={"max_attempts": 3, "mode": "standard"},
            max_pool_connections=_AT_ONCE + 1,
        ),
    )
    prefix = f"{store.prefix}/" if store.prefix else ""
    return client, str(given["bucket"]), prefix
