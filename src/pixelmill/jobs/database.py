"""The database of one process: a writer thread with group commit, and a few threads that read.

Owns connections, transactions and the translation of their errors. It must not know what is written.

Group commit: functions that arrive while a transaction runs join it, or the next one, each in a savepoint, so that one
that fails spoils no other; their callers go on when it is committed. Many small writes then share one commit (and,
with ``synchronous=FULL``, one fsync), and SQLite's single writer is never fought over.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from pixelmill.errors import PixelmillError, QueueFull, StorageDenied, StorageError, StorageFull, StorageUnavailable
from pixelmill.jobs.migrations import migrate

T = TypeVar("T")

BUSY_TIMEOUT_S = 10.0
"""How long a statement waits for another process's write."""

GROUP_SIZE = 64
GROUP_S = 0.1
"""A transaction takes no further function after so many, or so long: the first callers wait for the last."""

MAX_PENDING = 1024
"""Writes that wait; beyond it callers wait for room, and after ``ROOM_S`` get :class:`QueueFull`."""
ROOM_S = 30.0

READERS = 4


@dataclass(eq=False, slots=True)
class _Write:
    """A queued function, and the loop and future that wait for it."""

    function: Callable[[Connection], Any]
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Hand the result to the waiting coroutine; runs in its loop."""
        if self.future.done():  # the caller gave up meanwhile
            return
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.value)


class Database:
    """One database; ``url`` is SQLAlchemy's (``sqlite:////absolute/path.sqlite``; an in-memory one is not supported).

    ``synchronous``: ``NORMAL`` survives the death of the process, ``FULL`` that of the power supply too.
    Raises :class:`StorageFull`, :class:`StorageDenied`, :class:`StorageUnavailable` or :class:`StorageError`.
    """

    def __init__(self, url: str, synchronous: Literal["NORMAL", "FULL"] = "NORMAL") -> None:
        if synchronous not in {"NORMAL", "FULL"}:
            raise ValueError(f"synchronous is NORMAL or FULL, not {synchronous}")
        self.url = url
        self._writer_engine = _engine(url, synchronous, readers=0)
        self._reader_engine = _engine(url, synchronous, readers=READERS)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._pending = asyncio.Semaphore(MAX_PENDING)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pixelmill-db-read")
        self._thread: threading.Thread | None = None
        self._closed = False

    async def open(self) -> None:
        """Start the writer, and bring the schema up to date."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_forever, name="pixelmill-db-write", daemon=True)
            self._thread.start()
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._readers, self._migrate)

    async def close(self) -> None:
        """Finish what is queued, fold the write-ahead log into the file, and close; closing twice is no error."""
        if self._closed:
            return
        self._closed = True
        if self._thread is not None:
            self._queue.put(None)
            await asyncio.to_thread(self._thread.join)
        self._readers.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._dispose)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def write(self, function: Callable[[Connection], T]) -> T:
        """Run ``function`` in a write transaction; returns when it is committed.

        ``function`` runs in another thread, and must touch nothing but the connection and its own values.
        What it raises undoes what it did. Cancelling the await does not undo a function that has begun.
        """
        try:
            async with asyncio.timeout(ROOM_S):
                await self._pending.acquire()
        except TimeoutError:
            raise QueueFull(
                f"{MAX_PENDING} writes wait for the database and none ended within {ROOM_S:.0f} s; try again later."
            ) from None
        try:
            if self._closed or self._thread is None:
                raise StorageUnavailable("The database is closed; the service is starting or shutting down.")
            loop = asyncio.get_running_loop()
            write = _Write(function, loop, loop.create_future())
            self._queue.put(write)
            result: T = await write.future
            return result
        finally:
            self._pending.release()

    async def read(self, function: Callable[[Connection], T]) -> T:
        """Run ``function`` in a read transaction: it sees one state, the last one committed."""
        if self._closed:
            raise StorageUnavailable("The database is closed; the service is shutting down.")
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, function)

    # -- in the reading threads ------------------------------------------------------------------

    def _read(self, function: Callable[[Connection], T]) -> T:
        try:
            with self._reader_engine.connect() as connection, connection.begin():
                return function(connection)
        except SQLAlchemyError as error:
            raise translate(error) from error

    def _migrate(self) -> None:
        try:
            migrate(self._writer_engine)
        except SQLAlchemyError as error:
            raise translate(error) from error

    def _dispose(self) -> None:
        try:
            if self._writer_engine.dialect.name == "sqlite" and self._thread is not None:
                self._reader_engine.dispose()
                with self._writer_engine.connect() as connection:
                    connection.execution_options(autobegin_mode="none")
                    connection.exec_driver_sql("PRAGMA busy_timeout=1000")  # nobody waits long for a tidy folder
                    connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        except SQLAlchemyError:
            pass  # a full disk or another process: the log stays, and is read at the next start
        finally:
            self._reader_engine.dispose()
            self._writer_engine.dispose()

    # -- in the writing thread -------------------------------------------------------------------

    def _write_forever(self) -> None:
        ended = False
        while not ended:
            first = self._queue.get()
            if first is None:
                return
            ended = self._write_group(first)

    def _write_group(self, first: _Write) -> bool:
        """One transaction; True if the sentinel that ends the thread came."""
        group: list[_Write] = []
        ended = False
        try:
            with self._writer_engine.connect() as connection, connection.begin():
                until = time.monotonic() + GROUP_S
                current: _Write | None = first
                while current is not None:
                    group.append(current)
                    _execute(connection, current)
                    current = None
                    if len(group) < GROUP_SIZE and time.monotonic() < until and not self._queue.empty():
                        current = self._queue.get()
                        ended = current is None
        except BaseException as error:  # noqa: BLE001 -- whatever it was, every caller of the group must hear of it
            cause = translate(error) if isinstance(error, SQLAlchemyError) else error
            for write in group or [first]:
                write.error = cause
                group = group or [first]
        _settle(group)
        return ended


