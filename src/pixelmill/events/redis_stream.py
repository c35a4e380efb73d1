"""Task events on a Redis stream: what workers without a database tell, and services read in batches and record.

Owns the stream, its consumer group and both ends; it must not know what an event is (it is given ``encode`` and
``decode``). At least once: whoever records must take the same event twice, and does
(:func:`pixelmill.jobs.recorder.record`). An entry is removed when it is recorded, so the stream's length is what
nobody has recorded yet; it is never trimmed. Where it is as long as allowed, ``emit`` waits: back-pressure.

With Redis's append-only file every acknowledged entry survives ``kill -9``; with ``appendfsync everysec`` a loss of
power costs up to a second of events, with ``always`` none. What is lost nevertheless is found by reconciling, which
``on_lost`` is told to do.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from pixelmill import logs
from pixelmill.errors import PixelmillError, QueueFull, StorageDenied
from pixelmill.events.redis_client import PREFIX, heed, key_of, make_client, translated

log = logging.getLogger(__name__)
E = TypeVar("E")

NAME = "events"
STREAM = key_of(PREFIX, NAME)
GROUP = "recorder"
BOUND = 100_000
"""Entries that nobody has recorded yet; about 50 MB in Redis."""
CHUNK = 500
"""Entries that are written, or read, at once."""
MAX_EMITS = 16
"""Batches of one sink on their way; further callers wait."""
PATIENCE_S = 30.0
"""How long ``emit`` bears with a Redis that is away or full before it says so."""
PAUSES_S = (0.05, 2.0)
BLOCK_S = 1.0
IDLE_S = 10.0
"""Entries that a consumer has read and not recorded for so long are taken over: it is dead, or its database stalls."""
CLAIM_S = 2.0
FIELD = b"e"

# All or none, and the bound holds however many workers write.
_ADD = """
if redis.call('XLEN', KEYS[1]) + #ARGV - 1 > tonumber(ARGV[1]) and redis.call('XLEN', KEYS[1]) > 0 then return 0 end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
return 1
"""


class RedisEventSink(Generic[E]):
    """The end of a worker. Belongs to one event loop; ``emit`` may be called again while an earlier call waits."""

    def __init__(
        self,
        url: str,
        encode: Callable[[E], bytes],
        *,
        stream: str = STREAM,
        bound: int = BOUND,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._client = make_client(url)
        self._add = self._client.register_script(_ADD)
        self._encode, self._stream, self._bound, self._patience_s = encode, stream, bound, patience_s
        self._room = asyncio.Semaphore(MAX_EMITS)

    async def emit(self, events: Sequence[E]) -> None:
        """Return when Redis has all of them, in their order.

        Raises :class:`StorageUnavailable` where it is away for longer than the patience, :class:`QueueFull` where
        the stream is full for so long, :class:`StorageDenied` at once. The caller then sends all of them again.
        """
        async with self._room:
            chunk: list[bytes] = []
            for event in events:
                chunk.append(self._encode(event))
                if len(chunk) >= min(CHUNK, self._bound):
                    await self._send(chunk)
                    chunk = []
            if chunk:
                await self._send(chunk)

    async def _send(self, bodies: Sequence[bytes]) -> None:
        until = time.monotonic() + self._patience_s
        pause, most = PAUSES_S
        while True:
            try:
                with translated():
                    if await heed(self._add(keys=[self._stream], args=[self._bound, *bodies])):
                        return
                error: PixelmillError = QueueFull(
                    f"{self._bound:,} task events wait in Redis to be recorded, which is the bound. Is a service "
                    "running, and its database well?",
                    retry_after=5,
                )
            except StorageDenied:
                raise
            except PixelmillError as caught:
                error = caught
            if time.monotonic() + pause > until:
                raise error
            await asyncio.sleep(pause)
            pause = min(most, 2 * pause)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


class RedisEventSource(Generic[E]):
    """The end of a service: reads what workers said, and hands it to ``record``, a batch a call.

    Any number of services read the same group; each entry goes to one of them, and to another if that one dies.
    ``on_lost`` is called with a reason where events may be gone (the stream was wiped, Redis was started again).
    """

    def __init__(
        self,
        url: str,
        decode: Callable[[bytes], E],
        record: Callable[[Sequence[E]], Awaitable[object]],
        *,
        on_lost: Callable[[str], object] = lambda _: None,
        stream: str = STREAM,
        idle_s: float = IDLE_S,
    ) -> None:
        self._client = make_client(url)
        self._decode, self._record, self._on_lost = decode, record, on_lost
        self._stream, self._idle_s = stream, idle_s
        self._consumer = secrets.token_hex(8)
        self._server = ""
        self._joined = False
        self._claim_at = 0.0
        self._claim_from: Any = "0-0"
        self.lag = 0
        """Entries that nobody has recorded yet, as last seen."""

    async def run(self) -> None:
        """Read until cancelled. Errors are logged, and tried again after a pause."""
        pause, most = PAUSES_S
        while True:
            try:
                with translated():
                    await self._round()
                pause = PAUSES_S[0]
            except PixelmillError as error:
                self._joined = False  # look whether it is the same Redis, and the group still there
                if _is_wiped(error):
                    continue
                logs.event("events.unavailable", detail=str(error), pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(most, 2 * pause)

    async def close(self) -> None:
        """Leave the group if nothing of ours is pending, and close the connections."""
        try:
            with translated():
                pending = await heed(self._client.xpending_range(self._stream, GROUP, "-", "+", 1, self._consumer))
                if not pending:
                    await self._client.xgroup_delconsumer(self._stream, GROUP, self._consumer)
        except PixelmillError as error:
            log.info("the consumer of events stays in its group: %s", error)
        await self._client.aclose()

    async def _round(self) -> None:
        """One batch: what a dead consumer left, or what is new."""
        if not self._joined:
            await self._join()
        entries = await self._claimed() if time.monotonic() >= self._claim_at else []
        if not entries:
            found = await heed(
                self._client.xreadgroup(
                    GROUP, self._consumer, {self._stream: ">"}, count=CHUNK, block=round(1000 * BLOCK_S)
                )
            )
            entries = _entries_of(found)
        if entries:
            await self._take(entries)

    async def _join(self) -> None:
        """Make the group where it is not there (it then begins at the stream's first entry)."""
        server = str((await heed(self._client.info("server")))["run_id"])
        exists = await self._has_group()
        if not exists:
            await self._make_group()
        if self._server and server != self._server:
            self._on_lost("Redis was started again")
        elif self._server and not exists:
            self._on_lost("the stream of events was wiped")
        self._server, self._joined = server, True

    async def _has_group(self) -> bool:
        if not await heed(self._client.exists(self._stream)):
            return False
        groups = await heed(self._client.xinfo_groups(self._stream))
        return any(group["name"] in {GROUP, GROUP.encode()} for group in groups)

    async def _make_group(self) -> None:
        try:
            await heed(self._client.xgroup_create(self._stream, GROUP, id="0", mkstream=True))
        except Exception as error:
            if "BUSYGROUP" not in str(error):  # another service was quicker
                raise

    async def _claimed(self) -> list[tuple[bytes, Any]]:
        """A page of what others have read and not recorded for too long; pages follow each other at once."""
        answer = await heed(
            self._client.xautoclaim(
                self._stream,
                GROUP,
                self._consumer,
                min_idle_time=round(1000 * self._idle_s),
                start_id=self._claim_from,
                count=CHUNK,
            )
        )
        self._claim_from, entries = answer[0], list(answer[1])
        if self._claim_from in {b"0-0", "0-0"}:
            self._claim_at = time.monotonic() + CLAIM_S
            self._claim_from = "0-0"
            await self._forget_dead()
        return entries

    async def _forget_dead(self) -> None:
        """Remove consumers that have nothing and were not heard of for an hour; and see how far behind we are."""
        self.lag = int(await heed(self._client.xlen(self._stream)))
        for consumer in await heed(self._client.xinfo_consumers(self._stream, GROUP)):
            if consumer["pending"] == 0 and consumer["idle"] > 3_600_000:
                await self._client.xgroup_delconsumer(self._stream, GROUP, consumer["name"])

    async def _take(self, entries: Sequence[tuple[bytes, Any]]) -> None:
        """Record, then acknowledge and remove: a crash between the two has them recorded twice, and changes nothing."""
        events = []
        for entry, fields in entries:
            body = (fields or {}).get(FIELD)
            try:
                events.append(self._decode(body or b""))
            except PixelmillError as error:
                logs.event("events.unreadable", entry=entry.decode("ascii", "replace"), detail=str(error))
        await self._recorded(events)
        ids = [entry for entry, _ in entries]
        async with self._client.pipeline(transaction=True) as pipe:
            pipe.xack(self._stream, GROUP, *ids)
            pipe.xdel(self._stream, *ids)
            await heed(pipe.execute())

    async def _recorded(self, events: Sequence[E]) -> None:
        """Record, however often it takes; an event that can't be recorded at all is logged and left out."""
        pause, most = PAUSES_S
        while events:
            try:
                await self._record(events)
            except PixelmillError as error:
                logs.event("events.unrecorded", detail=str(error), events=len(events), pause_s=pause)
                await asyncio.sleep(pause)
                pause = min(most, 2 * pause)
            except Exception as error:  # noqa: BLE001 -- a defect: logged below, and one event must not stop the others
                if len(events) == 1:
                    logs.event("events.unreadable", error=error)
                    return
                for event in events:
                    await self._recorded([event])
                return
            else:
                return


def _entries_of(answer: Any) -> list[tuple[bytes, Any]]:
    """Entries of the one stream that was read, in either version of Redis's protocol."""
    parts: Iterable[Any] = answer.values() if isinstance(answer, dict) else (entries for _, entries in answer or ())
    found: list[tuple[bytes, Any]] = []
    for entries in parts:
        nested = isinstance(answer, dict) and entries and isinstance(entries[0], list)
        found += entries[0] if nested else entries
    return found


def _is_wiped(error: PixelmillError) -> bool:
    return "NOGROUP" in str(error) or "UNBLOCKED" in str(error)
