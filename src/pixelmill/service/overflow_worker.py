"""The place of an overflow worker: the serverless targets of the settings, for what workers of our own don't take.

It stands beside workers of our own on the same queue. The rule is ``fleet/spill.py``; each call is reserved in the
database before it is made, so that any number of such workers and services share one budget.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import AsyncExitStack

from pixelmill.engines.engine import Engine
from pixelmill.engines.queue import LeaseQueue
from pixelmill.engines.rabbit import RabbitQueue
from pixelmill.errors import ConfigError, PixelmillError
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.spill import Backlog, Spill
from pixelmill.jobs.database import Database
from pixelmill.service.backends import make_database, make_engine
from pixelmill.service.overflow import Overflow
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.worker import Post

log = logging.getLogger(__name__)

LOOK_S = 1.0


class OverflowPlace:
    """See :class:`pixelmill.service.worker.Place`. Raises :class:`ConfigError` where settings are missing."""

    def __init__(self, config: ServiceConfig) -> None:
        self._overflow: Overflow | None = None
        targets = config.overflow.targets
        if not targets:
            raise ConfigError(
                "`pixelmill worker --overflow` sends tasks to serverless targets, and none is configured. Add an "
                "[[overflow]] table to pixelmill.toml; see docs/overflow.md.",
                setting="overflow",
            )
        paid = next((one.name for one in targets if one.price.per_call or one.price.per_second), None)
        if paid is not None and config.queue_url != "sql:" and not config.database_url:
            raise ConfigError(
                f"The overflow target {paid!r} costs money. Each call is reserved in the database before it is made, "
                "so that the budget holds for all workers together: an overflow worker needs database_url, the "
                "service's own (PIXELMILL_DATABASE_URL). Workers without --overflow need none.",
                setting="database_url",
            )

    async def engine(self, post: Post, stack: AsyncExitStack) -> Engine:
        """See ``Place``."""
        config = post.config
        dispatcher = Dispatcher([], max_waiting=config.max_waiting)
        overflow = Overflow(
            config.overflow,
            await self._database(post, stack),
            post.store,
            dispatcher,
            post.queue,
            post.metrics,
            task_timeout_s=config.timeout_s,
            overflowing=lambda: spill.reason(),  # noqa: PLW0108 -- it is made after us
        )
        exact = post.queues is None
        waited = "work had waited" if exact else "work had waited without a break"
        spill = Spill(config.overflow.latency_s, overflow.refusal, waited=waited)
        engine = make_engine(
            config,
            post.queue,
            post.queues,
            dispatcher,
            post.executor(),
            post.emit,
            slots=overflow.capacity,
            spill=spill,
            cancels=post.cancels,
        )
        self._overflow = overflow
        await overflow.start()
        stack.push_async_callback(overflow.stop)
        loops = [overflow.watch.run()]
        if not isinstance(post.queue, RabbitQueue):  # else the engine looks itself, for it asks who consumes
            loops.append(_look(spill, post.queue, engine))
        for loop in loops:
            stack.callback(asyncio.create_task(loop, name="overflow").cancel)
        return engine

    def busy(self) -> tuple[int, frozenset[str]]:
        """See ``Place``."""
        targets = [] if self._overflow is None else self._overflow.targets
        return sum(target.load().running for target in targets), frozenset(target.name for target in targets)

    async def _database(self, post: Post, stack: AsyncExitStack) -> Database | None:
        """The one that the queue is in, or the one that is named; None where nothing costs anything."""
        if post.database is not None or not post.config.database_url:
            return post.database
        database = make_database(post.config)
        await database.open()
        stack.push_async_callback(database.close)
        return database


async def _look(spill: Spill, queue: LeaseQueue, engine: Engine) -> None:
    """Each second: how long has work waited? Until cancelled."""
    backlog = Backlog()
    while True:
        try:
            depth = await queue.depth()
        except PixelmillError as error:
            log.warning("overflow could not ask how long work has waited: %s", error)
            spill.blind()
        else:
            spill.look(backlog.ages(depth.counts or {}) if depth.heads is None else depth.heads)
        if spill.most >= 0:
            engine.wake()
        await asyncio.sleep(LOOK_S)
