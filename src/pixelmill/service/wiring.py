"""Builds the parts of one embedded service, starts them from the ground up and stops them in reverse."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from typing import Any, TypeVar

from pixelmill import __version__, logs
from pixelmill.engines.executor import Executor
from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import PixelmillError
from pixelmill.events.bus import InProcessBus
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.load import LoadHistory, LoadMonitor, PsutilSampler
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.messages import RunBounds
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.tokens import Tokens
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.jobs.uploads import Uploads
from pixelmill.metrics import Metrics
from pixelmill.service.housekeeping import Housekeeping
from pixelmill.service.lock import DataLock
from pixelmill.service.parameters import ImageParameters
from pixelmill.service.recorder import Recorder
from pixelmill.service.results import Results
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.folder import FolderStore
from pixelmill.targets.local import LocalPool

T = TypeVar("T")

INTERACTIVE_SLOTS = 1
"""Pool processes beyond those for queued work: one is always free for a person who waits."""


class Wiring:
    """The parts of one service, by name. Nothing is started, locked or opened before :meth:`start`."""

    def __init__(self, config: ServiceConfig) -> None:
        self._config = config
        self._stack = AsyncExitStack()
        folder = config.data
        bounds = RunBounds(config.limits, config.timeout_s, config.max_attempts)
        full = config.synchronous == "FULL"
        self._lock = DataLock(folder)
        self.store = FolderStore(folder / "objects", fsync=full)
        self.database = Database(f"sqlite:///{folder.resolve() / 'state.sqlite'}", "FULL" if full else "NORMAL")
        self.jobs = JobStore(self.database, bounds=bounds, retention_s=config.retention_s)
        self.uploads = Uploads(self.database)
        self.tokens = Tokens(self.database)
        self.event_log = EventLog(self.database)
        self.upkeep = Upkeep(self.jobs)
        self.bus = InProcessBus()
        self.metrics = Metrics(__version__)
        self.metrics.before_render(self._set_slots)
        self.queue = SqlLeaseQueue(self.database)
        workers = (config.workers or os.cpu_count() or 1) + INTERACTIVE_SLOTS
        self.pool = LocalPool(workers=workers, memory_bytes=config.memory_bytes, recycle_after=config.recycle_after)
        self.dispatcher = Dispatcher([self.pool], reserved=INTERACTIVE_SLOTS, max_waiting=config.max_waiting)
        self.recorder = Recorder(self.jobs, self.bus, self.metrics)
        self.engine = LeasedEngine(self.queue, self.dispatcher, Executor(self.store), self.recorder.emit)
        self.parameters = ImageParameters(self.store, self.uploads, config.source_roots, config.limits)
        self.results = Results(self.jobs, self.store)
        self.load = LoadHistory()
        self._monitor = LoadMonitor(PsutilSampler(self.pool.processes), self.load)
        self.housekeeping = Housekeeping(self)

    async def start(self) -> None:
        """From the ground up: folder, database, what a crash left, pool, consumer, housekeeping."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        stack = self._stack
        self._lock.acquire()
        stack.callback(self._lock.release)
        stack.callback(self.store.close)
        await self.store.sweep()
        await self.store.check()
        await self.database.open()
        stack.push_async_callback(self.database.close)
        recovered = await self.queue.recover()
        found = await self.upkeep.reconcile(recovered)
        if found.interrupted or found.requeued:
            logs.event("recovery.requeued", interrupted=found.interrupted, requeued=found.requeued, stale=found.stale)
        await self.pool.start()
        stack.push_async_callback(self.pool.stop)
        await self.engine.start()
        stack.push_async_callback(self.engine.stop, self._config.drain_s)
        stack.callback(self.bus.close)
        await self._background(self._monitor.run, "load")
        await self._background(self.housekeeping.run, "housekeeping")
        logs.event("service.started", version=__version__, data=str(self._config.data), pid=os.getpid())

    def _set_slots(self) -> None:
        load = self.pool.load()
        self.metrics.set_slots(self.pool.name, load.capacity, load.running)

    async def _background(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        async def run() -> None:
            await work()

        task = asyncio.create_task(run(), name=name)

        async def end() -> None:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

        self._stack.push_async_callback(end)

    async def stop(self) -> None:
        """In reverse: streams, consumer (running tasks may end), pool, database, lock."""
        await self._stack.aclose()
        logs.event("service.stopped", pid=os.getpid())

    @staticmethod
    async def in_thread(function: Callable[[], T]) -> T:
        """Run something that blocks on a disk."""
        return await asyncio.to_thread(function)

    def node(self) -> dict[str, Any]:
        """This machine: its load now and in the last hour, its targets and what waits for them."""
        return {
            "name": socket.gethostname(),
            "version": __version__,
            "cores": os.cpu_count(),
            "now": self.load.last(),
            "dispatcher": self.dispatcher.snapshot(),
            "history": self.load.snapshot(),
        }

    async def checks(self) -> dict[str, dict[str, Any]]:
        """What must be true to do work, each with a sentence."""
        pool = self.pool.load()
        checks: dict[str, dict[str, Any]] = {
            "pool": {
                "ok": pool.healthy,
                "detail": pool.reason or f"{pool.running} of {pool.capacity} processes are busy.",
            }
        }
        for name, check in {"store": self.store.check, "database": self._check_database}.items():
            try:
                await check()
            except PixelmillError as error:
                checks[name] = {"ok": False, "detail": str(error)}
            else:
                checks[name] = {"ok": True, "detail": "It can be written and read."}
        waiting = self.dispatcher.waiting
        room = waiting < self._config.max_waiting
        checks["saturation"] = {"ok": room, "detail": f"{waiting:,} requests wait for a slot."}
        return checks

    async def _check_database(self) -> None:
        await self.event_log.last_id()
