"""The state of a service in one file: an uncompressed tar that any `tar` lists, written while the service runs.

Owns the form of the file and how it is written; ``restore.py`` reads it. Members in this order: ``state.sqlite``, the
small files of the data folder, ``objects/KEY`` where they were asked for, and last ``manifest.json``: a file without it
is not whole. The database comes before the objects: what a row refers to was stored before the row, so it is found.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import sqlite3
import tarfile
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from pixelmill import __version__
from pixelmill.errors import ConfigError, StorageDenied, StorageError, StorageFull, StorageUnavailable
from pixelmill.jobs.connections import parse_url
from pixelmill.service.backends import database_url
from pixelmill.service.objects import MARK, open_objects
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.signing import KEY_FILE
from pixelmill.storage.folder import FolderStore

FORM = 1
STATE = "state.sqlite"
SMALL_FILES = (KEY_FILE, MARK)
OBJECTS = "objects/"
MANIFEST = "manifest.json"
CHUNK = 1 << 20
BUSY_S = 10.0


@dataclass(frozen=True, slots=True)
class Objects:
    """Which objects a backup holds. ``sha256`` is over a line ``KEY NUL SHA256`` for each, in the file's order."""

    count: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup is. ``at`` is UTC; ``files`` maps names to sha256; ``objects`` is None where none were asked for.

    ``counts``: jobs, uploads and tokens, and tasks by state.
    """

    form: int
    version: str
    schema: str
    at: str
    counts: Mapping[str, int]
    files: Mapping[str, str]
    objects: Objects | None

    def to_json(self) -> bytes:
        """For people too."""
        return json.dumps(asdict(self), indent=2).encode() + b"\n"

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """The inverse; raises :class:`ConfigError` for a form that is not ours."""
        try:
            record: dict[str, Any] = json.loads(text)
            if record["form"] != FORM:
                raise ConfigError(
                    f"The backup has form {record['form']}, and this Pixelmill reads form {FORM}. Restore it with "
                    f"version {record['version']}, which wrote it."
                )
            found = record.pop("objects")
            return cls(**record, objects=None if found is None else Objects(**found))
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError(f"The backup's {MANIFEST} can't be read ({error}). Take another backup.") from error


def sqlite_file(config: ServiceConfig) -> Path | None:
    """Where the state is; None for PostgreSQL."""
    url = parse_url(database_url(config.database_url, config.data))
    return Path(url.database or "") if url.get_backend_name() == "sqlite" else None


async def write_backup(config: ServiceConfig, target: Path, *, objects: bool) -> Manifest:
    """Write ``target``, beside it first; it appears when it is whole and on disk, for its owner's eyes only.

    Raises :class:`ConfigError` where there is nothing to back up or ``target`` exists, and the storage errors.
    """
    state, store = _checked(config, target, objects)
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    snapshot = part.with_suffix(".sqlite")
    try:
        counts, schema = copy_database(state, snapshot)
        with os.fdopen(os.open(part, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "r+b") as file:
            manifest = await _fill(file, snapshot, config.data, store, counts, schema)
            file.flush()
            os.fsync(file.fileno())
        part.replace(target)
        sync_folder(target.parent)
    except OSError as error:
        raise file_error(error, target) from error
    finally:
        part.unlink(missing_ok=True)
        snapshot.unlink(missing_ok=True)
    return manifest


def _checked(config: ServiceConfig, target: Path, objects: bool) -> tuple[Path, FolderStore | None]:
    """The database's file, and the folder of objects where they are wanted."""
    state = sqlite_file(config)
    if state is None or not state.is_file():
        raise ConfigError(f"There is no state to back up in {state or config.data}. Name the folder with --data.")
    store = open_objects(config) if objects else None
    if store is not None and not isinstance(store, FolderStore):
        raise ConfigError(
            "--objects copies a folder of objects, and `store` is none. Use the bucket's own versioning or "
            "replication for it; see docs/operating.md."
        )
    if target.exists():
        raise ConfigError(f"{target} exists, and a backup replaces nothing. Give another name.")
    return state, store


