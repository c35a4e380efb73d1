"""The parts of one embedded service, made and put together; nothing is started, locked or opened here."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

from pixelmill import __version__
from pixelmill.cores import usable_cores
from pixelmill.engines.cloud import CloudLeaseQueue
from pixelmill.engines.outbox import CheckedQueue, Outbox
from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import gate_named
from pixelmill.fleet.load import LoadHistory, LoadSample
from pixelmill.fleet.nodes import Nodes
from pixelmill.jobs.dead_letters import DeadLetters
from pixelmill.jobs.eventlog import EventLog
from pixelmill.jobs.release import Releases
from pixelmill.jobs.saved import SavedPipelines
from pixelmill.jobs.search import TaskSearch
from pixelmill.jobs.sessions import Sessions
from pixelmill.jobs.store import JobStore
from pixelmill.jobs.tokens import Tokens
from pixelmill.jobs.upkeep import Upkeep
from pixelmill.jobs.uploads import Uploads
from pixelmill.jobs.webhooks import Webhooks
from pixelmill.metrics import Metrics
from pixelmill.service.about import new_holder
from pixelmill.service.backends import make_database, make_engine, make_executor, make_queues, run_bounds
from pixelmill.service.cancelling import Cancelled, Tell
from pixelmill.service.history import History
from pixelmill.service.interactive import Interactive
from pixelmill.service.lock import DataLock
from pixelmill.service.loops import Releaser
from pixelmill.service.montage import Montages
from pixelmill.service.objects import open_objects, open_sources
from pixelmill.service.overflow import Overflow
from pixelmill.service.parameters import ImageParameters
from pixelmill.service.recorder import Recorder
from pixelmill.service.results import Results
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.shared import Shared
from pixelmill.service.signing import LinkSigner
from pixelmill.service.thumbnails import Thumbnails
from pixelmill.targets.local import LocalPool
from pixelmill.targets.tiled import TiledPool

T = TypeVar("T")
INTERACTIVE_SLOTS = 1
"""Pool processes beyond those for queued work: one is always free for a person who waits."""


class Parts:
    """The parts by name.

    ``blobs`` is held while garbage is removed, and from storing an image by its content to the row that refers to it:
    between the two nothing else says that it is needed.
    """

    def __init__(self, config: ServiceConfig) -> None:
        self.config = config
        self.blobs = asyncio.Lock()
        self._search = ThreadPoolExecutor(1, thread_name_prefix="pixelmill-sources")
        folder = config.data
        bounds = run_bounds(config)
        self.store = open_objects(config)
        self.sources = open_sources(config)
        self.link_signer = LinkSigner(config.link_keys, folder)
        self.database = make_database(config)
        self.lock = DataLock(folder, shared=self.database.shared)
        self.cloud = make_queues(config, self.store)
        self.jobs = JobStore(self.database, bounds=bounds, enqueue=self.cloud is None, retention_s=config.retention_s)
        self.dead_letters = DeadLetters(self.jobs)
        self.uploads = Uploads(self.database)
        self.tokens = Tokens(self.database)
        self.sessions = Sessions(self.database)
        self.saved = SavedPipelines(self.database)
        self.found = TaskSearch(self.database)
        self.event_log = EventLog(self.database)
        self.webhooks = Webhooks(self.database)
        self.history = History()
        self.upkeep = Upkeep(self.jobs)
        self.shared = Shared(config.redis_url, config.redis_prefix)
        self.bus = self.shared.bus
        self.metrics = Metrics(__version__)
        self.metrics.watch(self.history)
        self.metrics.before_render(self._set_slots)
        # With SQLite we hold the folder's lock: whoever had this name before is dead. Other names are of processes
        # that may live.
        self.sql_queue = SqlLeaseQueue(self.database, holder=new_holder() if self.database.shared else "")
        self.queue: LeaseQueue = self.sql_queue
        self.releaser: Releaser | None = None
        if self.cloud is not None:
            self.releases = Releases(self.jobs)
            self.queue = CheckedQueue(self.cloud.tasks, self.releases)
            self.releaser = Releaser(Outbox(self.releases, self.queue), self.database, self._wake_engine)
        workers = (config.workers or usable_cores()) + INTERACTIVE_SLOTS
        self.pool = LocalPool(
            workers=workers,
            memory_bytes=config.memory_bytes,
            recycle_after=config.recycle_after,
            models=config.pool_models,
        )
        self.pool.on_restart(self.metrics.pool_restarted)
        self.gate = gate_named(config.gate)
        self.tiled = TiledPool(self.pool, config.tiled_config)
        self.dispatcher = Dispatcher(
            [self.tiled],
            reserved=INTERACTIVE_SLOTS,
            max_waiting=config.max_waiting,
            gates={self.pool.name: self.gate},
            latency_s=config.overflow.latency_s if config.overflow.targets else None,
        )
        self.nodes = Nodes(
            self.dispatcher, gate=config.joined_gate, max_reply=config.memory_bytes, taken=(socket.gethostname(),)
        )
        self.overflow = Overflow(
            config.overflow,
            self.database,
            self.store,
            self.dispatcher,
            self.queue,
            self.metrics,
            task_timeout_s=config.timeout_s,
        )
        self.interactive = Interactive(self.dispatcher, self.metrics, config.interactive_wait_s)
        self.montages = Montages(self.jobs, self.store, self.dispatcher, self.interactive, config)
        cancelled = Cancelled(self.database, self.store)
        self.recorder = Recorder(self.jobs, self.bus, self.metrics, self._nudge, came_late=cancelled.came_late)
        self.engine = make_engine(
            config,
            self.queue,
            self.cloud,
            self.dispatcher,
            make_executor(config, self.store, self.sources),
            self.recorder.emit,
            slots=workers - INTERACTIVE_SLOTS,
            model_slots=self.pool.load().model_slots,
            cancels=cancelled,
        )
        # Workers of the other queues have the database, or hear of it through the broker.
        leased_elsewhere = self.cloud is not None and isinstance(self.cloud.tasks, CloudLeaseQueue)
        self._tell_workers = Tell(self.store, self.shared.news) if leased_elsewhere else None
        self.parameters = ImageParameters(
            self.store,
            self.uploads,
            config.source_roots,
            config.limits,
            self.sources,
            config.fonts,
            config.models_folder,
            shared=self.database.shared,
        )
        self.results = Results(self.jobs, self.store, config.source_roots, self.sources)
        self.thumbnails = Thumbnails(self.store, self.results, self.dispatcher, config)
        self.load = LoadHistory()

    def observe(self, sample: LoadSample) -> None:
        """A sample of the load was taken: the gate may open or shut, and work go elsewhere."""
        self.gate.observe(sample)
        self.dispatcher.poke()
        self.overflow.watch.look()

    @asynccontextmanager
    async def keep_blobs(self) -> AsyncIterator[None]:
        """Hold ``blobs``, in this process and in all others of the database."""
        async with self.blobs, self.database.hold("blobs"):
            yield

    async def stop_tasks(self, messages: Sequence[str]) -> None:
        """These tasks were cancelled (ids of their messages): stop them, wherever they run."""
        await self.engine.cancel(messages)
        if self._tell_workers is not None:
            await self._tell_workers(messages)

    def wake(self) -> None:
        """Tasks were added."""
        self.engine.wake()
        self._nudge()

    def _wake_engine(self) -> None:
        self.engine.wake()

    def _nudge(self) -> None:
        if self.releaser is not None:
            self.releaser.nudge()

    async def in_search(self, function: Callable[[Sequence[str]], T], sources: Sequence[str]) -> T:
        """Look through folders in a thread of its own: long searches wait for each other, and hold up nothing else."""
        return await asyncio.get_running_loop().run_in_executor(self._search, function, sources)

    def _set_slots(self) -> None:
        self.metrics.set_targets(self.dispatcher.snapshot())
        self.metrics.set_peak(self.dispatcher.peak_ever)
        self.metrics.set_nodes(
            {socket.gethostname(): self.load.last()}
            | {member.node.name: member.history.last() for member in self.nodes.members()},
            {member.node.name: member.node.link.latency_s for member in self.nodes.members()},
            self.nodes.lost,
        )
