"""The bus over real Redis: the contract within one process, between two buses, and between two processes."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest
from redis_tools import look, own_redis, until

from pixelmill.events.bus import EventBus, Subscription
from pixelmill.events.redis_bus import MAX_NEWS, RedisBus
from pixelmill.testing.event_bus import SOON, EventBusConformance
from servers import Redis


@pytest.fixture
def buses(redis_server: Redis) -> Iterator[tuple[RedisBus, RedisBus]]:
    """Two, as two services have them; both hear each other."""
    pair = RedisBus(redis_server.url), RedisBus(redis_server.url)
    for bus in pair:
        bus.start()
    assert all(bus.wait_until_listening(SOON) for bus in pair)
    yield pair
    for bus in pair:
        bus.stop()


class TestOneRedisBus(EventBusConformance):
    @pytest.fixture
    def bus(self, buses: tuple[RedisBus, RedisBus]) -> EventBus:
        return buses[0]


class FarBus:
    """Publishes on one bus and subscribes on the other, so that all news travel."""

    def __init__(self, here: RedisBus, there: RedisBus) -> None:
        self.here, self.there = here, there

    def publish(self, owner: str, job: str) -> None:
        self.here.publish(owner, job)

    def subscribe(self, owner: str | None, job: str | None = None) -> AbstractAsyncContextManager[Subscription]:
        return self.there.subscribe(owner, job)

    def close(self) -> None:
        self.there.close()


class TestTwoRedisBuses(EventBusConformance):
    @pytest.fixture
    def bus(self, buses: tuple[RedisBus, RedisBus]) -> EventBus:
        return FarBus(*buses)

    async def settle(self, bus: EventBus) -> None:
        async with bus.subscribe("settle", "settle") as news:
            bus.publish("settle", "settle")  # arrives after all that was published before
            assert await news.wait(SOON)


@pytest.mark.anyio
async def test_a_closed_bus_still_tells_the_others(buses: tuple[RedisBus, RedisBus]) -> None:
    here, there = buses
    here.close()
    async with there.subscribe("ann", "job") as news:
        here.publish("ann", "job")
        assert await news.wait(SOON)


@pytest.mark.anyio
async def test_after_an_outage_readers_are_told_to_look_again(tmp_path: Path) -> None:
    with own_redis(tmp_path) as server:
        here, there = RedisBus(server.url), RedisBus(server.url)
        for bus in (here, there):
            bus.start()
        try:
            assert here.wait_until_listening(SOON)
            assert there.wait_until_listening(SOON)
            async with there.subscribe("ann", "job") as news, here.subscribe("ann", "job") as own:
                await news.wait(0)
                await own.wait(0)
                server.kill()
                here.publish("ann", "other")  # nobody of these waits for it
                here.publish("ann", "job")
                assert await own.wait(SOON), "readers of the same process need no Redis"
                server.start()
                assert await news.wait(SOON)
                here.publish("ann", "job")
                assert await news.wait(SOON)
        finally:
            here.stop()
            there.stop()


@pytest.mark.anyio
async def test_a_bus_that_starts_before_redis_finds_it_later(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis")
    bus = RedisBus(server.url)
    bus.start()
    try:
        async with bus.subscribe("ann", "job") as news:
            bus.publish("ann", "job")
            assert await news.wait(SOON)
            server.start()
            assert await news.wait(SOON), "it looks again when it hears others for the first time"
    finally:
        bus.stop()
        server.close()


@pytest.mark.anyio
async def test_without_redis_the_news_that_wait_stay_bounded(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis")  # never started
    bus = RedisBus(server.url)
    bus.start()
    try:
        for number in range(3 * MAX_NEWS):
            bus.publish("ann", f"job-{number}")
            assert len(bus._news) <= MAX_NEWS
    finally:
        bus.stop()


@pytest.mark.anyio
async def test_what_is_no_news_of_ours_is_ignored(buses: tuple[RedisBus, RedisBus], redis_server: Redis) -> None:
    here, there = buses
    async with there.subscribe("ann", "job") as news:
        for nonsense in (b"", b"{", b"[1]", b'["x", [["a"]]]', b'["x", 7]', b"\xff\xfe"):
            look(redis_server).publish(there._channel, nonsense)
        here.publish("ann", "job")
        assert await news.wait(SOON)


PUBLISHER = """
import sys
from pixelmill.events.redis_bus import RedisBus
bus = RedisBus(sys.argv[1])
bus.start()
bus.publish("ann", "job")
bus.stop()
"""


@pytest.mark.anyio
async def test_news_of_another_process_arrive(buses: tuple[RedisBus, RedisBus], redis_server: Redis) -> None:
    async with buses[0].subscribe("ann", "job") as news:
        command = [sys.executable, "-c", PUBLISHER, redis_server.url]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, timeout=SOON)
        assert done.returncode == 0, done.stderr
        assert await news.wait(SOON)


@pytest.mark.anyio
async def test_databases_of_one_server_do_not_hear_each_other(
    buses: tuple[RedisBus, RedisBus], redis_server: Redis
) -> None:
    other = RedisBus(redis_server.url.replace("/0", "/1"))
    other.start()
    try:
        assert other.wait_until_listening(SOON)
        async with buses[0].subscribe("ann") as news:
            client, heard = look(redis_server), []
            listener = client.pubsub()  # type: ignore[no-untyped-call]  # redis-py's
            listener.subscribe(other._channel)
            other.publish("ann", "job")

            def arrived() -> bool:
                message = listener.get_message(timeout=0.01)
                heard.extend(
                    [message] if message and message["type"] == "message" and b"ann" in message["data"] else []
                )
                return bool(heard)

            await until(arrived, "the news are out")
            assert not await news.wait(0.05)
    finally:
        other.stop()
