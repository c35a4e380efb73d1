"""The link between hub and node: frames in pieces, heartbeats first, silence and rubbish end it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.targets import link as links
from pixelmill.targets.link import PIECE, STREAM, Link, LinkEnded, decode_control, encode_control
from pixelmill.targets.wire import encode_frame

pytestmark = pytest.mark.anyio
BOUND_S = 20.0


class QueuePipe:
    """One end of a connection in memory. A capacity of 1 makes a sender wait for the receiver."""

    def __init__(self, out: asyncio.Queue[bytes], into: asyncio.Queue[bytes]) -> None:
        self._out, self._into = out, into

    async def send(self, message: bytes) -> None:
        await self._out.put(message)

    async def receive(self) -> bytes:
        message = await self._into.get()
        if not message:
            raise LinkEnded("closed")
        return message

    async def close(self, reason: str) -> None:
        await self._out.put(b"")

    def abort(self) -> None: ...


class Recorder:
    """A peer that keeps what arrives."""

    def __init__(self) -> None:
        self.controls: list[dict[str, Any]] = []
        self.frames: dict[int, tuple[Any, bytes]] = {}
        self.unwanted: set[int] = set()
        self.changed = asyncio.Event()

    def control(self, record: dict[str, Any]) -> None:
        self.controls.append(record)
        self.changed.set()

    def wants(self, stream: int) -> bool:
        return stream not in self.unwanted

    def frame(self, stream: int, record: Any, body: bytes) -> None:
        self.frames[stream] = (record, body)
        self.changed.set()

    async def until(self, count: int) -> None:
        while len(self.frames) + len(self.controls) < count:
            self.changed.clear()
            await self.changed.wait()


def pair(size: int = 1) -> tuple[QueuePipe, QueuePipe]:
    there: asyncio.Queue[bytes] = asyncio.Queue(size)
    back: asyncio.Queue[bytes] = asyncio.Queue(size)
    return QueuePipe(there, back), QueuePipe(back, there)


async def test_frames_of_all_sizes_arrive_whole_and_unmixed() -> None:
    a, b = pair()
    sender, receiver, peer = Link(a, max_body=10 * PIECE), Link(b, max_body=10 * PIECE), Recorder()
    bodies = {number: bytes([number]) * size for number, size in enumerate((0, 1, PIECE - 5, PIECE, 5 * PIECE + 7), 1)}
    async with asyncio.timeout(BOUND_S):
        running = [asyncio.create_task(sender.run(Recorder())), asyncio.create_task(receiver.run(peer))]
        for number, body in bodies.items():
            sender.stream(number, encode_frame({"n": number}, [body]))
        await peer.until(len(bodies))
        for link in (sender, receiver):
            link.end("done")
        await asyncio.gather(*running)
    assert peer.frames == {number: ({"n": number}, body) for number, body in bodies.items()}


async def test_a_control_record_waits_for_one_piece_at_most_and_streams_take_turns() -> None:
    a, b = pair()
    link = Link(a, max_body=1)
    link.stream(1, encode_frame({}, [bytes(20 * PIECE)]))
    link.stream(2, encode_frame({}, [b"small"]))
    running = asyncio.create_task(link.run(Recorder()))
    async with asyncio.timeout(BOUND_S):
        order = [STREAM.unpack_from(await b.receive())[0] for _ in range(6)]
        link.post({"urgent": True})
        order += [STREAM.unpack_from(await b.receive())[0] for _ in range(4)]
        link.end("done")
        await running
    assert 2 in order[:6], "the small frame stood behind the large one"
    # One message is in the pipe and one in the sender's hands; then the control record comes.
    assert 0 in order[6:9]


async def test_a_dropped_stream_sends_no_more() -> None:
    a, b = pair()
    link = Link(a, max_body=1)
    link.stream(1, encode_frame({}, [bytes(20 * PIECE)]))
    running = asyncio.create_task(link.run(Recorder()))
    async with asyncio.timeout(BOUND_S):
        while STREAM.unpack_from(await b.receive())[0] != 1:
            pass
        link.drop(1)
        link.stream(2, encode_frame({}, [b"next"]))
        seen = []
        while 2 not in seen:
            seen.append(STREAM.unpack_from(await b.receive())[0])
        link.end("done")
        await running
    assert seen.count(1) <= 2


async def test_what_nobody_wants_is_dropped() -> None:
    a, b = pair()
    peer = Recorder()
    peer.unwanted = {7}
    link = Link(b, max_body=100)
    running = asyncio.create_task(link.run(peer))
    async with asyncio.timeout(BOUND_S):
        await a.send(STREAM.pack(7) + b"never a frame, but nobody looks")
        await a.send(STREAM.pack(8) + b"".join(encode_frame({"n": 8}, [b"x"])))
        await peer.until(1)
        link.end("done")
        assert await running == "done"
    assert list(peer.frames) == [8]


@pytest.mark.parametrize(
    "message",
    [
        b"x",
        bytes(4),
        STREAM.pack(0) + b"".join(encode_frame([1, 2])),
        STREAM.pack(0) + b"".join(encode_frame({"beat": 1}, [b"a body"])),
        STREAM.pack(0) + encode_frame({"beat": 1})[0][:-1],
        STREAM.pack(0) + b"".join(encode_frame({"load": "x" * 100_000})),
        STREAM.pack(3) + b"\xff" * 100,
        STREAM.pack(3) + b"".join(encode_frame({}, [bytes(101)])),
        STREAM.pack(0) + (len(deep := b"[" * 60_000)).to_bytes(4, "little") + bytes(8) + deep,
        encode_control({"echo": "soon"}),
    ],
    ids=["short", "empty", "list", "body", "cut", "long", "no-frame", "over-the-limit", "deep", "echo"],
)
async def test_rubbish_ends_the_link_with_a_reason(message: bytes) -> None:
    a, b = pair()
    link = Link(b, max_body=100)
    running = asyncio.create_task(link.run(Recorder()))
    async with asyncio.timeout(BOUND_S):
        await a.send(message)
        assert "no message of this protocol" in await running


async def test_silence_ends_the_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SILENCE_S", 0.6)
    a, _ = pair(100)
    link = Link(a, max_body=1)
    async with asyncio.timeout(BOUND_S):
        assert "nothing was heard" in await link.run(Recorder())


async def test_two_links_that_say_nothing_else_hear_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "SILENCE_S", 2.0)
    a, b = pair()
    first, second = Link(a, max_body=1), Link(b, max_body=1)
    running = [asyncio.create_task(first.run(Recorder())), asyncio.create_task(second.run(Recorder()))]
    done, _ = await asyncio.wait(running, timeout=3.5, return_when=asyncio.FIRST_COMPLETED)
    assert not done
    assert first.latency_s is not None
    for link in (first, second):
        link.end("done")
    await asyncio.gather(*running)


async def test_a_peer_that_takes_nothing_ends_the_link_and_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "STALL_S", 0.3)
    a, _ = pair()
    link = Link(a, max_body=1)
    link.stream(1, encode_frame({}, [bytes(5 * PIECE)]))
    async with asyncio.timeout(BOUND_S):
        assert "took nothing" in await link.run(Recorder())
    link = Link(a, max_body=1)
    for _number in range(links.MAX_CONTROLS + 1):
        link.post({"n": 1})
    assert link.ended == "it takes nothing any more"


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=20) | st.none(), max_size=5))
def test_control_records_survive_the_way(record: dict[str, Any]) -> None:
    assert decode_control(encode_control(record)) == record
