"""Parts of one object, read from threads: for a process of its own that can't hold the object and has no event loop."""

from __future__ import annotations

from collections.abc import Mapping

import obstore
from obstore import exceptions as foreign

from pixelmill.errors import ConfigError, StorageUnavailable
from pixelmill.storage.buckets import FOREIGN, translated_foreign
from pixelmill.storage.foreign import foreign_store
from pixelmill.storage.opening import bucket_of
from pixelmill.storage.uris import BUCKET_SCHEMES


class ObjectRanges:
    """Of the object ``key`` in the bucket at ``uri``; raises :class:`StorageError`, :class:`ConfigError`.

    All parts are of the state that it had when this was made; ``version`` tells that state from another.
    """

    def __init__(self, uri: str, options: Mapping[str, str], key: str) -> None:
        if uri.partition(":")[0].lower() not in BUCKET_SCHEMES:
            raise ConfigError(f"{uri!r} is no bucket whose objects are read by parts.")
        self._store, self._key = foreign_store(*bucket_of(uri), options), key
        try:
            facts = obstore.head(self._store, key)
        except FOREIGN as error:
            raise translated_foreign(error, key) from error
        self.size = int(facts["size"])
        self._tag = facts["e_tag"]
        self.version = f"{self.size}-{self._tag or facts['last_modified'].timestamp()}"

    def read(self, start: int, length: int) -> bytes:
        """These bytes, fewer where the object ends before. By several threads at once.

        Raises :class:`StorageUnavailable` where the object was replaced.
        """
        try:
            wanted = (start, start + length)
            if self._tag is None:
                return bytes(obstore.get_range(self._store, self._key, start=start, length=length))
            return bytes(obstore.get(self._store, self._key, options={"if_match": self._tag, "range": wanted}).bytes())
        except foreign.PreconditionError as error:
            raise StorageUnavailable(
                f"The object {self._key} was replaced while it was read. Run it again.", key=self._key
            ) from error
        except FOREIGN as error:
            raise translated_foreign(error, self._key) from error
