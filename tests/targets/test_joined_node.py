"""Joined nodes over real sockets: the contract of a target, coming, going, being lost, and what misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from node_tools import Hub, JoinedTarget, agent, closed, heard, hello, made_agent, raw, until
from pool_tools import Announcement, request
from websockets.exceptions import ConnectionClosed

from pixelmill.errors import (
    Busy,
    ConfigError,
    CorruptImage,
    LimitExceeded,
    NodeLost,
    ObjectNotFound,
    OutOfMemory,
    TargetUnavailable,
    Unauthenticated,
)
from pixelmill.fleet import nodes as fleet_nodes
from pixelmill.images.limits import Limits
from pixelmill.service import joining
from pixelmill.targets import link as links
from pixelmill.targets import node as target_nodes
from pixelmill.targets.link import STREAM, encode_control
from pixelmill.targets.node import Hello
from pixelmill.targets.target import RunRequest, Target
from pixelmill.targets.wire import encode_frame
from pixelmill.testing.target import TargetConformance

pytestmark = pytest.mark.anyio
BOUND_S = 30.0


class TestJoinedNodeConforms(TargetConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> Iterator[None]:
        self.announcement = Announcement(tmp_path)
        yield
        self.announcement.close()

    def make(self) -> Target:
        return JoinedTarget()

    def good(self) -> RunRequest:
        return request("echo", b"photo")

    def bad(self) -> RunRequest:
        return request("corrupt")

    def endless(self) -> RunRequest:
        return request("hang", source_name=str(self.announcement.path))


async def test_files_of_the_hub_travel_as_bytes_within_the_limits(tmp_path: Path) -> None:
    path = tmp_path / "photo.bin"
    path.write_bytes(b"from a file")
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        result = await node.run(request("echo", path, images={"logo": b"1234", "other": path, "empty": b""}))
        assert result.outcome.bytes == b"from a file"
        assert result.outcome.data["images"] == {"logo": 4, "other": 11, "empty": 0}
        with pytest.raises(LimitExceeded):
            await node.run(request("echo", path, limits=Limits(max_bytes=5)))
        with pytest.raises(ObjectNotFound):
            await node.run(request("echo", tmp_path / "gone"))


async def test_large_bodies_pass_both_ways_and_small_tasks_between_them() -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        large = asyncio.create_task(node.run(request("huge", bytes(60_000_000))))
        small = await node.run(request("echo", b"small"))
        assert small.outcome.bytes == b"small"
        assert (await large).outcome.bytes == bytes(5_000_000)
        with pytest.raises(OutOfMemory):
            await node.run(request("echo", bytes(300_000_001)))


async def test_a_lost_connection_loses_its_tasks_at_once_and_the_node_comes_back(announcement: Announcement) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        task = asyncio.create_task(node.run(request("hang", source_name=str(announcement.path))))
        await announcement.pid()
        node.link.end("cut by the test")
        with pytest.raises(NodeLost, match="cut by the test"):
            await task
        with pytest.raises(TargetUnavailable):
            await node.run(request("echo", b"x"))
        again = await hub.node("n1")
        while again is node:
            again = await hub.node("n1")
        assert again.hello.instance == node.hello.instance
        # What ran for the old connection was ended: the room is there.
        results = await asyncio.gather(*(again.run(request("echo", b"%d" % n)) for n in range(4)))
        assert [result.outcome.bytes for result in results] == [b"%d" % n for n in range(4)]


@pytest.mark.parametrize("status", [403, 404])
async def test_an_address_that_takes_no_nodes_ends_a_node_unless_it_was_in_before(status: int) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub:
        hub.answer = status, "404 page not found"
        with pytest.raises(ConfigError, match=f"takes no nodes .status {status}"):
            await made_agent(hub.url).run()
        hub.answer = None
        async with agent(hub.url):
            node = await hub.node("n1")
            hub.answer = status, "404 page not found"  # a proxy whose hub is away
            node.link.end("cut by the test")
            await hub.until_gone("n1")
            hub.answer = None
            assert await hub.node("n1") is not node
        hub.answer = 403, '{"type": "/v1/problems/forbidden"}'
        with pytest.raises(ConfigError, match="does not let this token join"):
            await made_agent(hub.url).run()


async def test_a_hub_without_tls_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []

    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with asyncio.timeout(BOUND_S), await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        node = made_agent(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        monkeypatch.setattr("pixelmill.logs.event", lambda name, **more: told.append(f"{name} {more}"))
        task = asyncio.create_task(node.run())
        await until(lambda: any("hub.lost" in line for line in told))
        node.drain()
        await task
    assert "begins with http://" in next(line for line in told if "hub.lost" in line)


async def test_a_defect_where_tokens_are_asked_for_ends_no_later_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_nodes, "ALLOWED_EVERY_S", 0.01)
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, raw(hub.url, hello("raw")) as connection:
        await heard(connection, "welcome")
        hub.refusals += [ValueError("a defect"), Unauthenticated("The token was revoked.")]
        await heard(connection, "refused")
        await hub.until_gone("raw")


async def test_a_silent_node_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SILENCE_S", 0.7)
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, raw(hub.url, hello("mute")) as connection:
        await heard(connection, "welcome")
        node = await hub.node("mute")
        with pytest.raises(NodeLost, match="nothing was heard"):
            await node.run(request("echo", b"x"))
        await hub.until_gone("mute")
        assert "mute" not in hub.dispatcher.names()
        assert hub.nodes.lost == 1


async def test_a_node_that_beats_and_never_answers_loses_its_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target_nodes, "GRACE_S", 0.1)
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, raw(hub.url, hello()) as connection:
        node = await hub.node("raw")
        task = asyncio.create_task(node.run(replace(request("echo", b"x"), timeout_s=0.1)))
        await heard(connection, "cancel")
        with pytest.raises(NodeLost, match="did not answer"):
            await task
        # An answer that comes too late is nobody's.
        await connection.send(STREAM.pack(1) + b"".join(encode_frame({"late": True})))
        await connection.send(encode_control({"bye": True}))
        await hub.until_gone("raw")


async def test_draining_lets_running_tasks_end_and_takes_no_new_ones(announcement: Announcement) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url) as node_agent:
        node = await hub.node("n1")
        task = asyncio.create_task(node.run(request("wait_for_end", source_name=str(announcement.path))))
        await announcement.pid()
        node_agent.drain()
        await until(lambda: node.draining)
        assert "n1" not in hub.dispatcher.names()
        with pytest.raises(TargetUnavailable):
            await node.run(request("echo", b"x"))
        await asyncio.to_thread(announcement.let_go)
        assert (await task).outcome.bytes == b"done"
        await hub.until_gone("n1")
        assert hub.nodes.lost == 0


async def test_a_name_that_is_taken_gets_a_suffix_and_the_same_process_replaces_itself() -> None:
    async with asyncio.timeout(BOUND_S), Hub(taken=("hubs-own",)).running() as hub:  # noqa: SIM117 - two stories
        async with raw(hub.url, hello("a", instance="1")) as first, raw(hub.url, hello("a", instance="2")) as second:
            assert {(await heard(first, "welcome"))["name"], (await heard(second, "welcome"))["name"]} == {"a", "a-2"}
            async with raw(hub.url, hello("hubs-own", instance="3")) as third:
                assert (await heard(third, "welcome"))["name"] == "hubs-own-2"
            old = next(m.node for m in hub.nodes.members() if m.node.hello.instance == "1")
            running = asyncio.create_task(old.run(request("echo", b"x")))
            await until(lambda: old.load().running == 1)
            async with raw(hub.url, hello("a", instance="1")) as newer:
                assert (await heard(newer, "welcome"))["name"] == old.name
                with pytest.raises(NodeLost, match="connected again"):
                    await running
                await closed(first)


async def test_the_gate_is_judged_here_with_the_rule_that_the_node_asked_for() -> None:
    busy = {"load": [95.0, 50.0, 5.0, 1.0, 1000], "running": 0, "capacity": 3, "restarts": 0}
    busy |= {"healthy": True, "reason": ""}
    async with asyncio.timeout(BOUND_S), Hub(gate="threshold-60-90").running() as hub:  # noqa: SIM117 - two stories
        async with raw(hub.url, hello("auto")) as dedicated, raw(hub.url, hello("shared", gate="")) as shared:
            await hub.node("shared")
            await hub.node("auto")
            for _ in range(5):
                await dedicated.send(encode_control(busy))
                await shared.send(encode_control(busy))
            await until(lambda: all(len(member.history) == 5 for member in hub.nodes.members()))
            gates = {target["name"]: target["gate"] for target in hub.dispatcher.snapshot()["targets"]}
            assert gates["auto"]["open"]
            assert not gates["shared"]["open"]
            assert gates["shared"]["cpu_threshold"] == 60
            assert "90 % CPU" in gates["shared"]["reason"]
            assert hub.dispatcher.capacity == 6
            described = {node["name"]: node for node in hub.nodes.describe()}
            assert described["shared"]["now"]["host_cpu"] == 95.0


GOOD_LOAD = {"load": [1, 1, 1, 1, 1], "running": 0, "capacity": 2, "restarts": 0, "healthy": True, "reason": ""}


@pytest.mark.parametrize(
    "messages",
    [
        ["text"],
        [b""],
        [b"\x00" * 100],
        [b"\xff" * 5000],
        [bytes(links.MAX_MESSAGE + 1)],
        [encode_control(hello(version="99"))],
        [encode_control(hello(protocol=99))],
        [encode_control(hello(capacity=0))],
        [encode_control(hello(capacity=10**9))],
        [encode_control(hello(model_slots=-1))],
        [encode_control(hello(model_slots="3"))],
        [encode_control(hello(name="../../etc"))],
        [encode_control(hello(gate="always-me"))],
        [encode_control(hello(surprise=1))],
        [encode_control({"hello": None})],
        [encode_control(hello()), "text"],
        [encode_control(hello()), bytes(links.MAX_MESSAGE + 1)],
        [encode_control(hello()), b"\x00\x00\x00\x00rubbish"],
        [encode_control(hello()), encode_control({"load": []})],
        [encode_control(hello()), encode_control(GOOD_LOAD | {"load": [float("nan")] * 5})],
        [encode_control(hello()), encode_control(GOOD_LOAD | {"load": [1e9] * 5})],
        [encode_control(hello()), encode_control(GOOD_LOAD | {"capacity": 10**400})],
    ],
)
async def test_what_is_no_node_of_ours_is_refused_and_harms_nobody(messages: list[Any]) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        async with raw(hub.url) as connection:
            with suppress(ConnectionClosed):  # with the first of them, perhaps
                for message in messages:
                    await connection.send(message)
            await closed(connection)
        await hub.until_gone("raw")
        assert (await node.run(request("echo", b"still here"))).outcome.bytes == b"still here"


async def test_rubbish_for_an_answer_loses_the_task_and_the_node() -> None:
    for answer in (b"\xff" * 100, b"".join(encode_frame([1])), b"".join(encode_frame({"outcome": 1}))):
        async with asyncio.timeout(BOUND_S), Hub().running() as hub, raw(hub.url, hello()) as connection:
            node = await hub.node("raw")
            task = asyncio.create_task(node.run(request("echo", b"x")))
            while (await connection.recv())[:4] != STREAM.pack(1):
                pass
            await connection.send(STREAM.pack(1) + answer)
            with pytest.raises(NodeLost):
                await task
            await hub.until_gone("raw")


async def test_who_says_nothing_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_nodes, "HELLO_S", 0.2)
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, raw(hub.url) as connection:
        await closed(connection)


async def test_a_node_that_reads_nothing_is_lost_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "STALL_S", 1.0)
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        good = await hub.node("n1")
        async with raw(hub.url, hello("slow"), max_queue=1) as connection:
            slow = await hub.node("slow")
            task = asyncio.create_task(slow.run(request("echo", bytes(100_000_000))))
            beating = asyncio.create_task(_beat(connection))
            results = await asyncio.gather(*(good.run(request("echo", b"%d" % n)) for n in range(20)))
            assert len(results) == 20
            with pytest.raises(NodeLost, match="took nothing"):
                await task
            beating.cancel()
            connection.transport.abort()


async def _beat(connection: Any) -> None:
    while True:
        await connection.send(encode_control({"beat": 0.0}))
        await asyncio.sleep(0.2)


async def test_a_duplicate_of_a_task_is_run_once() -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        frame = [b"x" * 10]
        first = await node.run(request("echo", b"once"))
        # The same number again, by a hub that has lost its mind: the node passes it over and goes on.
        node.link.stream(1, encode_frame({"id": "again"}, frame))
        assert (await node.run(request("echo", b"next"))).outcome.bytes == b"next"
        assert first.outcome.bytes == b"once"


async def test_a_node_opens_no_files_for_a_hub(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the node")
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url):
        node = await hub.node("n1")
        record = {"id": "t", "pipeline": "echo", "source": str(secret), "images": {}, "name": "", "limits": [1, 1, 1]}
        node.link.stream(5, encode_frame(record | {"timeout_s": 1, "kind": "image"}))
        await until(lambda: node.link.ended is not None)
        assert "bring its own bytes" in str(node.link.ended)


async def test_a_node_of_another_version_ends_with_the_hubs_words(monkeypatch: pytest.MonkeyPatch) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub:
        monkeypatch.setattr(joining, "__version__", "0.0.1")
        with pytest.raises(ConfigError, match="An image must come out the same everywhere"):
            await made_agent(hub.url).run()


async def test_a_node_finds_a_hub_that_comes_back() -> None:
    async with asyncio.timeout(BOUND_S):
        first = Hub()
        async with first.running() as hub:
            url = hub.url
            context = agent(url)
            await context.__aenter__()
            await hub.node("n1")
        try:
            async with Hub().running(int(url.rpartition(":")[2])) as second:
                node = await second.node("n1")
                assert (await node.run(request("echo", b"x"))).outcome.bytes == b"x"
        finally:
            await context.__aexit__(None, None, None)


def test_a_hello_survives_the_way() -> None:
    record = hello()["hello"]
    assert Hello.from_dict(record).to_dict() == record | {"extras": (), "model_slots": 0}


OUTCOME = {
    "format": "png",
    "media_type": "image/png",
    "size": [1, 1],
    "source_size": [1, 1],
    "source_format": "png",
    "frames": 1,
    "data": {},
    "timings": {"decode_ms": 1.0, "apply_ms": 1.0, "encode_ms": 1.0},
}


async def answered(hub: Hub, record: dict[str, Any], body: bytes = b"image") -> Any:
    """What the hub makes of a node's answer: a result, or the error that it raises."""
    async with raw(hub.url, hello()) as connection:
        node = await hub.node("raw")
        task = asyncio.create_task(node.run(request("echo", b"x")))
        number = 0
        while not number:
            message = await connection.recv()
            assert isinstance(message, bytes)
            (number,) = STREAM.unpack_from(message)
        await connection.send(STREAM.pack(number) + b"".join(encode_frame(record, [body])))
        [result] = await asyncio.gather(task, return_exceptions=True)
        link = node.link.ended
    await hub.until_gone("raw")
    assert link is None, "the answer costs its own task alone"
    return result


