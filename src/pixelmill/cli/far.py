"""Objects in buckets as `pixelmill run` meets them: a source that is read by ranges, and the bucket of the results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from pixelmill.cli.outputs import Clash, exists_error
from pixelmill.errors import ObjectExists, ObjectNotFound
from pixelmill.images.byte_sources import FetchedSource
from pixelmill.storage.named import SourceStores
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.store import ObjectStore
from pixelmill.storage.uris import URI
from pixelmill.tiling.places import ObjectPlace, object_source

_ZARR_HEADS = ("zarr.json", ".zarray")
"""Of a Zarr array, what is there when it is whole."""


@dataclass(frozen=True, slots=True)
class FarObject:
    """A source in a bucket. ``spec``: how another process opens its store."""

    store: ObjectStore
    key: str
    spec: StoreSpec

    def open(self) -> FetchedSource:
        """To be read by ranges; whoever closes it ends a thread. Raises :class:`StorageError`."""
        return object_source(self.store, self.key)


Body: TypeAlias = Path | bytes | FarObject
"""Where a source's bytes are."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """The bucket of the results. ``base`` is the address of the bucket; names of targets are keys in it."""

    stores: SourceStores
    base: str

    def uri(self, key: str) -> str:
        """The address of a result."""
        scheme, _, bucket = self.base.partition("://")
        return str(URI(scheme, bucket, key.removeprefix("./")))

    def at(self, key: str) -> tuple[ObjectStore, str]:
        """The store of a result, and its key there."""
        return self.stores.of(self.uri(key))

    def place(self, key: str, clash: Clash, scratch: Path | None) -> ObjectPlace:
        """For a result that comes into being piece by piece."""
        store, own = self.at(key)
        return ObjectPlace(store, own, if_absent=clash != "overwrite", scratch=scratch)

    async def first_there(self, keys: Sequence[str]) -> str | None:
        """The address of the first result that is there."""
        for key in keys:
            for name in [f"{key}/{head}" for head in _ZARR_HEADS] if key.endswith(".zarr") else [key]:
                store, own = self.at(name)
                try:
                    await store.head(own)
                except ObjectNotFound:
                    continue
                return self.uri(key)
        return None

    async def size(self, key: str) -> int:
        """Bytes of a result."""
        store, own = self.at(key)
        return (await store.head(own)).size

    async def put(self, key: str, data: bytes, clash: Clash) -> str:
        """A whole result; its address. Raises :class:`ObjectExists` unless ``overwrite`` was asked for."""
        store, own = self.at(key)
        try:
            await store.put(own, data, if_absent=clash != "overwrite")
        except ObjectExists as error:
            raise exists_error(self.uri(key)) from error
        return self.uri(key)
