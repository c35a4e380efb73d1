"""The list of nodes: one contract, in this process and over real Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from redis_tools import look, until

from pixelmill.fleet.registry import KEY, TTL_S, InProcessRegistry, NodeRegistry, RedisRegistry
from pixelmill.testing.clock import Clock
from servers import Redis

pytestmark = pytest.mark.anyio


class RegistryLaws:
    """What every registry must do."""

    async def test_all_see_the_nodes_of_all(self, registry: NodeRegistry) -> None:
        await registry.write("b", [{"name": "two"}])
        await registry.write("a", [{"name": "one"}, {"name": "joined"}])
        found = await registry.read()
        assert [(node["replica"], node["name"]) for node in found] == [("a", "one"), ("a", "joined"), ("b", "two")]
        assert all(0 <= node["age_s"] < TTL_S for node in found)

    async def test_what_is_written_takes_the_place_of_what_was(self, registry: NodeRegistry) -> None:
        await registry.write("a", [{"name": "one"}, {"name": "two"}])
        await registry.write("a", [{"name": "two", "load": 7}])
        assert [(node["name"], node["load"]) for node in await registry.read()] == [("two", 7)]

    async def test_a_replica_that_stops_takes_its_nodes_with_it(self, registry: NodeRegistry) -> None:
        await registry.write("a", [{"name": "one"}])
        await registry.write("b", [{"name": "two"}])
        await registry.remove("a")
        await registry.remove("never")
        assert [node["name"] for node in await registry.read()] == ["two"]


class TestInProcess(RegistryLaws):
    @pytest.fixture
    def registry(self) -> NodeRegistry:
        return InProcessRegistry()

    async def test_nodes_of_the_dead_go(self) -> None:
        clock = Clock()
        registry = InProcessRegistry(clock)
        await registry.write("dead", [{"name": "one"}])
        clock.advance(TTL_S)
        assert await registry.read() == []


class TestRedis(RegistryLaws):
    @pytest.fixture
    async def registry(self, redis_server: Redis) -> AsyncIterator[NodeRegistry]:
        look(redis_server).flushall()
        registry = RedisRegistry(redis_server.url)
        yield registry
        await registry.close()

    async def test_nodes_of_the_dead_go(self, registry: NodeRegistry, redis_server: Redis) -> None:
        client = look(redis_server)
        await registry.write("dead", [{"name": "one"}])
        assert 0 < client.pttl(f"{KEY}:dead") <= 1000 * TTL_S
        client.pexpire(f"{KEY}:dead", 1)
        await until(lambda: not client.exists(f"{KEY}:dead"), "its time is over")
        assert await registry.read() == []
        assert client.smembers(KEY) == set()
