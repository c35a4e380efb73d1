"""Giant images in object stores: sources that are read by ranges, results that come into being there.

Joins the readers and writers of regions, which know no store, with stores, which know no image. Files are opened by
``images`` alone.
"""

from __future__ import annotations

import tempfile
from pathlib import Path, PurePosixPath

from pixelmill.images.byte_sources import FetchedSource
from pixelmill.images.region_results import Result
from pixelmill.images.region_trees import Tree
from pixelmill.storage.blocking import BlockingStore
from pixelmill.storage.object_results import ObjectTree, StreamedObject
from pixelmill.storage.s3_parts import PartsObject, can_take_parts
from pixelmill.storage.store import ObjectStore


def object_source(store: ObjectStore, key: str) -> FetchedSource:
    """An object to read regions from, by ranges; whoever closes it ends the thread that asks the store.

    Raises :class:`ObjectNotFound`, :class:`StorageError`.
    """
    blocking = BlockingStore(store)
    try:
        size = blocking.size(key)
    except BaseException:
        blocking.close()
        raise
    return FetchedSource(lambda start, length: blocking.get_range(key, start, length), size, close=blocking.close)


class ObjectPlace:
    """A result in an object store: a :class:`ResultPlace` for ``create_regions``.

    In S3 (with boto3, of the extra ``fleet``) a TIFF is uploaded while it is made; elsewhere its packed tiles wait in a
    scratch file on this machine, for a TIFF's tables are known at its end, and other stores take its start first.
    PNG, JPEG, Deep Zoom and Zarr go to any store as they are made.
    """

    def __init__(self, store: ObjectStore, key: str, *, if_absent: bool = False, scratch: Path | None = None) -> None:
        self._store, self._key, self._if_absent = store, key, if_absent
        self._scratch = scratch or Path(tempfile.gettempdir())

    @property
    def name(self) -> str:
        """The last part of the key."""
        return PurePosixPath(self._key).name

    @property
    def scratch(self) -> Path:
        """A folder on this machine."""
        return self._scratch

    @property
    def changes(self) -> bool:
        """In S3."""
        return can_take_parts(self._store)

    def file(self, most: int) -> Result:
        """An object."""
        if self.changes:
            return PartsObject(self._store, self._key, most=most, if_absent=self._if_absent)
        blocking = BlockingStore(self._store)
        try:
            return StreamedObject(blocking, self._key, if_absent=self._if_absent)
        except BaseException:
            blocking.close()
            raise

    def tree(self, last: str) -> Tree:
        """An object for each file."""
        blocking = BlockingStore(self._store)
        prefix = self._key[: len(self._key) - len(self.name)]
        try:
            return ObjectTree(blocking, prefix, last, if_absent=self._if_absent)
        except BaseException:
            blocking.close()
            raise
