"""The database of one process: a writer thread with group commit, and a few threads that read.

Owns connections, transactions and the translation of their errors. It must not know what is written.

Group commit: functions that arrive while a transaction runs join it, or the next one, each in a savepoint, so that one
that fails spoils no other; their callers go on when it is committed. Many small writes then share one commit (and,
with ``synchronous=FULL``, one fsync), and SQLite's single writer is never fought over.

On PostgreSQL several processes write. Those that read before they write (a job's counts, the event log's order) take
turns by an advisory lock, so that they see what the ones before them left, as on SQLite; those that only touch rows of
the queue (``alone=False``) don't. A transaction that is undone (the connection is lost, a deadlock) is run
again, whole; only where the commit itself got no answer is it left to the caller, since it may have been done.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from sqlalchemy import Connection, event, text
from sqlalchemy.exc import SQLAlchemyError

from pixelmill.errors import QueueFull, StorageUnavailable
from pixelmill.jobs.connections import (
    is_conflict,
    is_lost,
    lock_for_transaction,
    lock_key,
    make_engine,
    parse_url,
    translate,
)
from pixelmill.jobs.migrations import migrate

T = TypeVar("T")

GROUP_SIZE = 64
GROUP_S = 0.1
"""A transaction takes no further function after so many, or so long: the first callers wait for the last."""

MAX_PENDING = 1024
"""Writes that wait; beyond it callers wait for room, and after ``ROOM_S`` get :class:`QueueFull`."""
ROOM_S = 30.0

READERS = 4

RETRY_S = 15.0
"""How long a write is tried again while PostgreSQL is away; then it fails as :class:`StorageUnavailable`."""
MAX_PAUSE_S = 0.5

WRITERS = "writers"


@dataclass(eq=False, slots=True)
class _Write:
    """A queued function, and the loop and future that wait for it."""

    function: Callable[[Connection], Any]
    alone: bool
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

    ``synchronous``: ``NORMAL`` survives the death of the process, ``FULL`` that of the power supply too. (PostgreSQL
    has ``synchronous_commit`` of its own for that.)
    Raises :class:`StorageFull`, :class:`StorageDenied`, :class:`StorageUnavailable` or :class:`StorageError`.
    """

    def __init__(self, url: str, synchronous: Literal["NORMAL", "FULL"] = "NORMAL") -> None:
        if synchronous not in {"NORMAL", "FULL"}:
            raise ValueError(f"synchronous is NORMAL or FULL, not {synchronous}")
        self.url = url
        parsed = parse_url(url)
        self.shared = parsed.get_backend_name() != "sqlite"
        """Whether processes on other machines may use it too."""
        self._writer_engine = make_engine(parsed, synchronous, readers=0)
        self._reader_engine = make_engine(parsed, synchronous, readers=READERS)
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._pending = asyncio.Semaphore(MAX_PENDING)
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="pixelmill-db-read")
        self._thread: threading.Thread | None = None
        self._left: _Write | None = None  # taken from the queue, but for the next transaction
        self._current = False  # whether the schema is known to be
        self._ended = False
        self._closed = False
        for engine in (self._writer_engine, self._reader_engine):
            event.listen(engine, "checkin", self._close_late)

    def _close_late(self, connection: Any, _record: Any) -> None:
        """A reading thread that ends after `close` gives its connection back to a pool that nobody empties again."""
        if self._closed and connection is not None:
            connection.close()

    async def open(self) -> None:
        """Start the writer, and bring the schema up to date; may be called again where it failed."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_forever, name="pixelmill-db-write", daemon=True)
            self._thread.start()
        if not self._current:
            await asyncio.get_running_loop().run_in_executor(self._readers, self._migrate)
            self._current = True

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

    async def write(self, function: Callable[[Connection], T], *, alone: bool = True) -> T:
        """Run ``function`` in a write transaction; returns when it is committed.

        ``function`` runs in another thread, perhaps more than once, and must touch nothing but the connection and its
        own values. What it raises undoes what it did. Cancelling the await does not undo a function that has begun.
        ``alone`` False: it needs no turn among the processes that write, for it reads nothing before it writes.
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
            write = _Write(function, alone, loop, loop.create_future())
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

    @asynccontextmanager
    async def hold(self, name: str, *, wait: bool = True) -> AsyncIterator[bool]:
        """A lock among all processes of the database; yields whether we hold it (False only without ``wait``).

        Where the connection is lost meanwhile it may go to another process: what is done under it must be harmless
        when two do it. SQLite's processes have the lock of the data folder instead: there it is always held.
        """
        if not self.shared:
            yield True
            return
        loop = asyncio.get_running_loop()
        locking = loop.run_in_executor(self._readers, self._lock, name, wait)
        try:
            connection = await asyncio.shield(locking)
        except asyncio.CancelledError:
            # The thread goes on, and may get the lock when nobody waits for it any more.
            locking.add_done_callback(self._let_go)
            raise
        try:
            yield connection is not None
        finally:
            if connection is not None:
                await loop.run_in_executor(None, self._unlock, connection)

    def _let_go(self, locking: asyncio.Future[Connection | None]) -> None:
        if locking.cancelled() or locking.exception() is not None:
            return
        connection = locking.result()
        if connection is not None:
            threading.Thread(target=self._unlock, args=(connection,), name="pixelmill-db-unlock", daemon=True).start()

    # -- in the reading threads ------------------------------------------------------------------

    def _read(self, function: Callable[[Connection], T]) -> T:
        for last in (False, True):
            try:
                with self._reader_engine.connect() as connection, connection.begin():
                    return function(connection)
            except SQLAlchemyError as error:
                if last or not is_lost(error):
                    raise translate(error) from error
        raise AssertionError("unreachable")

    def _lock(self, name: str, wait: bool) -> Connection | None:
        function = "pg_advisory_lock" if wait else "pg_try_advisory_lock"
        try:
            connection = self._reader_engine.connect().execution_options(isolation_level="AUTOCOMMIT")
            try:
                got = connection.execute(text(f"SELECT {function}(:class, :key)"), lock_key(name)).scalar()
            except BaseException:
                connection.invalidate()
                connection.close()
                raise
        except SQLAlchemyError as error:
            raise translate(error) from error
        if wait or got:
            return connection
        connection.close()
        return None

    def _unlock(self, connection: Connection) -> None:
        try:
            connection.execute(text("SELECT pg_advisory_unlock_all()"))
        except SQLAlchemyError:
            connection.invalidate()  # the lock ended with the connection
        finally:
            connection.close()

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
        while not self._ended:
            first = self._left or self._queue.get()
            self._left = None
            if first is None:
                return
            self._write_group(first)
        if self._left is not None:
            self._write_group(self._left)

    def _write_group(self, first: _Write) -> None:
        """A transaction, again while that can help."""
        group, pause = [first], 0.05
        until = time.monotonic() + RETRY_S
        while (failed := self._transact(group)) is not None:
            error, undone = failed
            if not undone or self._closed or time.monotonic() + pause > until:
                cause = translate(error) if isinstance(error, SQLAlchemyError) else error
                for write in group:
                    write.error = cause
                break
            time.sleep(pause)
            pause = min(MAX_PAUSE_S, 2 * pause)
        _settle(group)

    def _transact(self, group: list[_Write]) -> tuple[BaseException, bool] | None:
        """One transaction of the group, which grows; the error that ended it, and whether it may be run again."""
        committing = False
        try:
            with self._writer_engine.connect() as connection, connection.begin():
                until = time.monotonic() + GROUP_S
                if group[0].alone:
                    lock_for_transaction(connection, WRITERS)
                for write in group:
                    _execute(connection, write)
                while len(group) < GROUP_SIZE and time.monotonic() < until:
                    more = self._next_of(group[0])
                    if more is None:
                        break
                    group.append(more)
                    _execute(connection, more)
                committing = True
        except BaseException as error:  # noqa: BLE001 -- whatever it was, every caller of the group must hear of it
            return error, not committing and (is_lost(error) or is_conflict(error))
        return None

    def _next_of(self, first: _Write) -> _Write | None:
        """What waits and may join. One that needs its turn joins only a transaction that began with it.

        Waiting for the turn while rows of the queue are locked could be a deadlock.
        """
        if self._left is None and not self._ended and not self._queue.empty():
            self._left = self._queue.get()
            self._ended = self._left is None
        if self._left is None or (self._left.alone and not first.alone):
            return None
        found, self._left = self._left, None
        return found


def _execute(connection: Connection, write: _Write) -> None:
    """Run one function in a savepoint. An error that ends the whole transaction is raised, others are kept."""
    if write.future.cancelled():
        return
    write.value = write.error = None
    connection.exec_driver_sql("SAVEPOINT one")
    try:
        write.value = write.function(connection)
    except BaseException as error:
        if is_lost(error) or is_conflict(error):
            raise
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