async def _fill(
    file: IO[bytes],
    snapshot: Path,
    folder: Path,
    store: FolderStore | None,
    counts: Mapping[str, int],
    schema: str,
) -> Manifest:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        files = {STATE: _add(tar, STATE, snapshot)}
        files |= {name: _add(tar, name, folder / name) for name in SMALL_FILES if (folder / name).is_file()}
        found = None if store is None else await _add_objects(tar, store)
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        manifest = Manifest(FORM, __version__, schema, at, counts, files, found)
        text = manifest.to_json()
        tar.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
    return manifest


async def _add_objects(tar: tarfile.TarFile, store: FolderStore) -> Objects:
    """All objects; one that is deleted meanwhile is left out, for then nobody wants it any more."""
    total, count, size = hashlib.sha256(), 0, 0
    async for info in store.list():
        path = store.local_path(info.key)
        if path is None:
            continue
        try:
            digest = _add(tar, OBJECTS + info.key, path)
        except FileNotFoundError:
            continue
        total.update(f"{info.key}\0{digest}\n".encode())
        count, size = count + 1, size + info.size
    return Objects(count, size, total.hexdigest())


def _add(tar: tarfile.TarFile, name: str, path: Path) -> str:
    """Add a file as it is when it is opened; its sha256."""
    with path.open("rb") as file:
        reader = Hashing(file)
        tar.addfile(_member(name, os.fstat(file.fileno()).st_size), reader)
        tar.members.clear()  # type: ignore[attr-defined]  # else it keeps a record of each of a million
        return reader.digest.hexdigest()


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o600, int(time.time())
    return member


class Hashing:
    """Reads from a file, and knows the sha256 of what was read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes."""
        data = self._file.read(size)
        self.digest.update(data)
        return data


def copy_database(source: Path, target: Path) -> tuple[dict[str, int], str]:
    """A copy of one state, by SQLite's online backup: writers go on meanwhile. What it counts, and its schema.

    A copy of the file would lack what is in the write-ahead log, or tear it. All pages are taken in one step, that is
    in one read transaction: else each write would begin the copy again, and under load it might never end.
    """
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with (
            closing(sqlite3.connect(f"file:{quote(str(source))}?mode=rw", uri=True, timeout=BUSY_S)) as live,
            closing(sqlite3.connect(target)) as copy,
        ):
            live.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, without a log beside it
            return _look(copy, source)
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        kind = {"SQLITE_FULL": StorageFull, "SQLITE_BUSY": StorageUnavailable}.get(name, StorageError)
        raise kind(f"The database {source} can't be copied: {error}.", cause=name) from error


def _look(copy: sqlite3.Connection, source: Path) -> tuple[dict[str, int], str]:
    said = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    if said != "ok":
        raise StorageError(f"The database {source} is damaged ({said}). Keep the last backup, and check the disk.")
    row = copy.execute("SELECT version_num FROM alembic_version").fetchone()
    counts = {
        "jobs": copy.execute("SELECT count(*) FROM jobs").fetchone()[0],
        "uploads": copy.execute("SELECT count(*) FROM uploads").fetchone()[0],
        "tokens": copy.execute("SELECT count(*) FROM tokens").fetchone()[0],
    }
    states = copy.execute("SELECT state, count(*) FROM tasks GROUP BY state ORDER BY state").fetchall()
    return counts | {f"tasks {state}": count for state, count in states}, str(row[0]) if row else ""


def sync_folder(folder: Path) -> None:
    """Names in it are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def file_error(error: OSError, path: Path) -> StorageError:
    """An error of the system, of our tree."""
    kind = StorageFull if error.errno in {28, 122} else StorageDenied
    return kind(f"{error.filename or path} can't be read or written: {error.strerror}. Check the disk and the path.")
