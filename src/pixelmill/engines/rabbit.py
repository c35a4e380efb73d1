"""Queues on RabbitMQ as a lease queue: quorum queues, confirmed messages, dead letters with their reasons.

The service sends tasks with it, workers events; what was cancelled is told through it. Tasks are *received* by Celery
(``celery_worker.py``); here messages are pulled one by one, which is enough for events and dead letters. A lease lasts
as long as the connection.

Names after the prefix: ``-interactive``, ``-normal``, ``-batch`` (tasks, one a priority), ``-lost`` (where the broker
puts what it delivered ``DELIVERY_LIMIT`` times in vain; a worker of our own gives it up), ``-dead`` (dead letters),
``-cancelled`` (a stream: all workers read all of it), ``-overflow`` (always empty: who consumes it is an overflow
worker that would take tasks, and so is counted).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from pixelmill.engines.celery_message import Parcel
from pixelmill.engines.queue import DeadLetter, Lease, Message, QueueDepth, QueueTraits
from pixelmill.errors import (
    ConfigError,
    JobError,
    MissingExtra,
    PixelmillError,
    StorageDenied,
    StorageUnavailable,
)

log = logging.getLogger(__name__)
T = TypeVar("T")

PREFIX = "pixelmill"
TASK_QUEUES = ("interactive", "normal", "batch")
LOST, DEAD, CANCELLED, OVERFLOW = "lost", "dead", "cancelled", "overflow"
DELIVERY_LIMIT = 20
"""Deliveries of a task that end without a word, before the broker sets it aside. They include those of workers that
only had fetched it ahead, hence many. A queue's arguments can't be changed later, so this is no setting."""
UNLIMITED = 1_000_000_000
"""Delivery limit of queues whose messages are looked at often (RabbitMQ 4 has one of 20 where none is given)."""
IN_FLIGHT = 200
"""Messages sent ahead of their confirmations."""
ANSWER_S = 20.0
CONNECT_S = 5.0
MAX_SCAN = 10_000
STREAM = {
    "x-queue-type": "stream",
    "x-max-age": "7D",
    "x-max-length-bytes": 20_000_000,
    "x-stream-max-segment-size-bytes": 1_000_000,
}
IDS_A_MESSAGE = 500


@dataclass(frozen=True, slots=True)
class Address:
    """Where the broker is, and what its queues are called."""

    host: str
    port: int
    user: str
    password: str
    vhost: str
    tls: bool
    prefix: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Of ``amqp://USER:PASSWORD@HOST:PORT/VHOST?prefix=PREFIX``; raises :class:`ConfigError`."""
        try:
            parts = urlsplit(url)
            tls = {"amqp": False, "amqps": True}[parts.scheme]
            host, port = parts.hostname or "", parts.port or (5671 if tls else 5672)
            prefix = parse_qs(parts.query).get("prefix", [PREFIX])[0]
        except (ValueError, KeyError) as error:
            raise _unclear() from error
        if not host or not prefix.replace("-", "").isalnum() or len(prefix) > 40:
            raise _unclear()
        user, password = unquote(parts.username or "guest"), unquote(parts.password or "guest")
        return cls(host, port, user, password, unquote(parts.path.removeprefix("/")) or "/", tls, prefix)

    def queue(self, name: str) -> str:
        """The full name of a queue."""
        return f"{self.prefix}-{name}"

    def renamed(self, suffix: str) -> Address:
        """The same broker, other queues."""
        return replace(self, prefix=f"{self.prefix}-{suffix}")


@dataclass(frozen=True, slots=True)
class Crowd:
    """``own``: workers of our own that take tasks. ``waiting``: tasks that wait, by priority."""

    own: int
    waiting: Mapping[int, int]


def arguments(address: Address, name: str) -> dict[str, Any]:
    """With which a queue is declared."""
    if name == CANCELLED:
        return dict(STREAM)
    if name in {LOST, DEAD, OVERFLOW}:
        return {"x-queue-type": "quorum", "x-delivery-limit": UNLIMITED}
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": DELIVERY_LIMIT,
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": address.queue(LOST),
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",  # which at-least-once asks for
    }


