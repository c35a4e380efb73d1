"""Parts of one object, read from threads: for a process of its own that can't hold the object and has no event loop."""

from __future__ import annotations

from collections.abc import Mapping

import obstore

from pixelmill.errors import ConfigError
from pixelmill.storage.buckets import FOREIGN, translated_foreign
from pixelmill.storage.foreign import foreign_store
from pixelmill.storage.opening import bucket_of
from pixelmill.storage.uris import BUCKET_SCHEMES


class ObjectRanges:
    """Of the object ``key`` in the bucket at ``uri``; raises :class:`StorageError`, :class:`ConfigError`."""

    def __init__(self, uri: str, options: Mapping[str, str], key: str) -> None:
        if uri.partition(":")[0].lower() not in BUCKET_SCHEMES:
            raise ConfigError(f"{uri!r} is no bucket whose objects are read by parts.")
        self._store, self._key = foreign_store(*bucket_of(uri), options), key
        try:
            self.size = int(obstore.head(self._store, key)["size"])
        except FOREIGN as error:
            raise translated_foreign(error, key) from error

    def read(self, start: int, length: int) -> bytes:
        """These bytes, fewer where the object ends before. By several threads at once."""
        try:
            return bytes(obstore.get_range(self._store, self._key, start=start, length=length))
        except FOREIGN as error:
            raise translated_foreign(error, self._key) from error
