"""What an engine does about tasks that others have cancelled: on nodes, by marks in the store, by news over Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import psutil
import pytest
from node_tools import Hub, agent, until
from pool_tools import Announcement
from redis_tools import look

from pixelmill.engines.cancels import CancelMarks
from pixelmill.engines.executor import Executor
from pixelmill.engines.leased import LeasedEngine
from pixelmill.engines.memory_queue import MemoryLeaseQueue
from pixelmill.engines.queue import Message
from pixelmill.errors import StorageUnavailable
from pixelmill.events.redis_news import RedisNews
from pixelmill.jobs.messages import TaskMessage
from pixelmill.storage.memory import MemoryStore
from pixelmill.testing.engine import Ledger, message_of
from servers import Redis

pytestmark = pytest.mark.anyio
BOUND_S = 30.0


@pytest.fixture
def announcement(tmp_path: Path) -> Iterator[Announcement]:
    announcement = Announcement(tmp_path)
    yield announcement
    announcement.close()


def acting(action: str, name: str, source_name: str = "") -> TaskMessage:
    """A task that does what ``misbehaving.act`` knows."""
    return replace(message_of(name), pipeline=action, source="key:in", name=source_name)


async def send(queue: MemoryLeaseQueue, *messages: TaskMessage) -> None:
    await queue.send([Message(one.id, one.to_json()) for one in messages])


async def keys(store: MemoryStore) -> set[str]:
    return {found.key async for found in store.list()}


async def test_a_task_on_a_joined_node_is_stopped_there(announcement: Announcement) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url, workers=1):
        await hub.node("n1")
        store, queue, ledger = MemoryStore(), MemoryLeaseQueue(), Ledger()
        await store.put("in", b"photo")
        marks = CancelMarks(store, every_s=0.05)
        engine = LeasedEngine(queue, hub.dispatcher, Executor(store), ledger.emit, prefetch=0, cancels=marks)
        await send(queue, acting("hang", "endless", str(announcement.path)), acting("echo", "next"))
        await engine.start()
        pid = await announcement.pid()
        await marks.put(["endless/0"])  # by whoever cancels, in another process
        await until(lambda: not psutil.pid_exists(pid))
        await ledger.until(lambda: ledger.ended() == ["next"])  # in the room that it had
        await engine.stop(1.0)
        assert ledger.of("endless") == ["started"], "whoever cancelled has said the rest"
        assert (await queue.depth()).waiting + (await queue.depth()).leased == 0
        assert not [key for key in await keys(store) if "endless" in key and key.startswith("results/")]


async def test_marks_are_of_one_run_and_stop_nobody_else() -> None:
    store = MemoryStore()
    marks = CancelMarks(store)
    messages = [replace(message_of(f"t{number}"), run=number % 3) for number in range(40)]
    wanted = [one.id for one in messages[::2]]
    await marks.put(wanted)
    assert await marks.unwanted(messages) == set(wanted)
    assert await marks.unwanted([replace(one, run=one.run + 1) for one in messages]) == set()
    assert await marks.unwanted([]) == set()


async def test_a_run_that_is_stopped_while_it_stores_leaves_nothing() -> None:
    """The image is in place, its document is not: nobody would ever look for it."""

    class Slow(MemoryStore):
        """Takes images, and never ends with a document."""

        def __init__(self) -> None:
            super().__init__()
            self.image = asyncio.Event()

        async def put(self, key: str, data: Any, **more: Any) -> Any:
            if key.startswith("results/") and key.endswith(".json"):
                self.image.set()
                await asyncio.Event().wait()
            return await super().put(key, data, **more)

    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url, workers=1):
        await hub.node("n1")
        store, queue, ledger = Slow(), MemoryLeaseQueue(), Ledger()
        await store.put("in", b"photo")
        marks = CancelMarks(store, every_s=0.05)
        engine = LeasedEngine(queue, hub.dispatcher, Executor(store), ledger.emit, prefetch=0, cancels=marks)
        await send(queue, acting("echo", "cut"))
        await engine.start()
        await store.image.wait()
        assert [key for key in await keys(store) if key.startswith("results/")]
        await engine.cancel(["cut/0"])
        assert not [key for key in await keys(store) if key.startswith("results/")]
        await engine.stop(1.0)
        assert ledger.ended() == []


async def test_an_engine_that_can_not_ask_asks_again(announcement: Announcement) -> None:
    class Away(CancelMarks):
        """Can't tell, at first."""

        answers: ClassVar[list[Exception]] = [StorageUnavailable("It is away."), KeyError("a defect")]

        async def unwanted(self, messages: Any) -> frozenset[str]:
            if self.answers:
                raise self.answers.pop(0)
            return await super().unwanted(messages)

    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url, workers=1):
        await hub.node("n1")
        store, queue, ledger = MemoryStore(), MemoryLeaseQueue(), Ledger()
        await store.put("in", b"photo")
        marks = Away(store, every_s=0.02)
        await marks.put(["endless/0"])
        engine = LeasedEngine(queue, hub.dispatcher, Executor(store), ledger.emit, prefetch=0, cancels=marks)
        await send(queue, acting("hang", "endless", str(announcement.path)))
        await engine.start()
        pid = await announcement.pid()
        await until(lambda: not psutil.pid_exists(pid))
        assert not marks.answers
        await engine.stop(1.0)


@pytest.fixture
async def news(redis_server: Redis) -> AsyncIterator[RedisNews]:
    look(redis_server).flushall()
    news = RedisNews(redis_server.url)
    yield news
    await news.close()


async def test_news_reach_all_who_listen_by_topic_and_nonsense_harms_nobody(
    news: RedisNews, redis_server: Redis
) -> None:
    heard: list[Any] = []

    async def take(value: list[str]) -> None:
        heard.append(value[0])

    listening = [asyncio.create_task(news.listen(topic, take)) for topic in ("a", "a", "b")]
    client = look(redis_server)
    async with asyncio.timeout(BOUND_S):
        await until(
            lambda: (
                dict(client.pubsub_numsub("pixelmill:a:0", "pixelmill:b:0"))
                == {b"pixelmill:a:0": 2, b"pixelmill:b:0": 1}
            )
        )
        for nonsense in (b"\xff", b"{", b"7", b"{}", b"[]", b'"' + b"x" * 1_000_001 + b'"'):
            client.publish("pixelmill:b:0", nonsense)
        await news.tell("a", ["one"])
        await news.tell("b", ["two"])
        await until(lambda: sorted(heard) == ["one", "one", "two"])
        client.client_kill_filter(_type="pubsub")  # connections break
        await until(lambda: dict(client.pubsub_numsub("pixelmill:b:0")) == {b"pixelmill:b:0": 1})
        await news.tell("b", ["three"])
        await until(lambda: heard[-1] == "three")
    for task in listening:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
