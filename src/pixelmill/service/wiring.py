"""Starts the parts of a service from the ground up, stops them in reverse, and says how they are."""

from __future__ import annotations

import asyncio
import functools
import os
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

from pixelmill import __version__, logs
from pixelmill.cores import usable_cores
from pixelmill.engines.event_queue import EventIntake
from pixelmill.engines.patience import when_there
from pixelmill.errors import PixelmillError
from pixelmill.events.webhooks import WebhookSender
from pixelmill.fleet.load import LoadMonitor
from pixelmill.fleet.samplers import sampler_for
from pixelmill.jobs.suspects import Suspects
from pixelmill.service.about import installed_extras, library_versions
from pixelmill.service.fleet_history import FleetHistory
from pixelmill.service.housekeeping import Housekeeping
from pixelmill.service.loops import Follower, for_ever, in_background
from pixelmill.service.missing import LOOK_S, Missing
from pixelmill.service.parts import Parts
from pixelmill.service.reconcile import Lost, Reconcile
from pixelmill.service.telemetry import Telemetry
from pixelmill.service.webhooks import Courier
from pixelmill.storage.opening import close_store, sweep_store

CHECK_S = 1.0
ANSWER_S = 5.0
"""A store or database that takes longer to answer is not ready."""


class Wiring:
    """The life of one service: ``start``, ``stop``, and its health between them."""

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        self.housekeeping = Housekeeping(parts)
        self._monitor = LoadMonitor(sampler_for(parts.tiled.processes), parts.load, parts.observe)
        self._stack = AsyncExitStack()
        self._reconcile = Reconcile(parts.jobs, parts.store, parts.recorder.emit)
        self._lost = Lost()
        self._checked: dict[str, dict[str, Any]] = {}
        self._checked_until = 0.0

    async def start(self) -> None:
        """From the ground up: folder, database, what a crash left, pool, consumer, housekeeping."""
        try:
            await self._start()
        except BaseException:
            await self._stack.aclose()
            raise

    async def _start(self) -> None:
        stack = self._stack
        telemetry = Telemetry(self.parts.config.telemetry, self.parts.metrics)
        telemetry.start()
        stack.push_async_callback(telemetry.stop)
        self.parts.lock.acquire()
        stack.callback(self.parts.lock.release)
        stack.callback(close_store, self.parts.store)
        await sweep_store(self.parts.store)
        await self.parts.store.check()
        stack.push_async_callback(self.parts.database.close)
        await when_there(self.parts.database.open, "the database")
        recovered = [] if self.parts.database.shared else await self.parts.sql_queue.recover()
        await self._reconcile.run(requeue=False)  # what has no result is put back below
        found = await self.parts.upkeep.reconcile(recovered)
        if found.interrupted or found.requeued:
            logs.event("recovery.requeued", interrupted=found.interrupted, requeued=found.requeued, stale=found.stale)
        await self._open_queues()
        await self.parts.pool.start()
        stack.push_async_callback(self.parts.pool.stop)
        stack.push_async_callback(self.parts.tiled.end_runs)
        stack.push_async_callback(self.parts.thumbnails.stop)
        stack.push_async_callback(self.parts.nodes.close)  # after the engine: what runs on nodes may end
        await self.parts.overflow.start()
        stack.push_async_callback(self.parts.overflow.stop)
        if self.parts.config.local_work:
            await self.parts.engine.start()
            stack.push_async_callback(self.parts.engine.stop, self.parts.config.drain_s)
        stack.callback(self.parts.bus.close)
        await self._join_fleet()
        self._background(self._monitor.run, "load")
        courier = Courier(self.parts.webhooks, WebhookSender(allow_private=self.parts.config.webhook_allow_private))
        self._background(courier.run, "webhooks")
        self._background(self._measure, "history")
        self._background(Follower(self.parts.event_log, self.parts.bus).run, "follower")
        if self.parts.releaser is not None:
            self._background(self.parts.releaser.run, "outbox")
            self._background(self._find_missing, "missing")
        if self.parts.cloud is not None:
            self._background(EventIntake(self.parts.cloud.events, self.parts.recorder.emit).run, "intake")
        self._background(self.housekeeping.run, "housekeeping")
        if self.parts.overflow.targets:
            self._background(self.parts.overflow.watch.run, "overflow")
        logs.event("service.started", version=__version__, data=str(self.parts.config.data), pid=os.getpid())

    async def _open_queues(self) -> None:
        """Those of a cloud, where one is configured."""
        if self.parts.cloud is not None:
            for queue in (self.parts.cloud.tasks, self.parts.cloud.events):
                self._stack.push_async_callback(queue.close)
                await when_there(queue.open, "the queue")

    async def _measure(self) -> None:
        """A row of the history each second."""
        while True:
            await asyncio.sleep(1.0)
            depth = self.housekeeping.depth
            running, overflow = self._busy()
            self.parts.history.tick(
                time.time(),
                waiting=depth.waiting,
                oldest_s=depth.oldest_s,
                running=running,
                overflow=overflow,
                peak=self.parts.dispatcher.take_peak(),
            )

    def _busy(self) -> tuple[int, frozenset[str]]:
        """Busy slots, and the names of overflow targets."""
        targets = self.parts.dispatcher.snapshot()["targets"]
        overflow = frozenset(target["name"] for target in targets if target["overflow"])
        return sum(target["running"] + target["models"]["running"] for target in targets), overflow

    async def _find_missing(self) -> None:
        """Of a queue elsewhere: tasks whose messages it has lost."""
        parts = self.parts
        missing = Missing(
            Suspects(parts.jobs),
            parts.queue.depth,
            self._reconcile.send_again,
            silence_s=max(parts.config.lease_s, parts.config.timeout_s),
        )

        async def step() -> None:
            await asyncio.sleep(LOOK_S)
            async with parts.database.hold("missing", wait=False) as mine:
                if mine and await missing.look():
                    parts.wake()

        await for_ever(step, "lost messages can't be looked for")

    async def _join_fleet(self) -> None:
        """Hear other services and workers, and be seen by them; nothing of it where there is no Redis."""
        shared, parts = self.parts.shared, self.parts
        shared.start()
        self._stack.push_async_callback(shared.stop)
        source = shared.source(parts.recorder.emit, self._lost.set)
        if source is not None:
            self._stack.push_async_callback(source.close)
            self._background(source.run, "events")
        self._background(lambda: self._reconcile.forever(self._lost), "reconcile")
        self._background(lambda: shared.announce(functools.partial(self.nodes, history=False)), "registry")
        if shared.news is not None:
            fleet = FleetHistory(parts.history, shared.news, shared.replica)
            self._background(lambda: fleet.tell(self._busy), "history told")
            self._background(fleet.hear, "history heard")

    def _background(self, work: Callable[[], Awaitable[object]], name: str) -> None:
        in_background(self._stack, work, name)

    async def stop(self) -> None:
        """In reverse: streams, consumer (running tasks may end), pool, database, lock."""
        await self._stack.aclose()
        logs.event("service.stopped", pid=os.getpid())

    def node(self) -> dict[str, Any]:
        """This machine: its load now, its targets and what waits for them."""
        return {
            "name": socket.gethostname(),
            "kind": "here",
            "version": __version__,
            "cores": usable_cores(),
            "extras": list(installed_extras()),
            "libraries": library_versions(),
            "now": self.parts.load.last(),
            "dispatcher": self.parts.dispatcher.snapshot(),
        }

    def nodes(self, *, history: bool = True) -> list[dict[str, Any]]:
        """This machine, and every node that has joined, each with its slots and its gate; and its last hour."""
        here = self.node() | ({"history": self.parts.load.snapshot()} if history else {})
        targets = {target["name"]: target for target in here["dispatcher"]["targets"]}
        here["target"] = targets.get(self.parts.pool.name)
        return [
            here,
            *(node | {"target": targets.get(node["name"])} for node in self.parts.nodes.describe(history=history)),
        ]

    async def fleet(self, *, history: bool = True) -> list[dict[str, Any]]:
        """Our nodes, and those of the other services; of theirs without the history."""
        return await self.parts.shared.fleet(self.nodes(history=history))

    async def checks(self) -> dict[str, dict[str, Any]]:
        """What must be true to do work, each with a sentence.

        What has ``needed`` False is told, and the service stays ready: a full queue refuses new jobs, and Redis carries
        news, but a load balancer that took the service away would also take state, results and synchronous work away,
        and from all replicas at once.
        """
        pool = self.parts.pool.load()
        checks: dict[str, dict[str, Any]] = {
            "pool": {
                "ok": pool.healthy,
                "detail": pool.reason or f"{pool.running} of {pool.capacity} processes are busy.",
            }
        }
        checks |= await self._checks_of_disks()
        waiting = self.parts.dispatcher.waiting
        bound = self.parts.config.max_waiting
        checks["saturation"] = {
            "ok": waiting < bound,
            "detail": f"{waiting:,} requests wait for a slot; {bound:,} may.",
        }
        queued, bound = self.housekeeping.waiting, self.parts.config.max_queued
        checks["queue"] = {"ok": queued < bound, "needed": False, "detail": f"{queued:,} tasks wait; {bound:,} may."}
        if (redis := self.parts.shared.state()) is not None:
            checks["redis"] = redis | {"needed": False}
        return checks

    async def _checks_of_disks(self) -> dict[str, dict[str, Any]]:
        """Of store and database; at most once in ``CHECK_S``, for anybody may ask how we are as often as they like."""
        now = time.monotonic()
        if now < self._checked_until:
            return self._checked
        self._checked_until = now + CHECK_S
        checks = {"store": (self.parts.store.check, "written and read"), "database": (self._check_database, "read")}
        for name, (check, done) in checks.items():
            try:
                async with asyncio.timeout(ANSWER_S):
                    await check()
            except TimeoutError:
                self._checked[name] = {"ok": False, "detail": f"It did not answer within {ANSWER_S:g} s."}
            except PixelmillError as error:
                self._checked[name] = {"ok": False, "detail": str(error)}
            else:
                self._checked[name] = {"ok": True, "detail": f"It can be {done}."}
        return self._checked

    async def _check_database(self) -> None:
        await self.parts.event_log.last_id()
