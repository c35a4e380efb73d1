"""A worker: takes tasks from the queue, runs them at its place, and keeps their outcomes in the shared store.

The place is a pool of processes, or serverless targets (``overflow_worker.py``).

With the queue in the database it records events there. With a queue elsewhere it has no database: its events go to a
sink (``engines/event_queue.py``). It holds no lock and recovers nothing: what it leaves when it is killed comes back
when its leases end.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pixelmill import __version__, logs
from pixelmill.cores import usable_cores
from pixelmill.engines.cancels import CancelMarks, Cancels
from pixelmill.engines.engine import Engine
from pixelmill.engines.event_queue import EventSink, QueueSink
from pixelmill.engines.executor import Executor
from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.patience import when_there
from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.rabbit import RabbitQueue
from pixelmill.engines.reporter import Emit
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.events.bus import InProcessBus
from pixelmill.events.redis_client import key_of
from pixelmill.events.redis_news import RedisNews
from pixelmill.events.redis_stream import NAME, RedisEventSink
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import AutoGate, gate_named
from pixelmill.fleet.load import LoadHistory, LoadMonitor
from pixelmill.fleet.resting import Resting
from pixelmill.fleet.samplers import sampler_for
from pixelmill.jobs.database import Database
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.taskevents import event_to_json
from pixelmill.metrics import Metrics
from pixelmill.service.about import new_holder
from pixelmill.service.backends import CloudQueues, make_database, make_engine, make_executor, make_queues, run_bounds
from pixelmill.service.cancelling import Cancelled, hear_cancels
from pixelmill.service.exporter import Exporter
from pixelmill.service.fleet_history import FleetHistory
from pixelmill.service.history import History
from pixelmill.service.objects import open_objects, open_sources
from pixelmill.service.recorder import Recorder
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.telemetry import Telemetry
from pixelmill.storage.opening import close_store
from pixelmill.storage.store import ObjectStore
from pixelmill.targets.local import LocalPool
from pixelmill.targets.tiled import TiledPool

log = logging.getLogger(__name__)

GATE_S = 1.0
"""How often the gate is looked at, and, while it is shut, the queue."""
PREFETCH_ELSEWHERE = 2
"""Messages fetched ahead where a request takes long; in the database none: each that a killed worker had fetched has
lost an attempt."""


class Place(Protocol):
    """Where a worker runs its tasks: :class:`LocalPlace`, or ``OverflowPlace`` in ``overflow_worker.py``."""

    async def engine(self, post: Post, stack: AsyncExitStack) -> Engine:
        """Start what runs tasks (``stack`` ends it), and make the engine that takes them."""
        ...

    def busy(self) -> tuple[int, frozenset[str]]:
        """Tasks that run now, and the names of targets that cost money."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """What every worker has: settings, the shared store, the queue, where events go, and its counters.

    ``database``: open, where the queue is in it. ``queues``: those of a cloud or a broker, else None.
    """

    config: ServiceConfig
    store: ObjectStore
    queue: LeaseQueue
    queues: CloudQueues | None
    emit: Emit
    metrics: Metrics
    database: Database | None
    cancels: Cancels

    def executor(self) -> Executor:
        """What runs a task on a slot and keeps what came out."""
        return make_executor(self.config, self.store, open_sources(self.config))


class LocalPlace:
    """A pool of processes on this machine, and its gate."""

    def __init__(self, config: ServiceConfig) -> None:
        self.pool = LocalPool(
            workers=config.workers or usable_cores(),
            memory_bytes=config.memory_bytes,
            recycle_after=config.recycle_after,
            models=config.pool_models,
        )

    async def engine(self, post: Post, stack: AsyncExitStack) -> Engine:
        """See :class:`Place`."""
        config, pool = post.config, self.pool
        pool.on_restart(post.metrics.pool_restarted)
        await pool.start()
        stack.push_async_callback(pool.stop)
        # Nobody waits here in person: no slot is kept free.
        tiled = TiledPool(pool, config.tiled_config)
        stack.push_async_callback(tiled.end_runs)
        dispatcher = Dispatcher([tiled], reserved=0, max_waiting=config.max_waiting)
        post.metrics.before_render(lambda: post.metrics.set_targets(dispatcher.snapshot(), gates=False))
        gate = gate_named(config.gate)
        monitor = LoadMonitor(sampler_for(tiled.processes), LoadHistory(), gate.observe)
        sampling = asyncio.create_task(monitor.run(), name="load")
        stack.callback(sampling.cancel)
        # Azure counts what is leased with what waits.
        resting = Resting(gate, tells=not config.queue_url.startswith("azure:"))
        shuts = not isinstance(gate, AutoGate)
        engine = make_engine(
            config,
            post.queue,
            post.queues,
            dispatcher,
            post.executor(),
            post.emit,
            slots=pool.load().capacity,
            model_slots=pool.load().model_slots,
            prefetch=PREFETCH_ELSEWHERE if config.queue_url != "sql:" else 0,
            gate=gate,
            door=resting if shuts else None,
            cancels=post.cancels,
        )
        if shuts and isinstance(engine, LeasedEngine):
            stack.callback(asyncio.create_task(_keep_gate(resting, engine), name="gate").cancel)
        return engine

    def busy(self) -> tuple[int, frozenset[str]]:
        """See :class:`Place`."""
        return self.pool.load().running, frozenset()


async def _keep_gate(resting: Resting, engine: LeasedEngine) -> None:
    """While the gate is shut: does anybody else take what waits? Until cancelled."""
    took = True
    while True:
        if resting.shut:
            held = engine.held
            try:
                depth = await engine.depth()
            except PixelmillError as error:
                log.debug("the gate could not ask what others take: %s", error)
            except Exception:
                # A defect; but without these rounds a worker would rest for ever, and nobody would notice.
                log.exception("the gate could not ask what others take")
            else:
                resting.look(depth.waiting, depth.leased, max(held, engine.held))
        else:
            resting.opened()
        if (takes := resting.most >= 0) != took:
            took = takes
            if not takes:
                log.info("this worker takes no tasks: %s", resting.reason())
            elif resting.shut:
                log.info("this worker takes tasks although its gate is shut (%s): nobody else does", resting.reason())
            else:
                log.info("this worker takes tasks again")
            engine.wake()
        await asyncio.sleep(GATE_S)


class Worker:
    """The life of one worker process: ``start``, ``stop``."""

    def __init__(self, config: ServiceConfig, place: Place) -> None:
        self.config, self._place = config, place
        self.name = new_holder()
        self.metrics = Metrics(__version__)
        self._database: Database | None = None
        self._stack = AsyncExitStack()
        self._history = History()
        self.metrics.watch(self._history)

    async def start(self) -> None:
        """From the ground up: store, queue, pool, consumer."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        config, stack = self.config, self._stack
        telemetry = Telemetry(config.telemetry, self.metrics)
        telemetry.start()
        stack.push_async_callback(telemetry.stop)
        store = open_objects(config)
        stack.callback(close_store, store)
        await store.check()
        queues = make_queues(config, store)
        queue, sink, cancels = await self._queue(queues, store)
        post = Post(config, store, queue, queues, sink.emit, self.metrics, self._database, cancels)
        engine = await self._place.engine(post, stack)
        await engine.start()
        stack.push_async_callback(engine.stop, config.drain_s)
        if config.redis_url:
            news = RedisNews(config.redis_url, config.redis_prefix)
            stack.push_async_callback(news.close)
            work: list[Coroutine[Any, Any, None]] = []
            # With a database it records ends itself, and what overflow costs is known nowhere else.
            if queues is None or self._place.busy()[1]:
                work.append(FleetHistory(self._history, news, self.name).tell(self._place.busy))
            # RabbitMQ tells this itself.
            if queues is not None and not isinstance(queues.tasks, RabbitQueue):
                work.append(hear_cancels(news, engine.cancel))
            for one in work:
                stack.callback(asyncio.create_task(one, name="news").cancel)
        if config.metrics_port:
            exporter = Exporter(self.metrics, config.metrics_port)
            await exporter.start()
            stack.push_async_callback(exporter.stop)
        logs.event("worker.started", version=__version__, worker=self.name, pid=os.getpid())

    async def _queue(self, queues: CloudQueues | None, store: ObjectStore) -> tuple[LeaseQueue, EventSink, Cancels]:
        """The queue, open; where events go; who knows what was cancelled."""
        config = self.config
        if queues is None:
            self._database = database = make_database(config)
            self._stack.push_async_callback(database.close)
            await when_there(database.open, "the database")
            jobs = JobStore(
                database,
                bounds=run_bounds(config),
                retention_s=config.retention_s,
            )
            # Its subscribers are in the services, which follow the event log.
            cancelled = Cancelled(database, store)
            recorder = Recorder(jobs, InProcessBus(), self.metrics, came_late=cancelled.came_late)
            await EventLog(database).last_id()
            return SqlLeaseQueue(database, holder=self.name), recorder, cancelled
        for queue in (queues.tasks, queues.events):
            self._stack.push_async_callback(queue.close)
            await when_there(queue.open, "the queue")
        sink = make_sink(config, queues.events)
        if isinstance(sink, RedisEventSink):
            self._stack.push_async_callback(sink.close)
        # Through RabbitMQ workers are told; elsewhere they look when they extend their leases.
        told = isinstance(queues.tasks, RabbitQueue)
        return queues.tasks, sink, CancelMarks(store, None if told else config.lease_s / 3)

    async def stop(self) -> None:
        """Drain: take nothing more, let running tasks end within ``drain_s``, give the rest back."""
        logs.event("worker.draining", worker=self.name)
        await self._stack.aclose()
        logs.event("worker.stopped", worker=self.name)


