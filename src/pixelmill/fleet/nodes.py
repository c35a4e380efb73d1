"""The nodes that have joined this hub: they come with a connection, and go with it.

A node that says hello becomes a target of the dispatcher with a gate of its own, which is judged here by the load that
it tells each second. When it is lost it is a target no more, and its tasks go elsewhere at once. Times are this
machine's; a node's clock is never asked.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import astuple
from typing import Any

from pixelmill import __version__, logs
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import LoadGate, gate_named
from pixelmill.fleet.load import LoadHistory, LoadSample
from pixelmill.targets.link import Link, LinkEnded, Pipe, decode_control, encode_control
from pixelmill.targets.needs import EXTRAS
from pixelmill.targets.node import PROTOCOL, Hello, JoinedNode

log = logging.getLogger(__name__)

HELLO_S = 5.0
"""How long a connection may take to say hello."""
CLOSE_S = 2.0
MAX_NODES = 256
MAX_HISTORIES = 512
ALLOWED_EVERY_S = 30.0
"""How often it is asked whether a node may stay: a token may be revoked."""


class Member:
    """A node that has joined, with its gate and the last hour."""

    def __init__(self, node: JoinedNode, gate: LoadGate, history: LoadHistory, at: float) -> None:
        self.node, self.gate, self.history, self.at = node, gate, history, at

    def observe(self, record: dict[str, Any], at: float) -> None:
        """Take a load record into account; raises :class:`ValueError` for one that is none."""
        host_cpu, host_ram, own_cpu, own_ram, own_rss = (float(value) for value in record["load"])
        values = (host_cpu, host_ram, own_cpu, own_ram)
        if not all(0.0 <= value <= 100.0 for value in values) or not 0 <= own_rss < 1 << 60:
            raise ValueError(f"a load out of its range: {record['load']!r}")
        sample = LoadSample(*values, int(own_rss))
        self.history.add(sample, at)
        self.gate.observe(sample)

    def describe(self, *, history: bool = True) -> dict[str, Any]:
        """What is known of the node, as plain values; the last hour of it takes some milliseconds to tell."""
        hello, link = self.node.hello, self.node.link
        known = {
            "name": self.node.name,
            "kind": "joined",
            "version": hello.version,
            "instance": hello.instance,
            "cores": hello.cores,
            "extras": list(hello.extras),
            "libraries": dict(hello.libraries),
            "joined": self.at,
            "draining": self.node.draining,
            "latency_ms": None if link.latency_s is None else round(1000 * link.latency_s, 1),
            "now": self.history.last(),
        }
        return known | ({"history": self.history.snapshot()} if history else {})


class Nodes:
    """All nodes of one hub. ``gate`` is the rule for those that ask for none; ``max_reply`` bounds one result in bytes.

    ``taken``: names that no node gets. Belongs to one event loop.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        gate: str = "threshold",
        max_reply: int = 1_000_000_000,
        taken: tuple[str, ...] = (),
        now: Callable[[], float] = time.time,
    ) -> None:
        gate_named(gate)
        self._dispatcher = dispatcher
        self._gate, self._max_reply, self._taken, self._now = gate, max_reply, taken, now
        self._members: dict[str, Member] = {}
        self._histories: OrderedDict[str, LoadHistory] = OrderedDict()  # by instance: a node that comes back goes on
        self._open = 0
        self._closed = False
        self._all_gone = asyncio.Event()
        self.lost = 0

    async def serve(self, pipe: Pipe, allowed: Callable[[], Awaitable[object]]) -> None:
        """Serve one connection to its end. ``allowed`` raises an error of the tree when the node may not stay."""
        self._open += 1
        self._all_gone.clear()
        try:
            member = await self._admitted(pipe)
            if member is not None:
                await self._served(member, pipe, allowed)
        finally:
            pipe.abort()
            self._open -= 1
            if not self._open:
                self._all_gone.set()

    async def close(self) -> None:
        """End all connections: nodes are told, and will look for this hub again."""
        self._closed = True
        await asyncio.gather(*(member.node.stop() for member in self.members()))
        if self._open:
            await asyncio.wait([asyncio.ensure_future(self._all_gone.wait())], timeout=HELLO_S + CLOSE_S)

    def describe(self, *, history: bool = True) -> list[dict[str, Any]]:
        """All members, as plain values."""
        return [member.describe(history=history) for member in self._members.values()]

    def members(self) -> list[Member]:
        """All members."""
        return list(self._members.values())

    # -- joining ---------------------------------------------------------------------------------

    async def _admitted(self, pipe: Pipe) -> Member | None:
        """The member that a connection becomes; None where it was refused, and told why."""
        try:
            async with asyncio.timeout(HELLO_S):
                record = decode_control(await pipe.receive())
            return await self._welcomed(record, pipe)
        except (LinkEnded, TimeoutError) as error:
            logs.event("node.refused", reason=str(error) or f"it said no hello within {HELLO_S:g} s")
        except (ValueError, ConfigError) as error:
            logs.event("node.refused", reason=str(error))
            await self._refuse(pipe, str(error))
        return None

    async def _welcomed(self, record: dict[str, Any], pipe: Pipe) -> Member:
        self._check(record)
        hello = Hello.from_dict(record["hello"])
        gate = gate_named(hello.gate or self._gate)
        link = Link(pipe, max_body=self._max_reply)
        member = self._join(hello, link, gate)
        logs.event("node.joined", node=member.node.name, instance=hello.instance, capacity=hello.capacity)
        link.post({"welcome": {"name": member.node.name, "version": __version__}})
        return member

    def _check(self, record: dict[str, Any]) -> None:
        """Raise :class:`ValueError` unless it is a hello of our own version, and there is room."""
        said = record.get("hello")
        if not isinstance(said, dict):
            raise ValueError("The first message must be a hello.")  # noqa: TRY004 - a wrong value on the wire
        protocol, version = said.get("protocol"), said.get("version")
        if protocol != PROTOCOL or version != __version__:
            raise ValueError(
                f"This hub runs Pixelmill {__version__} (protocol {PROTOCOL}), and the node {str(version)[:40]!r} "
                f"(protocol {str(protocol)[:10]}). An image must come out the same everywhere: install "
                f"{__version__} on the node."
            )
        if self._closed or self._open > MAX_NODES:
            raise ValueError(f"The hub is stopping, or has its {MAX_NODES} nodes.")

    def _join(self, hello: Hello, link: Link, gate: LoadGate) -> Member:
        for old in self.members():
            if old.node.hello.instance == hello.instance:  # the same process: its old connection is dead
                old.node.link.end("the same process has connected again")
                self._gone(old)
        history = self._histories.pop(hello.instance, None) or LoadHistory()
        self._histories[hello.instance] = history
        while len(self._histories) > MAX_HISTORIES:
            self._histories.popitem(last=False)
        node = JoinedNode(
            self._free_name(hello.name),
            hello,
            link,
            on_load=lambda record: self._observe(member, record),
            on_drain=lambda: self._dispatcher.remove(node.name),
        )
        member = Member(node, gate, history, self._now())
        self._members[node.name] = member
        self._dispatcher.add(node, gate, lacks=EXTRAS.difference(hello.extras))
        return member

    def _free_name(self, wanted: str) -> str:
        taken = {*self._taken, *self._members, *self._dispatcher.names()}
        name, number = wanted, 1
        while name in taken:
            number += 1
            name = f"{wanted[:58]}-{number}"
        return name

    async def _refuse(self, pipe: Pipe, reason: str) -> None:
        try:
            async with asyncio.timeout(CLOSE_S):
                await pipe.send(encode_control({"refused": reason}))
                await pipe.close("refused")
        except (LinkEnded, TimeoutError):
            pass  # it has gone, or does not listen

    # -- while it is here ------------------------------------------------------------------------

    async def _served(self, member: Member, pipe: Pipe, allowed: Callable[[], Awaitable[object]]) -> None:
        watch = asyncio.create_task(self._keep_asking(member, allowed))
        try:
            await member.node.link.run(member.node)
        finally:
            watch.cancel()
            self._gone(member)
        if not member.node.link.dead:
            with suppress(TimeoutError):  # nobody there to agree; it is aborted
                async with asyncio.timeout(CLOSE_S):
                    await pipe.close(member.node.link.ended or "")

    async def _keep_asking(self, member: Member, allowed: Callable[[], Awaitable[object]]) -> None:
        while True:
            await asyncio.sleep(ALLOWED_EVERY_S)
            try:
                await allowed()
            except PixelmillError as error:
                if not error.retryable:
                    member.node.link.post({"refused": str(error)})
                    await member.node.link.flush()
                    member.node.link.end("it may not stay: its token is not valid any more")
            except Exception:  # a defect; but a token that is revoked later must still end the connection
                log.exception("it is not known whether node %s may stay", member.node.name)

    def _observe(self, member: Member, record: dict[str, Any]) -> None:
        member.observe(record, self._now())
        self._dispatcher.poke()

    def _gone(self, member: Member) -> None:
        """It is a target no more, and what ran there ends; once."""
        node = member.node
        if self._members.get(node.name) is not member:
            return
        del self._members[node.name]
        self._dispatcher.remove(node.name)
        reason = node.link.ended or "the connection was given up"
        tasks = node.lose(reason)
        if node.said_goodbye and not tasks:
            logs.event("node.left", node=node.name, instance=node.hello.instance)
        elif not self._closed:
            self.lost += 1
            logs.event("node.lost", node=node.name, instance=node.hello.instance, reason=reason, tasks=tasks)


def load_record(sample: LoadSample) -> list[float]:
    """A sample as :meth:`Member.observe` reads it."""
    return list(astuple(sample))
