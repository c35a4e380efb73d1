"""A service and its runtime of triggers in this process, with sources of events that a test plays itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from buckets import Bucket

from pixelmill.jobs.trigger_events import TriggerEvent
from pixelmill.service import Service, ServiceConfig
from pixelmill.storage.opening import open_store
from pixelmill.storage.options import StoreSpec
from pixelmill.storage.store import ObjectStore
from pixelmill.triggers.event import ObjectEvent
from pixelmill.triggers.runtime import Triggers

BOUND_S = 60.0


def rule_text(
    name: str, watch: str, output: str, pipeline: str = "resize:32,32,fit=fill/format:png", **more: str
) -> str:
    """One rule in TOML; ``more`` are values as they stand there."""
    lines = [f'name = "{name}"', f'watch = "{watch}"', f'pipeline = "{pipeline}"', f'output = "{output}"']
    lines += [f"{key} = {value}" for key, value in more.items()]
    return "\n".join(["[[rules]]", *lines, ""])


def created(uri: str, version: str = "1", at: float = 1_700_000_000.0, **more: object) -> ObjectEvent:
    return ObjectEvent(uri, "created", version, at, **more)  # type: ignore[arg-type] # as the test says


@dataclass
class Rig:
    """What a test plays with."""

    service: Service
    triggers: Triggers

    async def rows(self, rule: str | None = None, state: str | None = None) -> list[TriggerEvent]:
        """All rows, newest first."""
        found: list[TriggerEvent] = []
        cursor: str | None = None
        while True:
            page = await self.triggers.events(rule, state=state, limit=1000, cursor=cursor)
            found += page.items
            cursor = page.next
            if cursor is None:
                return found

    async def until(self, holds: Callable[[list[TriggerEvent]], bool]) -> list[TriggerEvent]:
        """The rows, when they are as wanted."""
        rows: list[TriggerEvent] = []
        try:
            async with asyncio.timeout(BOUND_S):
                while not holds(rows := await self.rows()):  # noqa: ASYNC110 -- rows tell nobody that they changed
                    await asyncio.sleep(0.05)  # between two questions; the bound is above
        except TimeoutError:
            raise AssertionError(f"not within {BOUND_S:g} s: {rows}") from None
        return rows

    async def settled(self) -> list[TriggerEvent]:
        """The rows, when none is on its way any more."""
        return await self.until(lambda rows: all(row.state not in {"waiting", "submitted"} for row in rows))


@asynccontextmanager
async def rig(data: Path, rules: str | None, *buckets: Bucket, **settings: object) -> AsyncIterator[Rig]:
    """A service over a data folder, with the rules in a file beside it."""
    path = None
    if rules is not None:
        path = data.parent / "rules.toml"
        path.write_text(rules)
    stores = {f"store{number}": StoreSpec(bucket.uri, dict(bucket.options)) for number, bucket in enumerate(buckets)}
    config = ServiceConfig(data=data, stores=stores, **{"workers": 1, **settings})  # type: ignore[arg-type] # as the test says
    service = Service(config)
    triggers = Triggers(service, path, on_loopback=True)
    await service.start()
    try:
        await triggers.start()
        try:
            yield Rig(service, triggers)
        finally:
            await triggers.stop()
    finally:
        await service.stop()


def store_of(bucket: Bucket) -> ObjectStore:
    return open_store(bucket.uri, bucket.options)
