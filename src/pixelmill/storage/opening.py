"""From an address and options to an object store: a folder, memory, or a bucket of any cloud through obstore.

What a bucket's options mean stands in ``foreign.py``. No credential is logged or shown.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pixelmill.errors import ConfigError, InvalidURI
from pixelmill.storage.buckets import ObstoreStore
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.foreign import foreign_store
from pixelmill.storage.keys import check_prefix
from pixelmill.storage.memory import MemoryStore
from pixelmill.storage.store import ObjectStore
from pixelmill.storage.uris import BUCKET_SCHEMES, decoded, split_raw


def open_store(uri: str, options: Mapping[str, str] | None = None, *, fsync: bool = False) -> ObjectStore:
    """The store at ``uri``; nothing is asked of it yet (:meth:`ObjectStore.check` does).

    ``uri`` is a folder (a path or ``file:///…``), ``memory:``, ``s3://bucket/prefix``, ``gs://bucket/prefix`` or
    ``az://container/prefix``. ``fsync`` is for folders. Raises :class:`ConfigError`.
    """
    given = dict(options or {})
    scheme = uri.partition(":")[0].lower()
    if scheme in BUCKET_SCHEMES:
        return _bucket(uri, given)
    if given:
        raise ConfigError(f"The store {uri!r} takes no options; {', '.join(sorted(given))} are for buckets.")
    if uri.strip() == "memory:":
        return MemoryStore()
    if scheme == "file":
        return FolderStore(_folder_of(uri), fsync=fsync)
    if "://" in uri:
        known = "a folder, memory:, " + ", ".join(f"{name}://BUCKET/PREFIX" for name in sorted(BUCKET_SCHEMES))
        raise ConfigError(f"There is no store of the kind {scheme!r}; a store is {known}.")
    if not uri.strip():
        raise ConfigError("The address of the store is empty.")
    return FolderStore(Path(uri).expanduser(), fsync=fsync)


async def sweep_store(store: ObjectStore) -> int:
    """Remove what processes that died have left in a folder; buckets have rules of their own for that."""
    return await store.sweep() if isinstance(store, FolderStore) else 0


def close_store(store: ObjectStore) -> None:
    """Let go of what the store holds."""
    if isinstance(store, FolderStore):
        store.close()


def put_headers(store: ObjectStore) -> Mapping[str, str]:
    """What a request must send with a presigned link to put: Azure asks for the kind of blob."""
    return store.put_headers if isinstance(store, ObstoreStore) else {}


def bucket_of(uri: str) -> tuple[str, str, str]:
    """Scheme, bucket and prefix (empty, or ending in ``/``) of a bucket's address; raises :class:`ConfigError`."""
    try:
        scheme, bucket, raw = split_raw(uri)
        prefix = decoded(raw, uri).strip("/")
        prefix = f"{prefix}/" if prefix else ""
        check_prefix(prefix)
    except InvalidURI as error:
        raise ConfigError(f"The store's address can't be used: {error}") from error
    if scheme not in BUCKET_SCHEMES:
        raise ConfigError(f"{uri!r} is not the address of a bucket, such as s3://bucket/prefix.")
    return scheme, bucket, prefix


def _folder_of(uri: str) -> Path:
    try:
        scheme, _, raw = split_raw(uri)
        return Path(decoded(raw, uri)) if scheme == "file" else Path(uri)
    except InvalidURI as error:
        raise ConfigError(f"The store's address can't be used: {error}") from error


def _bucket(uri: str, options: Mapping[str, str]) -> ObstoreStore:
    scheme, bucket, prefix = bucket_of(uri)
    return ObstoreStore(foreign_store(scheme, bucket, prefix, options))
