"""Objects of any bucket, read and written with plain calls: no event loop is started, for a function does one thing.

Stores are made when first their bucket is named, and kept. What obstore raises is translated as everywhere
(``storage/buckets.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

import obstore

from pixelmill.errors import LimitExceeded, ObjectNotFound, SourceRefused
from pixelmill.storage.buckets import FOREIGN, translated_foreign
from pixelmill.storage.foreign import ForeignBucket, foreign_store
from pixelmill.storage.uris import BUCKET_SCHEMES, parse_uri

CONNECT_S = 2.0
RETRY_S = 5.0
"""Functions are short: what lasts longer is tried again by whoever sent the event."""
MAX_STORES = 64
"""Buckets that are kept; one more forgets them all."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The bytes of an object, and the mark of the state that it had."""

    body: bytes
    state: str


@dataclass(slots=True)
class Objects:
    """``options`` by scheme, as ``open_store`` takes them; what they leave out comes from the cloud's own chain."""

    options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    _stores: dict[tuple[str, str], ForeignBucket] = field(default_factory=dict)

    def get(self, uri: str, max_bytes: int) -> Fetched:
        """The whole object; raises :class:`LimitExceeded` before it is read where it is larger than ``max_bytes``."""
        store, key = self._of(uri)
        try:
            answer = obstore.get(store, key)
            size = answer.meta["size"]
            if size > max_bytes:
                raise LimitExceeded(
                    f"The object has {size:,} bytes; the limit is {max_bytes:,}.",
                    limit="bytes",
                    value=size,
                    maximum=max_bytes,
                )
            return Fetched(answer.bytes().to_bytes(), _state(answer.meta))
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    def state(self, uri: str) -> str:
        """The mark of the state that an object has now; empty where it is gone."""
        store, key = self._of(uri)
        try:
            return _state(obstore.head(store, key))
        except FOREIGN as error:
            found = translated_foreign(error, key)
            if isinstance(found, ObjectNotFound):
                return ""
            raise found from error

    def put(self, uri: str, body: bytes, media_type: str, cache_control: str = "") -> None:
        """Write an object whole, in one request, in the place of what is there."""
        store, key = self._of(uri)
        attributes = {"Content-Type": media_type, "Cache-Control": cache_control}
        kept = {name: value for name, value in attributes.items() if value}
        try:
            obstore.put(store, key, body, attributes=kept, use_multipart=False)
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    def link(self, uri: str, seconds: int) -> str:
        """A link to read an object without credentials."""
        store, key = self._of(uri)
        try:
            return obstore.sign(store, "GET", key, timedelta(seconds=seconds))
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    def _of(self, uri: str) -> tuple[ForeignBucket, str]:
        found = parse_uri(uri)
        if found.scheme not in BUCKET_SCHEMES:
            raise SourceRefused(
                f"A function reads and writes buckets (s3://, gs://, az://), not {uri[:200]!a}.", uri=uri
            )
        place = (found.scheme, found.bucket)
        if place not in self._stores:
            if len(self._stores) >= MAX_STORES:
                self._stores.clear()
            options = self.options.get(found.scheme)
            self._stores[place] = foreign_store(*place, options=options, connect_s=CONNECT_S, retry_s=RETRY_S)
        return self._stores[place], found.path


def _state(meta: Mapping[str, object]) -> str:
    return f"{meta.get('version') or ''}/{meta.get('e_tag') or meta.get('last_modified')}/{meta.get('size')}"
