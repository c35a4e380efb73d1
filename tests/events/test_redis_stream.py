"""Task events over a real Redis stream: nothing that was acknowledged is lost, whatever dies; memory stays bounded."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis_tools import look, own_redis, until

from pixelmill.errors import JobError, QueueFull, StorageError, StorageUnavailable
from pixelmill.events.redis_stream import CHUNK, GROUP, STREAM, RedisEventSink, RedisEventSource
from servers import Redis

pytestmark = pytest.mark.anyio
SECOND = 1.0


def encode(event: int) -> bytes:
    return json.dumps(event).encode()


def decode(body: bytes) -> int:
    try:
        return int(json.loads(body))
    except (ValueError, TypeError) as error:
        raise JobError("no number") from error


class Book:
    """What a recorder has recorded; it can be told to fail, and to wait."""

    def __init__(self) -> None:
        self.seen: list[int] = []
        self.batches: list[int] = []
        self.fails: Exception | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def record(self, events: Sequence[int]) -> None:
        await self.open.wait()
        if self.fails is not None:
            raise self.fails
        self.batches.append(len(events))
        self.seen += events


@asynccontextmanager
async def reading(server: Redis, book: Book, **options: Any) -> AsyncIterator[asyncio.Task[None]]:
    """A service's end, until the block ends."""
    source = RedisEventSource(server.url, decode, book.record, **options)
    task = asyncio.create_task(source.run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await source.close()


@asynccontextmanager
async def writing(server: Redis, **options: Any) -> AsyncIterator[RedisEventSink[int]]:
    """A worker's end."""
    sink = RedisEventSink(server.url, encode, **options)
    try:
        yield sink
    finally:
        await sink.close()


def pending(server: Redis) -> int:
    """Entries that were read and not recorded."""
    groups = look(server).xinfo_groups(STREAM) if look(server).exists(STREAM) else []
    return sum(int(group["pending"]) for group in groups)


@pytest.fixture
def server(redis_server: Redis) -> Redis:
    look(redis_server).flushall()
    return redis_server


async def test_events_arrive_in_their_order_and_leave_nothing_behind(server: Redis) -> None:
    book = Book()
    async with writing(server) as sink, reading(server, book):
        await sink.emit(range(3 * CHUNK + 7))
        await sink.emit([])
        await until(lambda: len(book.seen) == 3 * CHUNK + 7, "all are recorded")
        await until(lambda: look(server).xlen(STREAM) == 0, "all are removed")
    assert book.seen == list(range(3 * CHUNK + 7))
    assert max(book.batches) <= CHUNK


async def test_what_was_emitted_before_any_service_ran_is_recorded(server: Redis) -> None:
    book = Book()
    async with writing(server) as sink:
        await sink.emit(range(10))
    async with reading(server, book):
        await until(lambda: book.seen == list(range(10)), "all are recorded")


async def test_two_services_share_the_events(server: Redis) -> None:
    one, other = Book(), Book()
    async with writing(server) as sink, reading(server, one), reading(server, other):

        async def both_have_some() -> bool:
            await sink.emit(range(50))
            return bool(one.seen) and bool(other.seen)

        await until(both_have_some, "both take part")
        await until(lambda: look(server).xlen(STREAM) == 0, "all are recorded")
    counts = Counter(one.seen + other.seen)
    assert len(set(counts.values())) == 1, "an event was recorded twice, or not at all"


async def test_what_a_dead_service_had_read_is_taken_over(server: Redis) -> None:
    client = look(server)
    async with writing(server) as sink:
        await sink.emit(range(20))
    client.xgroup_create(STREAM, GROUP, id="0")
    assert client.xreadgroup(GROUP, "dead", {STREAM: ">"}, count=15)
    book = Book()
    async with reading(server, book, idle_s=0.1):
        await until(lambda: sorted(book.seen) == list(range(20)), "its events are recorded by another")
        await until(lambda: client.xlen(STREAM) == 0, "and removed")


async def test_a_full_stream_makes_emit_wait_and_nothing_is_trimmed(server: Redis) -> None:
    book = Book()
    async with writing(server, bound=100) as sink:
        await sink.emit(range(100))
        waiting = asyncio.create_task(sink.emit(range(100, 150)))
        await asyncio.sleep(0)
        assert look(server).xlen(STREAM) == 100
        assert not waiting.done()
        async with reading(server, book):
            await waiting
            await until(lambda: len(book.seen) == 150, "all are recorded")
    assert book.seen == list(range(150))


async def test_a_stream_that_stays_full_is_an_error_that_says_so(server: Redis) -> None:
    async with writing(server, bound=10, patience_s=0.2) as sink:
        await sink.emit(range(10))
        with pytest.raises(QueueFull, match="10 task events wait"):
            await sink.emit([10])
    assert look(server).xlen(STREAM) == 10


async def test_a_slow_service_costs_bounded_memory(server: Redis) -> None:
    """The recorder stands still: the stream stops at its bound, and every emitter waits with its own batch."""
    book = Book()
    book.open.clear()
    async with writing(server, bound=2_000) as sink, reading(server, book):
        emits = [asyncio.create_task(sink.emit(range(1_000 * n, 1_000 * n + 100))) for n in range(100)]
        await until(lambda: look(server).xlen(STREAM) > 2_000 - CHUNK, "the stream is full")
        assert look(server).xlen(STREAM) <= 2_000
        assert pending(server) <= CHUNK, "a service reads no more than a batch ahead"
        assert not all(task.done() for task in emits)
        book.open.set()
        await asyncio.gather(*emits)
        await until(lambda: len(book.seen) == 10_000, "all are recorded")
    assert len(set(book.seen)) == 10_000


async def test_a_database_that_is_away_costs_nothing_but_time(server: Redis) -> None:
    book = Book()
    book.fails = StorageUnavailable("away")
    async with writing(server) as sink, reading(server, book):
        await sink.emit(range(50))
        await until(lambda: pending(server) == 50, "they were read")
        book.fails = None
        await until(lambda: look(server).xlen(STREAM) == 0, "they were recorded")
    assert book.seen == list(range(50))


async def test_an_entry_that_can_not_be_read_is_left_out_and_stops_nothing(server: Redis) -> None:
    book = Book()
    client = look(server)
    async with writing(server) as sink, reading(server, book):
        client.xadd(STREAM, {"e": b"\xff nonsense"})
        client.xadd(STREAM, {"other": "field"})
        await sink.emit([1, 2])
        await until(lambda: client.xlen(STREAM) == 0, "all are gone")
    assert book.seen == [1, 2]


async def test_an_event_that_breaks_the_recorder_is_left_out_alone(server: Redis) -> None:
    seen: list[int] = []

    async def record(events: Sequence[int]) -> None:
        if 3 in events:
            raise RuntimeError("a defect")
        seen.extend(events)

    source = RedisEventSource(server.url, decode, record)
    task = asyncio.create_task(source.run())
    async with writing(server) as sink:
        await sink.emit(range(6))
        await until(lambda: look(server).xlen(STREAM) == 0 and len(seen) >= 5, "the others are recorded")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await source.close()
    assert seen == [0, 1, 2, 4, 5]


async def test_kill_9_of_redis_in_the_middle_loses_nothing(tmp_path: Path) -> None:
    book, reasons = Book(), list[str]()
    with own_redis(tmp_path) as server:
        async with writing(server) as sink, reading(server, book, on_lost=reasons.append, idle_s=0.2):

            def has(goal: int) -> bool:
                return len(set(book.seen)) >= goal

            async def work() -> None:
                for number in range(0, 4_000, 20):
                    await sink.emit(range(number, number + 20))

            working = asyncio.create_task(work())
            for goal in (500, 1_500, 2_500):
                await until(partial(has, goal), f"{goal} are recorded")
                await asyncio.to_thread(server.kill)
                await asyncio.to_thread(server.start)
            await working
            await until(lambda: set(book.seen) == set(range(4_000)), "every event is recorded")
            await until(lambda: look(server).xlen(STREAM) == 0, "the stream is empty")
            await until(lambda: len(reasons) >= 1, "it says that Redis was started again")
    assert set(reasons) == {"Redis was started again"}


async def test_a_wiped_redis_is_noticed_and_used_again(server: Redis) -> None:
    book, reasons = Book(), list[str]()
    async with writing(server) as sink, reading(server, book, on_lost=reasons.append):
        await sink.emit(range(10))
        await until(lambda: len(book.seen) == 10, "the first are recorded")
        look(server).flushall()
        await sink.emit(range(10, 20))
        await until(lambda: len(book.seen) == 20, "those after the wipe are recorded")
        await until(lambda: reasons == ["the stream of events was wiped"], "the wipe is noticed, once")


async def test_while_redis_is_away_emit_waits_and_then_says_so(tmp_path: Path) -> None:
    with own_redis(tmp_path) as server:
        async with writing(server, patience_s=0.3) as sink:
            await sink.emit([1])
            server.kill()
            with pytest.raises(StorageUnavailable, match="Redis does not answer"):
                await sink.emit([2])
            server.start()
            await sink.emit([3])
            assert look(server).xlen(STREAM) >= 2


async def test_wrong_passwords_are_told_without_the_password(tmp_path: Path) -> None:
    with own_redis(tmp_path) as server:
        look(server).config_set("requirepass", "right")
        for url in (server.url, server.url.replace("://", "://:wrong-secret@")):
            sink = RedisEventSink(url, encode)
            with pytest.raises(StorageError) as caught:
                await sink.emit([1])
            await sink.close()
            assert caught.value.type == "storage-denied"
            assert "wrong-secret" not in str(caught.value)


READER = """
import asyncio, sys
from pixelmill.events.redis_stream import RedisEventSource

async def record(events):
    for event in events:
        sys.stdout.write(event.decode() + "\\n")
    sys.stdout.flush()

asyncio.run(RedisEventSource(sys.argv[1], bytes, record, idle_s=0.3).run())
"""


async def test_services_killed_with_9_while_they_record(server: Redis, tmp_path: Path) -> None:
    """Real processes: what one had read when it died is recorded by another; twice at worst, never not at all."""
    path = tmp_path / "book"

    def recorded() -> set[int]:
        return {int(line) for line in path.read_text().split("\n")[:-1] if line}

    with path.open("ab") as book:

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen([sys.executable, "-c", READER, server.url], stdout=book)

        readers = [start(), start()]
        try:
            async with writing(server) as sink:
                for number in range(0, 6_000, 50):
                    await sink.emit(range(number, number + 50))
                    if number % 2_000 == 0:
                        await until(lambda: len(recorded()) > 0, "somebody records")
                        victim = readers.pop(0)
                        victim.kill()
                        victim.wait()
                        readers.append(start())
            await until(lambda: recorded() == set(range(6_000)), "every event is recorded", 60)
        finally:
            for reader in readers:
                reader.kill()
                reader.wait()
