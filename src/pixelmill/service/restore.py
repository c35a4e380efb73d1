"""Puts a backup back into a data folder that no service uses. The file is checked whole before anything is touched.

The database is placed last and by a rename: until then the folder has no new state, and after it has all of it. What
the backup did not know yet (results stored later) the service finds by itself at its next start (``reconcile.py``).
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sqlite3
import tarfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pixelmill.errors import ConfigError, StorageError
from pixelmill.jobs.migrations import check_known
from pixelmill.service.backup import (
    CHUNK,
    MANIFEST,
    OBJECTS,
    SMALL_FILES,
    STATE,
    Hashing,
    Manifest,
    Objects,
    file_error,
    sqlite_file,
    sync_folder,
)
from pixelmill.service.lock import DataLock
from pixelmill.service.objects import open_objects
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.keys import check_key
from pixelmill.storage.opening import close_store

LOGS = ("-wal", "-shm", "-journal")
"""Files beside a database that belong to it: left beside another one they would damage that."""
MANIFEST_BYTES = 1 << 20


async def restore_backup(config: ServiceConfig, source: Path, *, force: bool) -> Manifest:
    """Make ``source`` the state of the data folder. ``force``: what stands there is kept in ``replaced-TIME``.

    Raises :class:`ConfigError` where a service uses the folder, where it holds state (without ``force``), or where the
    file is no backup, is not whole, or is of a newer Pixelmill.
    """
    target = sqlite_file(config)
    if target is None:
        raise ConfigError("The state is in PostgreSQL, whose own tools restore it.")
    manifest = check_backup(source)
    check_known(manifest.schema)
    lock = DataLock(config.data)
    lock.acquire()
    try:
        _make_room(config, target, force, objects=manifest.objects is not None)
        await _place(config, source, target)
    except (tarfile.TarError, OSError) as error:
        if isinstance(error, OSError):
            raise file_error(error, config.data) from error
        raise StorageError(f"{source} was changed while it was restored. Restore again, with --force.") from error
    finally:
        lock.release()
    return manifest


def check_backup(source: Path) -> Manifest:
    """Read the whole file and compare it with its manifest; raises :class:`ConfigError` unless they agree."""
    with _reading(source):
        return _checked(source)


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise _wrong(source, f"it can't be read ({error})") from error
    except OSError as error:
        raise file_error(error, source) from error


def _checked(source: Path) -> Manifest:
    files: dict[str, str] = {}
    manifest: Manifest | None = None
    total, count, size = hashlib.sha256(), 0, 0
    for name, length, data in _members(source):
        if manifest is not None:
            raise _wrong(source, f"something follows {MANIFEST}")
        if name == MANIFEST:
            if length > MANIFEST_BYTES:
                raise _wrong(source, f"{MANIFEST} is too long")
            manifest = Manifest.from_json(data.read())
            continue
        digest = _digest(data)
        if name.startswith(OBJECTS):
            key = name.removeprefix(OBJECTS)
            check_key(key)
            total.update(f"{key}\0{digest}\n".encode())
            count, size = count + 1, size + length
        elif name in (STATE, *SMALL_FILES) and name not in files:
            files[name] = digest
        else:
            raise _wrong(source, f"{name!r} does not belong there")
    if manifest is None:
        raise _wrong(source, f"{MANIFEST} is missing: it is not whole")
    wanted = manifest.objects or Objects(0, size, total.hexdigest())
    if STATE not in files or files != manifest.files or (count, total.hexdigest()) != (wanted.count, wanted.sha256):
        raise _wrong(source, "its contents are not those that were written")
    return manifest


def _digest(data: IO[bytes]) -> str:
    reader = Hashing(data)
    while reader.read(CHUNK):
        pass
    return reader.digest.hexdigest()


def _members(source: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """Name, length and bytes of each file; raises :class:`ConfigError` for members that are none, and tar's errors."""
    with tarfile.open(source, mode="r:") as tar:
        while (member := tar.next()) is not None:
            data = tar.extractfile(member) if member.isreg() else None
            if data is None:
                raise _wrong(source, f"{member.name!r} is no file")
            yield member.name, member.size, data
            tar.members.clear()  # type: ignore[attr-defined]  # else it keeps a record of each of a million


def _wrong(source: Path, why: str) -> ConfigError:
    return ConfigError(f"{source} is not a backup that can be restored: {why}. Nothing was changed. Use another one.")


def _make_room(config: ServiceConfig, target: Path, force: bool, *, objects: bool) -> None:
    """See that there is no state, or put it aside. A backup without ``objects`` may meet those of another copy."""
    there = [path for path in (target, *(config.data / name for name in SMALL_FILES)) if path.exists()]
    folder = config.data / "objects"
    if not force:
        if there or (objects and folder.is_dir() and any(folder.iterdir())):
            found = there[0] if there else folder
            raise ConfigError(
                f"The data folder {config.data} is not empty: it holds {found.name}. Name an empty one with --data, or "
                "give --force, which keeps what is replaced in a folder beside it."
            )
    elif there:
        if target in there:
            _fold(target)
        aside = config.data / f"replaced-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        aside.mkdir(mode=0o700)
        for path in [*there, *(target.with_name(target.name + end) for end in LOGS)]:
            if path.exists():
                path.rename(aside / path.name)
    for end in LOGS:
        target.with_name(target.name + end).unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)


def _fold(target: Path) -> None:
    """Bring the log of the old database into its file, which is put aside; a damaged one is put aside as it is."""
    try:
        connection = sqlite3.connect(target)
        try:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            connection.close()
    except sqlite3.Error:
        return


async def _place(config: ServiceConfig, source: Path, target: Path) -> None:
    store = open_objects(config)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    try:
        for name, _, data in _members(source):
            if name == STATE:
                _write(part, data)
            elif name in SMALL_FILES:
                _write(config.data / name, data)
            elif name.startswith(OBJECTS):
                await store.put(name.removeprefix(OBJECTS), _chunks(data))
        if not part.exists():
            raise StorageError(f"{source} was changed while it was restored. Restore again, with --force.")
        part.replace(target)
        sync_folder(target.parent)
    finally:
        part.unlink(missing_ok=True)
        close_store(store)


async def _chunks(data: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := data.read(CHUNK):
        yield chunk


def _write(path: Path, data: IO[bytes]) -> None:
    """All of it, on disk, for its owner only."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while chunk := data.read(CHUNK):
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
