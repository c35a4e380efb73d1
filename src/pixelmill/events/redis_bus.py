"""The event bus of several services: news travel over Redis pub/sub, readers are woken in each process.

Subscribers of this process are woken at once and without Redis, so an outage costs only the news of other processes.
What was missed while the connection was away is not sent again: on reconnecting every reader is told to look again, and
the log in the database is the truth. Two threads do the work, so ``publish`` never blocks and any loop may subscribe.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from contextlib import AbstractAsyncContextManager, suppress
from typing import TYPE_CHECKING

from pixelmill import logs
from pixelmill.errors import PixelmillError
from pixelmill.events.bus import InProcessBus, Subscription
from pixelmill.events.redis_client import PREFIX, database_of, key_of, make_thread_client, translated

if TYPE_CHECKING:
    import redis

log = logging.getLogger(__name__)

MAX_NEWS = 10_000
"""Different jobs with news that wait to be sent; beyond it all readers are told to look again."""
BATCH = 500
LINGER_S = 0.02
"""News of one job within this time are sent once."""
BEAT_S = 5.0
SILENCE_S = 15.0
"""A connection on which not even our own heartbeat arrives for so long is dead."""
POLL_S = 0.5
PAUSES_S = (0.1, 5.0)

EVERYBODY = ("", "")
"""News for all readers: look again."""


class RedisBus:
    """See :class:`pixelmill.events.bus.EventBus`. Call :meth:`start` before, and :meth:`stop` at the very end."""

    def __init__(self, url: str, max_subscribers: int = 10_000, *, prefix: str = PREFIX) -> None:
        self._publisher, self._listener = make_thread_client(url), make_thread_client(url)
        self._local = InProcessBus(max_subscribers)
        self._channel = f"{key_of(prefix, 'news')}:{database_of(url)}"
        self._me = secrets.token_hex(8)
        self._news: dict[tuple[str, str], None] = {}
        self._changed = threading.Condition()
        self._closed = threading.Event()  # readers have ended
        self._stopped = threading.Event()
        self._listening = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to send and to listen. Redis need not be there yet."""
        for work in (self._send_forever, self._listen_forever):
            thread = threading.Thread(target=work, name=f"pixelmill-bus-{work.__name__}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def wait_until_listening(self, timeout: float) -> bool:
        """Block until news of other processes arrive here; False after ``timeout`` s."""
        return self._listening.wait(timeout)

    def publish(self, owner: str, job: str) -> None:
        """Wake the subscribers of ``job`` and those of all jobs of ``owner``, here and elsewhere."""
        self._local.publish(owner, job)
        self._queue((owner, job))

    def subscribe(self, owner: str | None, job: str | None = None) -> AbstractAsyncContextManager[Subscription]:
        """News of one job, or of all jobs of ``owner`` (None: of every owner)."""
        return self._local.subscribe(owner, job)

    def close(self) -> None:
        """End all readers of this process. What is published from now on still reaches the others."""
        self._closed.set()
        self._local.close()

    def stop(self, timeout: float = 5.0) -> None:
        """Send what waits if Redis is there, and end the threads. Blocks; stopping twice is no error."""
        self.close()
        self._stopped.set()
        with self._changed:
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout)
        for client in (self._publisher, self._listener):
            client.close()

    # -- sending ---------------------------------------------------------------------------------

    def _queue(self, news: tuple[str, str]) -> None:
        with self._changed:
            if news not in self._news:
                if len(self._news) >= MAX_NEWS:
                    self._news.clear()
                    news = EVERYBODY
                self._news[news] = None
                self._changed.notify()

    def _send_forever(self) -> None:
        pause, most = PAUSES_S
        while not self._stopped.is_set():
            batch = self._take()
            if self._send(batch):
                pause = PAUSES_S[0]
                self._stopped.wait(LINGER_S)
            else:
                for news in batch:
                    self._queue(news)
                self._stopped.wait(pause)
                pause = min(most, 2 * pause)
        while batch := self._take(wait_s=0):
            if not self._send(batch):
                return

    def _take(self, wait_s: float = BEAT_S) -> list[tuple[str, str]]:
        """The next batch, oldest first; an empty one is a heartbeat."""
        with self._changed:
            if not self._news and wait_s and not self._stopped.is_set():
                self._changed.wait(wait_s)
            batch = list(self._news)[:BATCH]
            for news in batch:
                del self._news[news]
        return batch

    def _send(self, batch: list[tuple[str, str]]) -> bool:
        try:
            with translated():
                self._publisher.publish(self._channel, json.dumps([self._me, batch]))
        except PixelmillError as error:
            log.debug("news could not be sent: %s", error)  # the listener says it once, for both
            return False
        return True

    # -- listening -------------------------------------------------------------------------------

    def _listen_forever(self) -> None:
        pause, most = PAUSES_S
        told = False
        while not self._closed.is_set():
            try:
                with translated(), self._subscription() as subscription:
                    subscription.subscribe(self._channel)
                    self._listen(subscription)
            except PixelmillError as error:
                if self._listening.is_set() or not told:
                    told = True
                    logs.event("bus.disconnected", detail=str(error))
                    pause = PAUSES_S[0]
            except Exception as error:  # noqa: BLE001 -- logged; a thread that ends would leave readers asleep
                logs.event("loop.failed", error=error, loop="event bus")
            self._listening.clear()
            self._closed.wait(pause)
            pause = min(most, 2 * pause)

    def _subscription(self) -> redis.client.PubSub:
        subscription: redis.client.PubSub = self._listener.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
        return subscription

    def _listen(self, subscription: redis.client.PubSub) -> None:
        heard = time.monotonic()
        while not self._closed.is_set():
            message = subscription.get_message(timeout=POLL_S)
            if message is None:
                if time.monotonic() - heard > SILENCE_S:
                    raise ConnectionError("nothing was heard on the channel of news")
                continue
            heard = time.monotonic()
            if message["type"] == "subscribe":
                # What was published before this moment went past us.
                self._local.wake_all()
                self._listening.set()
            elif message["type"] == "message":
                self._hear(message["data"])

    def _hear(self, data: bytes) -> None:
        with suppress(ValueError, TypeError):  # of another version, or not ours
            sender, batch = json.loads(data)
            if sender == self._me:
                return
            for owner, job in batch:
                if (owner, job) == EVERYBODY:
                    self._local.wake_all()
                else:
                    self._local.publish(owner, job)
