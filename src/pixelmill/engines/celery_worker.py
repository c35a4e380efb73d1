"""The Celery worker in a thread of this process: it keeps the connection, receives tasks, and acknowledges them late.

It runs no task: what arrives is handed to the event loop (``celery_feed.py``), where our own pool runs it, with its
hard limits. So Celery's pool has no processes, and its settings for late acknowledgment say what is done here:
a message is acknowledged once the outcome is stored and told, never because a task failed or its time was up.

Celery keeps its state in globals: one such worker in a process, at a time.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any, Protocol
from urllib.parse import quote

from pixelmill.engines.rabbit import CANCELLED, LOST, TASK_QUEUES, Address, arguments
from pixelmill.errors import ConfigError, MissingExtra

log = logging.getLogger(__name__)

HEARTBEAT_S = 30
RESTART_S = 1.0
STOP_S = 20.0
ANSWER_S = 5.0
STREAM_PREFETCH = 100

_only_one = threading.Lock()


class Inbox(Protocol):
    """What the event loop is told. All is called there."""

    def arrived(self, messages: Sequence[Any], *, lost: bool = False) -> None:
        """Messages as the client library gives them; ``lost``: from the queue of those delivered in vain."""
        ...

    def cancelled(self, ids: Sequence[str]) -> None:
        """These messages are unwanted."""
        ...

    def caught_up(self) -> None:
        """All was told that had been cancelled before this worker connected."""
        ...


def make_app(address: Address, consumer_priority: int = 0, names: Sequence[str] = (LOST, *TASK_QUEUES)) -> Any:
    """The Celery app: the queues of those names, and the settings that lose nothing. Raises :class:`MissingExtra`."""
    try:
        from celery import Celery
        from kombu import Exchange, Queue
    except ImportError as error:
        raise MissingExtra('The Celery engine needs Celery: pip install "pixelmill[fleet]"') from error
    one = address
    user, password, vhost = (quote(part, safe="") for part in (one.user, one.password, one.vhost))
    app = Celery(
        "pixelmill",
        broker=f"pyamqp://{user}:{password}@{one.host}:{one.port}/{vhost}",
        set_as_current=False,
        fixups=[],
    )
    app.conf.update(
        task_queues=[
            Queue(
                one.queue(name),
                Exchange(""),
                routing_key=one.queue(name),
                durable=True,
                queue_arguments=arguments(one, name),
                consumer_arguments={"x-priority": consumer_priority},
            )
            for name in names
        ],
        task_default_queue=one.queue(TASK_QUEUES[1]),
        task_create_missing_queues=False,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=False,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        # Celery's own tasks would be cancelled; it has none, and otherwise warns at each loss.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        broker_use_ssl=one.tls or None,
        broker_transport_options={"confirm_publish": True},
        broker_heartbeat=HEARTBEAT_S,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
    )
    return app


def is_alive(message: Any) -> bool:
    """Whether the connection that brought it stands; else the broker has given it to somebody else."""
    return message.channel is not None and message.channel.connection is not None


class CeleryWorker:
    """One Celery worker. ``prefetch``: unacknowledged messages of each task queue. Belongs to one event loop.

    ``consumer_priority``: RabbitMQ gives tasks to consumers of a lower one only while no other takes any.
    ``queues``: the names of those it may consume; it begins with all of them, unless it was told otherwise.
    """

    def __init__(
        self,
        address: Address,
        inbox: Inbox,
        *,
        prefetch: int,
        consumer_priority: int = 0,
        queues: Sequence[str] = (LOST, *TASK_QUEUES),
    ) -> None:
        self._address, self._inbox, self._prefetch = address, inbox, prefetch
        self._app = make_app(address, consumer_priority, queues)
        self._queues = tuple(queues)
        self._consumed = frozenset(queues)
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._consumer: Any = None
        self._stopping = False
        self._hello = ""
        self._arrived: deque[tuple[Any, bool]] = deque()
        self._told = False
        self._actions: deque[Callable[[], object]] = deque()
        self._asked = False

    # -- called in the event loop ------------------------------------------------------------------

    def start(self) -> None:
        """Connect, and go on connecting; raises :class:`ConfigError` where this process has one already."""
        if not _only_one.acquire(blocking=False):
            raise ConfigError("This process runs a Celery worker already; start another process for another one.")
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, name="pixelmill-celery", daemon=True)
        self._thread.start()

    def ack(self, messages: Sequence[Any]) -> None:
        """They are done with."""
        self._soon(lambda: self._settle(messages, "basic_ack"))

    def reject(self, messages: Sequence[Any]) -> None:
        """The broker shall deliver them again, and count it."""
        self._soon(lambda: self._settle(messages, "basic_reject", requeue=True))

    @property
    def paused(self) -> bool:
        """Whether consumption is paused."""
        return not self._consumed

    @property
    def consumed(self) -> frozenset[str]:
        """Names of the queues that are consumed, or will be when the connection stands."""
        return self._consumed

    def pause(self) -> None:
        """Cancel the consumers: the broker gives tasks to others at once. The connection stays, and so do acks."""
        self.consume(())

    def resume(self) -> None:
        """Consume again."""
        self.consume(self._queues)

    def consume(self, names: Iterable[str]) -> None:
        """Consume these queues and no others."""
        self._consumed = frozenset(names)
        self._soon(self._consume_or_not)

    async def settled(self) -> None:
        """Return when what was asked for so far is done; at most after a while, if the broker is away."""
        done = asyncio.Event()
        self._soon(lambda: self._loop.call_soon_threadsafe(done.set))
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await done.wait()

    async def stop(self) -> None:
        """End the worker; what is not acknowledged goes back."""
        if self._thread is None:
            return
        from celery.worker import state

        self._stopping = True
        state.should_stop = 0
        self._soon(lambda: None)
        await asyncio.to_thread(self._thread.join, STOP_S)
        if self._thread.is_alive():
            log.warning("the Celery worker did not end within %.0f s; it ends with the process", STOP_S)
        else:
            state.should_stop = None
            _only_one.release()
        self._thread = None

    def _soon(self, action: Callable[[], object]) -> None:
        self._actions.append(action)
        consumer = self._consumer
        if consumer is not None and consumer.hub is not None and not self._asked:
            self._asked = True
            consumer.hub.call_soon(self._act)  # which wakes the worker's thread

    # -- in the worker's thread ----------------------------------------------------------------------

    def _run(self) -> None:
        from kombu.asynchronous import set_event_loop

        while not self._stopping:
            set_event_loop(None)
            try:
                self._make().start()
            except Exception:
                log.exception("the Celery worker ended in an unexpected error")
            self._consumer = None
            if not self._stopping:
                log.warning("the Celery worker ended, and is started again in %.0f s", RESTART_S)
                time.sleep(RESTART_S)
        set_event_loop(None)

    def _make(self) -> Any:
        from celery.concurrency.base import BasePool
        from celery.worker import WorkController

        return WorkController(
            app=self._app,
            hostname=f"pixelmill-{secrets.token_hex(4)}@%h",
            pool_cls=BasePool,
            concurrency=self._prefetch,
            consumer_cls=_consumer_class(self),
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )

    def _act(self) -> None:
        """What was asked for, in order (Celery's hub keeps none)."""
        self._asked = False
        while self._actions:
            self._actions.popleft()()

    def receive(self, message: Any) -> None:
        """A message came (called by the consumer)."""
        lost = message.delivery_info.get("routing_key") == self._address.queue(LOST)
        self._arrived.append((message, lost))
        if not self._told:
            self._told = True
            self._tell(self._hand_over)

    def _hand_over(self) -> None:
        """In the event loop: all that has come meanwhile, in one turn."""
        self._told = False
        while self._arrived:
            message, lost = self._arrived.popleft()
            self._inbox.arrived([message], lost=lost)

    def _tell(self, function: Callable[..., object], *values: object) -> None:
        with suppress(RuntimeError):  # the loop is closed: the process ends
            self._loop.call_soon_threadsafe(function, *values)

    def connected(self, consumer: Any) -> None:
        """A connection stands (called by the step below): read what was cancelled, from the beginning."""
        self._consumer = consumer
        self._hello = secrets.token_hex(8)
        stream = self._address.queue(CANCELLED)
        channel = consumer.connection.channel()
        channel.queue_declare(stream, durable=True, auto_delete=False, arguments=arguments(self._address, CANCELLED))
        channel.basic_qos(0, STREAM_PREFETCH, False)
        channel.basic_consume(stream, callback=self._read, arguments={"x-stream-offset": "first"})
        # What stands in the stream before our greeting was told before we came.
        greeting = channel.prepare_message(
            json.dumps({"hello": self._hello}), content_type="application/json", content_encoding="utf-8"
        )
        channel.basic_publish(greeting, exchange="", routing_key=stream)

    def _read(self, message: Any) -> None:
        message.channel.basic_ack(message.delivery_tag)
        try:
            record = json.loads(message.body)
            ids = [str(one) for one in record.get("cancelled", ())]
        except (ValueError, TypeError, AttributeError) as error:
            log.warning("a strange message among the cancelled ones: %s", error)
            return
        if ids:
            self._tell(self._inbox.cancelled, ids)
        if record.get("hello") == self._hello:
            self._tell(self._inbox.caught_up)

    def _settle(self, messages: Sequence[Any], how: str, **options: Any) -> None:
        for message in messages:
            if is_alive(message):
                getattr(message.channel, how)(message.delivery_tag, **options)

    def _consume_or_not(self) -> None:
        consumer = self._consumer and self._consumer.task_consumer
        if not consumer:
            return
        for name in self._queues:
            queue = self._app.amqp.queues[self._address.queue(name)]
            if name not in self._consumed:
                consumer.cancel_by_queue(queue)
            elif all(known.name != queue.name for known in consumer.queues):
                consumer.add_queue(queue)
        consumer.consume()  # queues that are consumed already are left alone

    def register(self, hub: Any) -> None:
        """The loop is about to run, and consumes then what the consumer knows: never what is not to be consumed."""
        self._consume_or_not()
        self._asked = True
        self._actions.append(self._consume_or_not)
        hub.call_soon(self._act)


def _consumer_class(worker: CeleryWorker) -> Any:
    """Celery's consumer with the least steps, our own one, and our handler of messages.

    Without the step for delayed delivery: it declares 28 exchanges and queues for what we never send.
    """
    from celery import bootsteps
    from celery.worker.consumer import Consumer

    class Link(bootsteps.StartStopStep):  # type: ignore[misc]  # Celery has no types
        """The gate's step: it pauses and resumes consumption, and brings what was cancelled."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def start(self, c: Any) -> None:
            worker.connected(c)

        def register_with_event_loop(self, c: Any, hub: Any) -> None:
            del c
            worker.register(hub)

    class LeanConsumer(Consumer):  # type: ignore[misc]  # Celery has no types
        """Hands over messages as they are."""

        class Blueprint(Consumer.Blueprint):  # type: ignore[misc]  # Celery has no types
            """The steps."""

            default_steps = (
                "celery.worker.consumer.connection:Connection",
                "celery.worker.consumer.events:Events",
                "celery.worker.consumer.mingle:Mingle",
                "celery.worker.consumer.tasks:Tasks",
                "celery.worker.consumer.consumer:Evloop",
                Link,
            )

        def create_task_handler(self, *_: object, **__: object) -> Callable[[Any], None]:
            return worker.receive

    return LeanConsumer
