"""What the Celery worker received, as the lease queue that the engine's consumer loop takes tasks from.

Settling a lease here settles its message there. Messages that were fetched and not begun go back when consumption is
paused. A lost connection takes nothing from a running task: when its message comes again, it is the same one.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pixelmill.engines.celery_message import Parcel
from pixelmill.engines.celery_worker import is_alive
from pixelmill.engines.queue import DeadLetter, Lease, Message, QueueDepth
from pixelmill.engines.rabbit import DELIVERY_LIMIT, RabbitQueue
from pixelmill.errors import JobError, PixelmillError

log = logging.getLogger(__name__)

UNCOUNTED = 2
"""Deliveries without a word that are not held against a task: most likely it was only fetched ahead when its worker
was killed or the broker restarted."""
MAX_CANCELLED = 200_000
CLASSES = 3


@dataclass(eq=False, slots=True)
class _Held:
    """A message, and the client library's handle of it."""

    parcel: Parcel
    handle: Any
    lost: bool

    @property
    def deliveries(self) -> int:
        if self.lost:
            return 2 + self.parcel.lost + DELIVERY_LIMIT + self.parcel.silent
        return 1 + self.parcel.lost + max(0, self.parcel.silent - UNCOUNTED)


class Acks(Protocol):
    """What is needed of the Celery worker (``celery_worker.py``)."""

    def ack(self, messages: Sequence[Any]) -> None:
        """They are done with."""
        ...

    def reject(self, messages: Sequence[Any]) -> None:
        """They are to be delivered again."""
        ...