@pytest.mark.parametrize(
    "wrong",
    [
        {"media_type": "text/html"},
        {"media_type": "image/png\r\nset-cookie: a=b"},
        {"format": "exe"},
        {"format": ["png"]},
        {"frames": "many"},
        {"frames": 10**30},
        {"size": [10**30, 1]},
        {"size": [1, 1, 1]},
        {"source_size": [0, 1]},
        {"source_format": "\ud800"},
        {"data": {"score": float("inf")}},
        {"data": ["no object"]},
        {"timings": {"decode_ms": "q", "apply_ms": 1, "encode_ms": 1}},
        {"timings": {"decode_ms": 10**400, "apply_ms": 1, "encode_ms": 1}},
    ],
)
async def test_a_result_that_can_not_be_one_costs_its_attempt_alone(wrong: dict[str, Any]) -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub:
        good = await answered(hub, {"outcome": OUTCOME, "image": True, "retire": False})
        assert good.outcome.bytes == b"image"
        error = await answered(hub, {"outcome": OUTCOME | wrong, "image": True, "retire": False})
        assert isinstance(error, NodeLost), error
        assert "can't be one" in str(error)


async def test_an_error_of_a_node_is_the_tasks_own_or_costs_an_attempt() -> None:
    def told(slug: str, said: str = "x", **context: Any) -> dict[str, Any]:
        return {"error": {"type": slug, "detail": said, "context": context}, "retire": False}

    async with asyncio.timeout(BOUND_S), Hub().running() as hub:
        error = await answered(hub, told("corrupt-image", "a\x1b[31m\ud800\nb", cost="1e9", self=1, detail="y", at=3))
        assert isinstance(error, CorruptImage)
        assert (str(error), error.context) == ("a\ufffd[31m\ufffd\nb", {"at": 3})
        assert (await answered(hub, told("corrupt-image", size=float("nan")))).context == {}
        # With these a task would wait for a better place for ever, or be taken for one that its owner cancelled.
        for slug in ("target-unavailable", "cancelled", "shutting-down", "unauthenticated", "no-such-type"):
            error = await answered(hub, told(slug))
            assert isinstance(error, NodeLost), slug