def _execute(connection: Connection, write: _Write) -> None:
    """Run one function in a savepoint. An error that ends the whole transaction is raised, others are kept."""
    if write.future.cancelled():
        return
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        write.value = write.function(connection)
    except BaseException as error:  # noqa: BLE001 -- it belongs to the caller, who gets it
        try:
            connection.exec_driver_sql("ROLLBACK TO SAVEPOINT one")
        except SQLAlchemyError as second:
            # The database has ended the transaction by itself (a full disk does that): the group is lost, for
            # the first reason, not for this one.
            raise (error if isinstance(error, SQLAlchemyError) else second) from None
        write.error = translate(error) if isinstance(error, SQLAlchemyError) else error
    connection.exec_driver_sql("RELEASE SAVEPOINT one")


def _settle(group: Sequence[_Write]) -> None:
    """Wake the callers, with one call for each loop."""
    loops = {write.loop for write in group}
    for loop in loops:
        mine = [write for write in group if write.loop is loop]
        try:
            loop.call_soon_threadsafe(_settle_all, mine)
        except RuntimeError:
            continue  # that loop has ended: nobody waits any more


def _settle_all(group: Sequence[_Write]) -> None:
    for write in group:
        write.settle()


def _engine(url: str, synchronous: str, *, readers: int) -> Engine:
    """An engine for the writer (``readers`` 0) or for so many readers."""
    sqlite = make_url(url).get_backend_name() == "sqlite"
    options: dict[str, Any] = (
        {"connect_args": {"timeout": BUSY_TIMEOUT_S, "check_same_thread": False}} if sqlite else {}
    )
    engine = create_engine(url, pool_size=max(1, readers), max_overflow=1, **options)
    if sqlite:
        _set_up_sqlite(engine, synchronous, write=readers == 0)
    return engine


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


_SQLITE_ERRORS: dict[str, tuple[type[StorageError], str]] = {
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


def translate(error: SQLAlchemyError) -> PixelmillError:
    """The error of our tree for one of SQLAlchemy; its text never holds statements or values."""
    original = error.orig if isinstance(error, DBAPIError) else error
    name = str(getattr(original, "sqlite_errorname", ""))
    for prefix, (kind, sentence) in _SQLITE_ERRORS.items():
        if name.startswith(prefix):
            return kind(f"{sentence} ({original})", cause=name)
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return StorageUnavailable(f"The connection to the database was lost ({type(original).__name__}). Try again.")
    return StorageError(f"The database refused an operation: {original}", cause=type(original).__name__)