class CeleryFeed:
    """See :class:`pixelmill.engines.queue.LeaseQueue` and :class:`pixelmill.engines.celery_worker.Inbox`.

    ``broker`` sends; ``wake`` is called when something has come; ``unwanted`` with ids that were cancelled.
    """

    def __init__(
        self,
        broker: RabbitQueue,
        wake: Callable[[], None],
        unwanted: Callable[[Sequence[str]], Coroutine[Any, Any, None]],
    ) -> None:
        self.traits = broker.traits
        self.acks: Acks  # the worker, which is made after us
        self._broker, self._wake, self._unwanted = broker, wake, unwanted
        self._waiting: list[deque[_Held]] = [deque() for _ in range(CLASSES)]
        self._out: dict[str, _Held] = {}  # by receipt
        self._missed: set[str] = set()
        self._receipts = itertools.count()
        self._cancelled: dict[str, None] = {}
        self._current = False
        self._closed = False
        self._later: dict[asyncio.TimerHandle, _Held] = {}
        self._work: set[asyncio.Task[None]] = set()

    # -- from the worker ---------------------------------------------------------------------------

    def arrived(self, messages: Sequence[Any], *, lost: bool = False) -> None:
        """See ``Inbox``."""
        for handle in messages:
            try:
                held = _Held(Parcel.read(handle.headers, handle.body), handle, lost)
            except JobError as error:
                self._spawn(self._set_aside(handle, error))
                continue
            if self._closed:
                self._spawn(self._repost([held], held.parcel.lost))
            elif not self._is_known(held):
                self._waiting[min(max(held.parcel.message.priority, 0), CLASSES - 1)].append(held)
                self._wake()

    def _is_known(self, new: _Held) -> bool:
        """Whether it is one whose connection was lost while we run it: we go on with the new handle."""
        for held in self._out.values():
            if held.parcel.message.id == new.parcel.message.id and not is_alive(held.handle):
                held.handle = new.handle
                return True
        return False

    def cancelled(self, ids: Sequence[str]) -> None:
        """See ``Inbox``."""
        for one in ids:
            self._cancelled[one] = None
        while len(self._cancelled) > MAX_CANCELLED:
            del self._cancelled[next(iter(self._cancelled))]
        out = {held.parcel.message.id for held in self._out.values()}
        if mine := [one for one in ids if one in out]:
            self._spawn(self._unwanted(mine))

    def caught_up(self) -> None:
        """See ``Inbox``."""
        self._current = True
        self._wake()

    async def _set_aside(self, handle: Any, error: JobError) -> None:
        log.error("a queued message was set aside: %s", error)
        body = handle.body if isinstance(handle.body, str) else bytes(handle.body).decode(errors="replace")
        strange = Message(f"unreadable/{handle.delivery_tag}", body)
        await self._bury(_Held(Parcel(strange), handle, lost=False), str(error))

    # -- the lease queue ---------------------------------------------------------------------------

    async def receive(self, limit: int, visibility_s: float, *, models: int | None = None) -> list[Lease]:
        """What has come, the most urgent first; nothing before we know what was cancelled."""
        del visibility_s, models
        leases: list[Lease] = []
        while self._current and not self._closed and len(leases) < limit:
            held = next((waiting.popleft() for waiting in self._waiting if waiting), None)
            if held is None:
                break
            if not is_alive(held.handle):
                continue  # the broker gives it out anew
            if held.parcel.message.id in self._cancelled:
                self.acks.ack([held.handle])
                continue
            receipt = str(next(self._receipts))
            self._out[receipt] = held
            leases.append(Lease(held.parcel.message, receipt, held.deliveries))
        return leases

    async def extend(self, leases: Sequence[Lease], visibility_s: float) -> None:
        """Messages are ours while the connection lasts. Those that the engine no longer knows go back."""
        del visibility_s
        known = {lease.receipt for lease in leases}
        unknown = self._out.keys() - known
        for receipt in unknown & self._missed:
            self.acks.reject([self._out.pop(receipt).handle])
        self._missed = set(unknown)

    async def delete(self, leases: Sequence[Lease]) -> None:
        """Acknowledge."""
        self.acks.ack([held.handle for held in self._take(leases)])

    async def release(self, leases: Sequence[Lease], *, after_s: float = 0.0, begun: bool = True) -> None:
        """Send anew: the broker would count what was not begun. What shall wait waits here, unacknowledged."""
        for held in self._take(leases):
            lost = held.deliveries - 1 + begun
            if after_s <= 0 or self._closed:
                await self._repost([held], lost)
            else:
                self._repost_later(held, lost, after_s)

    async def dead_letter(self, lease: Lease, reason: str) -> None:
        """Move it to the dead letters."""
        for held in self._take([lease]):
            await self._bury(held, reason)

    def _take(self, leases: Sequence[Lease]) -> list[_Held]:
        return [held for lease in leases if (held := self._out.pop(lease.receipt, None)) is not None]

    async def _repost(self, helds: Sequence[_Held], lost: int) -> None:
        alive = [held for held in helds if is_alive(held.handle)]
        handles = [held.handle for held in alive]
        try:
            await self._broker.post(Parcel(held.parcel.message, lost) for held in alive)
        except PixelmillError as error:
            log.warning("%d messages go back as they are: %s", len(alive), error)
            self.acks.reject(handles)
        else:
            self.acks.ack(handles)

    def _repost_later(self, held: _Held, lost: int, after_s: float) -> None:
        def now() -> None:
            del self._later[timer]
            self._spawn(self._repost([held], lost))

        timer = asyncio.get_running_loop().call_later(after_s, now)
        self._later[timer] = held

    async def _bury(self, held: _Held, reason: str) -> None:
        try:
            await self._broker.bury(held.parcel.message, reason, held.deliveries)
        except PixelmillError as error:
            log.warning("a dead letter goes back: %s", error)
            self.acks.reject([held.handle])
        else:
            self.acks.ack([held.handle])

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    # -- pausing and ending --------------------------------------------------------------------------

    async def give_back(self, least: int = 0) -> None:
        """What was fetched and not begun goes back, uncounted; only of the priority ``least`` and less urgent ones."""
        helds = [held for waiting in self._waiting[least:] for held in waiting]
        for waiting in self._waiting[least:]:
            waiting.clear()
        for held in helds:
            await self._repost([held], held.deliveries - 1)

    def close(self) -> None:
        """Whatever comes from now on goes back."""
        self._closed = True

    async def flush(self) -> None:
        """Give back what waits for its time, and end what is under way."""
        for timer, held in list(self._later.items()):
            timer.cancel()
            await self._repost([held], held.deliveries)
        self._later.clear()
        while self._work:
            await asyncio.wait(self._work)

    # -- the rest is the broker's --------------------------------------------------------------------

    async def send(self, messages: Sequence[Message]) -> None:
        """Queue messages."""
        await self._broker.send(messages)

    async def dead(self, limit: int) -> list[DeadLetter]:
        """Dead letters."""
        return await self._broker.dead(limit)

    async def redrive(self, ids: Sequence[str]) -> list[str]:
        """Queue dead letters again."""
        return await self._broker.redrive(ids)

    async def forget(self, ids: Sequence[str]) -> list[str]:
        """Remove dead letters."""
        return await self._broker.forget(ids)

    async def depth(self) -> QueueDepth:
        """What waits."""
        return await self._broker.depth()