async def test_a_task_for_an_extra_goes_past_the_node_that_lacks_it() -> None:
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url, "bare"):
        await hub.node("bare")
        async with agent(hub.url, "full", extras=("heic",)):
            await hub.node("full")
            done = [await hub.dispatcher.run(request("echo", source)) for source in (b"x", heic) * 3]
            assert [result.target for result in done] == ["bare", "full"] * 3


async def test_the_names_that_a_node_tells_are_names() -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub:
        result = await answered(hub, {"outcome": OUTCOME, "image": True, "retire": False, "worker": "1\0\ud800"})
        assert result.worker == "1\ufffd\ufffd"
        for wrong in ({"instance": "a\ud800"}, {"extras": ["\x1b[31m"]}, {"libraries": {"\0": "1"}}, {"cores": 10**30}):
            async with raw(hub.url, hello(**wrong)) as connection:
                await heard(connection, "refused")
        async with raw(hub.url, hello()) as connection:
            node = await hub.node("raw")
            load = {"load": [0, 0, 0, 0, 0], "capacity": 1, "restarts": 10**30, "healthy": False, "reason": "\ud800"}
            await connection.send(encode_control({"echo": -float("inf")}))
            await connection.send(encode_control(load))
            await until(lambda: not node.load().healthy)
            assert (node.load().reason, node.load().restarts) == ("\ufffd", 10**9)
            assert node.link.latency_s is not None
            assert node.link.latency_s < 60


async def test_a_node_has_slots_of_their_own_for_tasks_with_models() -> None:
    async with asyncio.timeout(BOUND_S), Hub().running() as hub, agent(hub.url, workers=1):
        node = await hub.node("n1")
        slots = node.load().model_slots
        assert slots >= 1
        held = [await hub.dispatcher.acquire("normal", 5, models=True) for _ in range(slots)]
        held.append(await hub.dispatcher.acquire("normal", 5))
        for models in (False, True):
            with pytest.raises(Busy):
                await hub.dispatcher.acquire("normal", 0, models=models)
        for slot in held:
            slot.release()
