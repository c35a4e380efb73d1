"""Which database and which queue the configuration names; nothing is opened here.

``queue_url``: ``sql:`` (in the database), ``azure:PREFIX``, ``azure://HOST/PREFIX``, ``sqs:PREFIX``, and for RabbitMQ,
whose engine is Celery, ``amqp://USER:PASSWORD@HOST:PORT/VHOST``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pixelmill.engines.azure import AzureTransport
from pixelmill.engines.cancels import Cancels
from pixelmill.engines.celery_engine import CeleryEngine
from pixelmill.engines.cloud import CloudLeaseQueue, Transport
from pixelmill.engines.engine import Engine
from pixelmill.engines.executor import Executor
from pixelmill.engines.lane import PARKED
from pixelmill.engines.leased import PREFETCH, Door, LeasedEngine
from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.rabbit import Address, RabbitQueue
from pixelmill.engines.reporter import Emit
from pixelmill.engines.sqs import SqsTransport
from pixelmill.errors import ConfigError, TaskTimeout
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import GatePolicy
from pixelmill.fleet.spill import Spill
from pixelmill.jobs.database import Database
from pixelmill.jobs.messages import RunBounds
from pixelmill.service.settings import ServiceConfig
from pixelmill.storage.named import SourceStores
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.store import ObjectStore

EVENTS = "events"
_PREFIX = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")


@dataclass(frozen=True, slots=True)
class CloudQueues:
    """The queue of tasks, and that of the events of workers without a database."""

    tasks: CloudLeaseQueue | RabbitQueue
    events: CloudLeaseQueue | RabbitQueue


def database_url(url: str, folder: Path) -> str:
    """The one that is configured, or SQLite in the data folder."""
    return url or f"sqlite:///{folder.resolve() / 'state.sqlite'}"


def make_database(config: ServiceConfig) -> Database:
    """The database; raises :class:`ConfigError` or :class:`MissingExtra`."""
    url = database_url(config.database_url, config.data)
    return Database(url, "FULL" if config.synchronous == "FULL" else "NORMAL")


def make_queues(config: ServiceConfig, store: ObjectStore) -> CloudQueues | None:
    """Queues of a cloud; None where the queue is in the database. Raises :class:`ConfigError`."""
    kind, _, rest = config.queue_url.partition(":")
    if kind == "sql" and not rest:
        return None
    if kind in {"amqp", "amqps"}:
        address = Address.parse(config.queue_url)
        return CloudQueues(RabbitQueue(address), RabbitQueue(address.renamed(EVENTS), queues=("tasks",)))
    if kind not in _TRANSPORTS:
        raise _unclear()
    place, _, prefix = rest.removeprefix("//").partition("/") if rest.startswith("//") else ("", "", rest)
    if not _PREFIX.fullmatch(prefix):
        raise _unclear()
    make = _TRANSPORTS[kind]
    return CloudQueues(
        CloudLeaseQueue(make(config, place), prefix, store=store),
        CloudLeaseQueue(make(config, place), f"{prefix}-{EVENTS}", queues=("tasks",), store=store),
    )


def make_engine(
    config: ServiceConfig,
    queue: LeaseQueue,
    queues: CloudQueues | None,
    dispatcher: Dispatcher,
    executor: Executor,
    emit: Emit,
    *,
    slots: int,
    model_slots: int = 0,
    prefetch: int = PREFETCH,
    gate: GatePolicy | None = None,
    spill: Spill | None = None,
    door: Door | None = None,
    cancels: Cancels | None = None,
) -> Engine:
    """Celery's for RabbitMQ; for every other queue the leased one. ``spill``: of an overflow worker.

    ``model_slots``: tasks that run beside those of ``slots``, with learned models.

    A gate pauses Celery's by itself (``gate``), and the leased one through its ``door``.
    """
    if queues is not None and isinstance(queues.tasks, RabbitQueue):
        # Overflow fetches nothing ahead: a worker of our own may come free first.
        held = slots + max(slots, 4) + model_slots + PARKED if spill is None else slots
        return CeleryEngine(
            queues.tasks, dispatcher, executor, emit, prefetch=held, gate=gate, spill=spill, cancels=cancels
        )
    return LeasedEngine(
        queue,
        dispatcher,
        executor,
        emit,
        visibility_s=config.lease_s,
        prefetch=prefetch,
        door=spill or door,
        cancels=cancels,
    )


def make_executor(config: ServiceConfig, store: ObjectStore, sources: SourceStores) -> Executor:
    """With RabbitMQ a hard time limit costs an attempt, for machines of a fleet are not alike."""
    fleet = config.queue_url.startswith("amqp")
    return Executor(
        store,
        config.source_roots,
        sources,
        retried=(TaskTimeout,) if fleet else (),
        spec=StoreSpec(config.store or str(config.data / "objects"), config.store_options),
    )


def run_bounds(config: ServiceConfig) -> RunBounds:
    """Bounds of the tasks of this installation."""
    return RunBounds(config.limits, config.timeout_s, config.max_attempts, config.tiled, config.mpi.max_ranks)


def _azure(config: ServiceConfig, host: str) -> Transport:
    if not host and not config.azure_connection:
        raise ConfigError(
            "queue_url names Azure queues, and no account: set PIXELMILL_AZURE_CONNECTION to its connection string, or "
            "name it as azure://ACCOUNT.queue.core.windows.net/PREFIX to use a managed identity.",
            setting="queue_url",
        )
    return AzureTransport("" if host else config.azure_connection, f"https://{host}")


def _sqs(_config: ServiceConfig, host: str) -> Transport:
    if host:
        raise _unclear()
    return SqsTransport()


_TRANSPORTS: Mapping[str, Callable[[ServiceConfig, str], Transport]] = {"azure": _azure, "sqs": _sqs}


def _unclear() -> ConfigError:
    return ConfigError(
        "queue_url is sql:, azure:PREFIX, azure://HOST/PREFIX, sqs:PREFIX or amqp://HOST/VHOST; PREFIX has up to 40 of "
        "a-z, 0-9 and '-'. Set it with PIXELMILL_QUEUE_URL; see docs/configuration.md.",
        setting="queue_url",
    )
