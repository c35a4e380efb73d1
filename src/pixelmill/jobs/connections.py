"""How each database is reached: engines for SQLite and PostgreSQL, and what their errors are in our tree.

The one place, beside ``rows.py``, where the two differ. It knows nothing of threads or of what is written.
"""

from __future__ import annotations

import importlib
import time
import zlib
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, SQLAlchemyError

from pixelmill.errors import (
    ConfigError,
    MissingExtra,
    PixelmillError,
    StorageDenied,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from pixelmill.jobs.answers import bound_answers

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another process's write to SQLite."""

CONNECT_S = 5
LOST_S = 15
"""After so long without an answer a connection to PostgreSQL is given up: by us, and by the server."""
LOCK_S = 60
"""How long a write to PostgreSQL waits for those of other processes."""

READ_S = LOCK_S + 15
"""How long a reading statement may take on PostgreSQL; a lock that is waited for is one."""
WRITE_S = 600
"""The same for a writing one: migrations of large tables, cancelling 100,000 tasks."""
GRACE_S = 5
"""After so much more a server that has not ended the statement itself is taken to be stopped."""

_ADVISORY = 0x504D
"""The class of our advisory locks: nobody else in our database should use it."""

_NOW = text("SELECT extract(epoch FROM clock_timestamp())")
_NAMES = {"sqlite": "sqlite", "postgresql": "postgresql", "postgres": "postgresql"}


def parse_url(url: str) -> URL:
    """The address with the driver that we use; raises :class:`ConfigError`, or :class:`MissingExtra` without it.

    Neither error shows the address, which may hold a password.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    kind = _NAMES.get(parsed.get_backend_name()) if parsed is not None else None
    if parsed is None or kind is None:
        raise ConfigError(
            "The database's address can't be used: it is sqlite:////absolute/path or postgresql://USER@HOST/DATABASE. "
            "Set PIXELMILL_DATABASE_URL, or `database_url` in pixelmill.toml.",
            setting="database_url",
        )
    if kind == "sqlite":
        return parsed
    if not _has_driver():
        raise MissingExtra('PostgreSQL needs its driver: pip install "pixelmill[fleet]"', extra="fleet")
    return parsed.set(drivername="postgresql+psycopg")


def _has_driver() -> bool:
    try:
        importlib.import_module("psycopg")
    except ImportError:
        return False
    return True


def make_engine(url: URL, synchronous: str, *, readers: int) -> Engine:
    """An engine for the writer (``readers`` 0) or for so many readers."""
    if url.get_backend_name() == "sqlite":
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}}
        engine = create_engine(url, pool_size=max(1, readers), max_overflow=1, **options)
        _set_up_sqlite(engine, synchronous, write=readers == 0)
        return engine
    limit_s = READ_S if readers else WRITE_S
    arguments = {**_POSTGRES, "options": f"{_POSTGRES['options']} -c statement_timeout={limit_s}s"}
    # More for the locks that `Database.hold` may keep (two of triggers for as long as there is work), and one for the
    # moment between two.
    engine = create_engine(
        url, pool_size=max(1, readers), max_overflow=4, pool_pre_ping=True, pool_timeout=LOCK_S, connect_args=arguments
    )
    bound_answers(engine, limit_s + GRACE_S)
    if readers:
        # A reader sees one state, the last one committed, over all its statements.
        return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    return engine


_POSTGRES = {
    "application_name": "pixelmill",
    "connect_timeout": CONNECT_S,
    "keepalives_idle": CONNECT_S,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": LOST_S * 1000,
    # A process that is stopped or cut off in the middle of a transaction must not keep its locks for ever.
    "options": f"-c idle_in_transaction_session_timeout={2 * LOST_S}s -c lock_timeout={LOCK_S}s "
    f"-c tcp_keepalives_idle={CONNECT_S} -c tcp_keepalives_interval=3 -c tcp_keepalives_count=3",
}


def _set_up_sqlite(engine: Engine, synchronous: str, *, write: bool) -> None:
    begin = "BEGIN IMMEDIATE" if write else "BEGIN"

    @event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # sqlite3 must not begin or commit by itself; on_begin does
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL" if write else "PRAGMA query_only=ON")
        cursor.execute(f"PRAGMA synchronous={synchronous}")
        cursor.execute("PRAGMA foreign_keys=ON")
        cursor.execute("PRAGMA temp_store=MEMORY")
        cursor.execute("PRAGMA cache_size=-16000")
        cursor.close()

    @event.listens_for(engine, "begin")
    def on_begin(connection: Connection) -> None:
        if connection.get_execution_options().get("autobegin_mode") != "none":
            connection.exec_driver_sql(begin)


# -- what all processes share ------------------------------------------------------------------------


def time_of(connection: Connection, now: Callable[[], float] | None) -> float:
    """Seconds since the epoch by ``now``; without it by the one clock that all processes of the database share.

    That is PostgreSQL's own, so that clocks of machines may differ; or this machine's, where SQLite's file is.
    """
    if now is not None:
        return now()
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(_NOW).scalar_one())


def lock_key(name: str) -> dict[str, int]:
    """The parameters of an advisory lock."""
    return {"class": _ADVISORY, "key": zlib.crc32(name.encode()) & 0x7FFFFFFF}


_LOCK = text("SELECT pg_advisory_xact_lock(:class, :key)")


def lock_for_transaction(connection: Connection, name: str) -> None:
    """Wait for a lock among all processes, held until the transaction ends; SQLite's writers have one anyway."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK, lock_key(name))


# -- errors ------------------------------------------------------------------------------------------

_Row = tuple[type[StorageError], str]
_SQLITE_ERRORS: dict[str, _Row] = {
    "SQLITE_FULL": (StorageFull, "No space is left for the database. Free space on its disk, then try again."),
    "SQLITE_READONLY": (StorageDenied, "The database can't be written: its file or folder is read-only."),
    "SQLITE_CANTOPEN": (StorageDenied, "The database can't be opened. Check that its folder exists and is writable."),
    "SQLITE_PERM": (StorageDenied, "The database can't be opened: no permission."),
    "SQLITE_BUSY": (StorageUnavailable, "The database is locked by another process. Try again."),
    "SQLITE_LOCKED": (StorageUnavailable, "The database is locked by another process. Try again."),
    "SQLITE_CORRUPT": (StorageError, "The database is damaged. Restore its file from a backup."),
    "SQLITE_NOTADB": (StorageError, "The database file is not a database. Restore it from a backup."),
    "SQLITE_IOERR": (StorageError, "The database's disk failed to read or write. Check the disk and the system's log."),
}
# By SQLSTATE (appendix A of PostgreSQL's manual), the longest prefix first.
_POSTGRES_ERRORS: dict[str, _Row] = {
    "53100": (StorageFull, "No space is left for the database. Free space on its disk, then try again."),
    "42501": (StorageDenied, "The database refused the operation: its user lacks a privilege."),
    "25006": (StorageDenied, "The database can't be written: the transaction, or the server, is read-only."),
    "55P03": (StorageUnavailable, "The database is busy with other processes' writes. Try again."),
    "28": (StorageDenied, "The database refused to let us in. Check user and password in PIXELMILL_DATABASE_URL."),
    "3D": (StorageDenied, "There is no such database. Create it, or check PIXELMILL_DATABASE_URL."),
    "53": (StorageUnavailable, "The database server is short of connections or memory. Try again."),
    "57014": (StorageUnavailable, "A statement took the database too long. Try again; look what else it does."),
    "57": (StorageUnavailable, "The database server is stopping or starting. Try again."),
    "08": (StorageUnavailable, "The connection to the database was lost. Try again."),
    "25P03": (StorageUnavailable, "The connection to the database stood still for too long. Try again."),
    "40": (StorageUnavailable, "Other processes wrote to the database at the same time. Try again."),
}
_UNKNOWN = "?"


def translate(error: SQLAlchemyError) -> PixelmillError:
    """The error of our tree for one of SQLAlchemy; its text never holds statements or values."""
    original = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(original, "sqlite_errorname", ""))
    for prefix, (kind, sentence) in _SQLITE_ERRORS.items():
        if name.startswith(prefix):
            return kind(f"{sentence} ({original})", cause=name)
    state = _state(error)
    if state is not None:
        said = getattr(getattr(original, "diag", None), "message_primary", None) or type(original).__name__
        for prefix, (kind, sentence) in _POSTGRES_ERRORS.items():
            if state.startswith(prefix):
                return kind(f"{sentence} ({said})", cause=state)
    if is_lost(error):
        return StorageUnavailable("The database can't be reached. It is tried again; check that it runs.")
    if state is not None:
        return StorageError(f"The database refused an operation: {said} ({state}).", cause=state)
    if isinstance(error, DBAPIError) or original is None:
        return StorageError(f"The database refused an operation: {original}", cause=type(original).__name__)
    # SQLAlchemy's own: a pool without a free connection, say.
    return StorageUnavailable(f"The database could not be used ({type(error).__name__}). Try again.")


def _state(error: BaseException) -> str | None:
    """PostgreSQL's code of an error; "?" where it was not said; None for errors that are not PostgreSQL's."""
    if not isinstance(error, DBAPIError):
        return None
    found = getattr(error.orig, "sqlstate", None)
    if found is not None:
        return str(found)
    return _UNKNOWN if hasattr(error.orig, "sqlstate") else None


def is_lost(error: BaseException) -> bool:
    """Whether PostgreSQL could not be reached, or is going away."""
    if not isinstance(error, DBAPIError) or (state := _state(error)) is None:
        return False
    nobody = state == _UNKNOWN and isinstance(error, OperationalError)
    return error.connection_invalidated or nobody or state.startswith(("08", "57P", "25P03", "53300"))


def is_conflict(error: BaseException) -> bool:
    """Whether PostgreSQL undid a transaction for another one's sake (a deadlock)."""
    return (_state(error) or "").startswith("40")