def make_sink(config: ServiceConfig, events: LeaseQueue) -> EventSink:
    """Where ``events_url`` says that events go, by default Redis where there is one; raises :class:`ConfigError`."""
    wanted = config.events_url or ("redis:" if config.redis_url else "queue:")
    if wanted == "queue:":
        return QueueSink(events)
    if wanted == "redis:" and config.redis_url:
        return RedisEventSink(config.redis_url, event_to_json, stream=key_of(config.redis_prefix, NAME))
    raise ConfigError(
        "events_url is queue: (an events queue beside the task queues) or redis: (a stream in the Redis of redis_url, "
        "which must be set then). Set it with --events or PIXELMILL_EVENTS_URL.",
        setting="events_url",
    )


async def run_worker(config: ServiceConfig, place: Place | None = None) -> None:
    """Take tasks and run them at ``place``, by default here, until SIGTERM or SIGINT, which drain.

    The second one ends the process at once.
    """
    loop, wanted = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        wanted.set()

    worker = Worker(config, place or LocalPlace(config))
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, end)
    starting: asyncio.Task[Any] = asyncio.create_task(worker.start())
    waiting = asyncio.create_task(wanted.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()  # it may wait for a database that never comes
        with suppress(asyncio.CancelledError):
            await starting
        return
    await starting
    await waiting
    await worker.stop()