class RabbitQueue:
    """See :class:`pixelmill.engines.queue.LeaseQueue`. One connection, in one thread; it reconnects by itself.

    Raises :class:`ConfigError` for a wrong address and :class:`MissingExtra` without Celery's AMQP client.
    """

    traits = QueueTraits(atomic=False, deduplicates=False, ranks=False, exact=False, aside_s=0.0)

    def __init__(
        self, address: Address, *, queues: Sequence[str] = TASK_QUEUES, now: Callable[[], float] = time.time
    ) -> None:
        try:
            import amqp
        except ImportError as error:
            raise MissingExtra('RabbitMQ needs Celery: pip install "pixelmill[fleet]"') from error
        self._amqp: Any = amqp
        self.address = address
        self._names = tuple(queues)
        self._queues = [address.queue(name) for name in queues]
        self._dead = address.queue(DEAD)
        self._now = now
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="pixelmill-rabbit")
        self._closed = False
        # All below belong to that thread.
        self._connection: Any = None
        self._channel: Any = None
        self._generation = 0
        self._sent = 0
        self._unconfirmed: set[int] = set()
        self._refused: list[str] = []

    async def open(self) -> None:
        """Make the queues that aren't there."""
        await self._call(lambda _: None)

    async def close(self) -> None:
        """End the connection; what was received and not settled goes back."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._threads, self._drop)
            self._threads.shutdown(wait=False)

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # -- the connection, in its thread -------------------------------------------------------------

    async def _call(self, work: Callable[[Any], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._work, work)

    def _work(self, work: Callable[[Any], T]) -> T:
        """Do something with the channel; once more with a new one where the connection had gone."""
        fresh = self._connection is None
        try:
            return self._try(work)
        except StorageUnavailable:
            if fresh:
                raise
        return self._try(work)

    def _try(self, work: Callable[[Any], T]) -> T:
        try:
            if self._connection is None:
                self._connect()
            return work(self._channel)
        except PixelmillError:
            self._drop()
            raise
        except self._amqp.exceptions.PreconditionFailed as error:
            self._drop()
            if "inequivalent arg" not in str(error.reply_text):  # an acknowledgment that came too late, say
                raise StorageUnavailable(f"RabbitMQ ended the channel: {error.reply_text}.") from error
            raise ConfigError(
                f"RabbitMQ has a queue {self.address.prefix}-… of another kind ({error.reply_text}). Delete it, or use "
                "another prefix: amqp://HOST/VHOST?prefix=NAME.",
                setting="queue_url",
            ) from error
        except (self._amqp.exceptions.AccessRefused, self._amqp.exceptions.NotAllowed) as error:
            self._drop()
            raise StorageDenied(f"RabbitMQ at {self.address.host} refused access: {error}.") from error
        except (self._amqp.exceptions.AMQPError, OSError, AttributeError) as error:  # the last: a torn connection
            self._drop()
            raise StorageUnavailable(f"RabbitMQ at {self.address.host} can't be reached: {error}.") from error

    def _connect(self) -> None:
        one = self.address
        self._connection = self._amqp.Connection(
            host=f"{one.host}:{one.port}",
            userid=one.user,
            password=one.password,
            virtual_host=one.vhost,
            ssl=one.tls,
            connect_timeout=CONNECT_S,
            # The handshake too must end; drain_events is given its own time.
            read_timeout=ANSWER_S,
            write_timeout=ANSWER_S,
        )
        self._connection.connect()
        # Nothing is sent while we are idle, so that the system must find out when the other side has gone.
        self._connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._channel = self._connection.channel()
        self._generation += 1
        self._sent, self._unconfirmed, self._refused = 0, set(), []
        self._channel.confirm_select()
        for kind, handler in {
            "basic_ack": self._confirmed,
            "basic_nack": self._nacked,
            "basic_return": self._returned,
        }.items():
            self._channel.events[kind].add(handler)
        names = (*self._names, DEAD, *((LOST, CANCELLED, OVERFLOW) if self._names == TASK_QUEUES else ()))
        for name in names:
            self._channel.queue_declare(
                one.queue(name),
                durable=True,
                auto_delete=False,
                arguments=arguments(one, name) if name in {*TASK_QUEUES, CANCELLED} else arguments(one, DEAD),
            )

    def _drop(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection is None:
            return
        try:
            connection.close()
        except (self._amqp.exceptions.AMQPError, OSError, AttributeError):
            log.debug("the connection to RabbitMQ was gone already")

    # -- sending -----------------------------------------------------------------------------------

    def _confirmed(self, tag: int, multiple: bool) -> None:
        if multiple:
            self._unconfirmed = {one for one in self._unconfirmed if one > tag}
        else:
            self._unconfirmed.discard(tag)

    def _nacked(self, tag: int, multiple: bool) -> None:
        self._confirmed(tag, multiple)
        self._refused.append("the broker could not store it")

    def _returned(self, error: Exception, *_: object) -> None:
        self._refused.append(str(error))

    def _publish(self, channel: Any, queue: str, body: str, headers: dict[str, Any] | None = None) -> None:
        message = self._amqp.Message(
            body,
            application_headers=headers or {},
            content_type="application/json",
            content_encoding="utf-8",
            delivery_mode=2,
            **({"correlation_id": headers["id"]} if headers else {}),
        )
        self._sent += 1
        self._unconfirmed.add(self._sent)
        channel.basic_publish(message, exchange="", routing_key=queue, mandatory=True)
        if len(self._unconfirmed) >= IN_FLIGHT:
            self._await_confirmations(IN_FLIGHT // 2)

    def _await_confirmations(self, left: int = 0) -> None:
        while len(self._unconfirmed) > left:
            self._connection.drain_events(timeout=ANSWER_S)
        if self._refused:
            raise StorageUnavailable(f"RabbitMQ did not take a message: {self._refused[0]}.")

    def _queue_of(self, message: Message) -> str:
        return self._queues[min(max(message.priority, 0), len(self._queues) - 1)]

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages; returns when the broker has them on disk. After a failure some may be queued."""
        await self.post(Parcel(message) for message in messages)

    async def post(self, parcels: Iterable[Parcel]) -> None:
        """Queue messages with what they have gone through."""
        ready = [(self._queue_of(one.message), one.body(), one.headers()) for one in parcels]

        def work(channel: Any) -> None:
            for queue, body, headers in ready:
                self._publish(channel, queue, body, headers)
            self._await_confirmations()

        await self._call(work)

    async def bury(self, message: Message, reason: str, deliveries: int) -> None:
        """Add a dead letter."""
        letter = Parcel(message, reason=reason or "unknown", deliveries=deliveries, at=self._now())

        def work(channel: Any) -> None:
            self._publish(channel, self._dead, letter.body(), letter.headers())
            self._await_confirmations()

        await self._call(work)

    async def tell_cancelled(self, ids: Sequence[str]) -> None:
        """Tell every worker, those that start later too, that these messages are unwanted."""

        def work(channel: Any) -> None:
            for start in range(0, len(ids), IDS_A_MESSAGE):
                body = json.dumps({"cancelled": list(ids[start : start + IDS_A_MESSAGE])})
                self._publish(channel, self.address.queue(CANCELLED), body)
            self._await_confirmations()

        await self._call(work)

    # -- receiving ---------------------------------------------------------------------------------

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """Up to ``limit`` messages, the most urgent queue first; ours until we settle them or our connection ends."""
        del visibility_s, models

        def work(channel: Any) -> list[Lease]:
            leases: list[Lease] = []
            for queue in self._queues:
                while len(leases) < limit and (found := channel.basic_get(queue)) is not None:
                    try:
                        parcel = Parcel.read(found.headers, found.body)
                    except JobError as error:
                        self._set_aside(channel, found, error)
                        continue
                    receipt = f"{self._generation}:{found.delivery_tag}"
                    leases.append(Lease(parcel.message, receipt, 1 + parcel.lost + parcel.silent))
            return leases

        return await self._call(work)

    def _set_aside(self, channel: Any, found: Any, error: JobError) -> None:
        log.error("a message of %s was set aside: %s", self.address.prefix, error)
        text = found.body if isinstance(found.body, str) else bytes(found.body).decode(errors="replace")
        letter = Parcel(Message(f"unreadable/{found.delivery_tag}", text), reason=str(error), at=self._now())
        self._publish(channel, self._dead, letter.body(), letter.headers())
        self._await_confirmations()
        channel.basic_ack(found.delivery_tag)

    def _tags(self, leases: Sequence[Lease]) -> list[int]:
        """Of those received on this connection; the others have gone back by themselves."""
        pairs = [lease.receipt.split(":") for lease in leases]
        return [int(tag) for generation, tag in pairs if int(generation) == self._generation]

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Leases last as long as the connection."""

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""

        def work(channel: Any) -> None:
            for tag in self._tags(leases):
                channel.basic_ack(tag)

        await self._call(work)

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Give messages back, at once: RabbitMQ has no delay. What was not begun is sent anew, so it isn't counted."""
        del after_s

        def work(channel: Any) -> None:
            tags = self._tags(leases)
            if not begun:
                for lease in leases:
                    parcel = Parcel(lease.message, lost=lease.deliveries - 1)
                    self._publish(channel, self._queue_of(lease.message), parcel.body(), parcel.headers())
                self._await_confirmations()
            for tag in tags:
                if begun:
                    channel.basic_reject(tag, requeue=True)
                else:
                    channel.basic_ack(tag)

        await self._call(work)

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move a message to the dead letters; a crash in the middle leaves it in both."""
        await self.bury(lease.message, reason, lease.deliveries)
        await self.delete([lease])

    # -- dead letters ------------------------------------------------------------------------------

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Dead letters; while one process looks at them they are hidden from others."""

        def look(found: list[tuple[int, Parcel]], channel: Any) -> list[DeadLetter]:
            del channel
            return [parcel.dead_letter() for _, parcel in found]

        letters = await self._scan(min(limit, MAX_SCAN), look)
        return list({letter.message.id: letter for letter in letters}.values())

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again, their deliveries counted anew; looks at the first ``MAX_SCAN``."""
        return await self._take(ids, again=True)

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove dead letters; looks at the first ``MAX_SCAN``."""
        return await self._take(ids, again=False)

    async def _take(self, ids: Sequence[str], *, again: bool) -> list[str]:
        wanted = set(ids)

        def take(found: list[tuple[int, Parcel]], channel: Any) -> list[str]:
            mine = [(tag, parcel) for tag, parcel in found if parcel.message.id in wanted]
            taken = {parcel.message.id: parcel.message for _, parcel in mine}
            for message in taken.values() if again else ():
                parcel = Parcel(message)
                self._publish(self._channel, self._queue_of(message), parcel.body(), parcel.headers())
            self._await_confirmations()
            for tag, _ in mine:
                channel.basic_ack(tag)
            return list(taken)

        return await self._scan(MAX_SCAN, take)

    async def _scan(self, limit: int, use: Callable[[list[tuple[int, Parcel]], Any], T]) -> T:
        """Read dead letters on a channel of their own: what is not acknowledged goes back when it closes."""

        def work(_: Any) -> T:
            channel = self._connection.channel()
            found: list[tuple[int, Parcel]] = []
            while len(found) < limit and (one := channel.basic_get(self._dead)) is not None:
                try:
                    found.append((one.delivery_tag, Parcel.read(one.headers, one.body)))
                except JobError as error:
                    strange = Message(f"unreadable/{one.delivery_tag}", repr(one.body)[:1000])
                    found.append((one.delivery_tag, Parcel(strange, reason=str(error))))
            result = use(found, channel)
            channel.close()
            return result

        return await self._call(work)

    # -- looking -----------------------------------------------------------------------------------

    async def depth(self) -> QueueDepth:
        """What the broker says, which may lag; it tells neither age nor what is out with workers."""

        def work(channel: Any) -> QueueDepth:
            *waiting, dead = (channel.queue_declare(q, passive=True).message_count for q in (*self._queues, self._dead))
            return QueueDepth(sum(waiting), leased=0, dead=dead, oldest_s=0.0, counts=dict(enumerate(waiting)))

        return await self._call(work)

    async def consumers(self) -> int:
        """Workers that take tasks now, or would: an overflow worker waits until no worker of our own does."""

        def work(channel: Any) -> int:
            now = max(channel.queue_declare(q, passive=True).consumer_count for q in self._queues)
            would = channel.queue_declare(self.address.queue(OVERFLOW), passive=True).consumer_count
            return int(now + would)

        return await self._call(work)

    async def crowd(self) -> Crowd:
        """Who takes tasks now, and what waits."""

        def work(channel: Any) -> Crowd:
            # Overflow workers leave this queue alone.
            own = channel.queue_declare(self.address.queue(LOST), passive=True).consumer_count
            waiting = (channel.queue_declare(q, passive=True).message_count for q in self._queues)
            return Crowd(own, dict(enumerate(waiting)))

        return await self._call(work)


def _unclear() -> ConfigError:
    return ConfigError(
        "queue_url for RabbitMQ is amqp://USER:PASSWORD@HOST:PORT/VHOST, with ?prefix=NAME (up to 40 of a-z, 0-9 and "
        "'-') where several installations share a virtual host; amqps:// for TLS. See docs/configuration.md.",
        setting="queue_url",
    )
