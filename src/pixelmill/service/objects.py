"""The object stores of a service or a worker, from its settings; and whose orphans a shared bucket holds."""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path
from urllib.parse import urlsplit

from pixelmill.errors import ObjectExists, StorageDenied
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.folder import FolderStore
from pixelmill.storage.named import SourceStores
from pixelmill.storage.opening import open_store
from pixelmill.storage.store import ObjectStore

MARK = "installation"
"""Names the installation that sweeps orphans in a store: of those that share a bucket and a prefix, the first one."""


def open_objects(config: ServiceConfig) -> ObjectStore:
    """Where inputs and results lie."""
    fsync = config.synchronous == "FULL"
    if not config.store:
        return FolderStore(config.data / "objects", fsync=fsync)
    return open_store(config.store, config.store_options, fsync=fsync)


def open_sources(config: ServiceConfig) -> SourceStores:
    """The buckets that jobs may name."""
    return SourceStores(config.stores)


def installation_id(folder: Path) -> str:
    """The name of this installation: made once, and kept in its data folder. Blocking, a few bytes."""
    path = folder / MARK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("x", encoding="ascii") as file:
                file.write(secrets.token_hex(16))
        except FileExistsError:
            pass
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise StorageDenied(f"{path} can't be read or written: {error.strerror}. Check the data folder.") from error


def _shared_id(database_url: str) -> str:
    """The same for all processes of a database, whatever user and password they have."""
    parts = urlsplit(database_url)
    return hashlib.sha256(f"{parts.hostname}:{parts.port}{parts.path}".encode()).hexdigest()[:32]


async def sweeps_here(store: ObjectStore, config: ServiceConfig) -> bool:
    """Whether orphans in the store are ours to remove: to another installation, our objects would look like such."""
    if not config.store:  # in the data folder, which one service locks
        return True
    identity = _shared_id(config.database_url) if config.database_url else installation_id(config.data)
    try:
        await store.put(MARK, identity.encode(), if_absent=True)
    except ObjectExists:
        return await store.get(MARK) == identity.encode()
    return True
