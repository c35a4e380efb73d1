"""Two services on one PostgreSQL share rules, events and their deliveries, and either may go."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from buckets import s3_bucket
from trigger_rig import Rig, created, rig, rule_text, store_of

from pixelmill.triggers.book import rule_from_dict
from servers import Moto

pytestmark = pytest.mark.anyio

COUNT = 120


async def test_events_that_either_takes_are_delivered_once_each(
    tmp_path: Path, moto_server: Moto, postgres_url: str, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    put = store_of(source).put
    await asyncio.gather(*(put(f"{number}.jpg", pictures[number % 8]) for number in range(COUNT)))
    rules = rule_text("r", f"{source.uri}/", f"{target.uri}/")
    events = [created(f"{source.uri}/{number}.jpg") for number in range(COUNT)]
    async with AsyncExitStack() as stack:
        both: list[Rig] = [
            await stack.enter_async_context(
                rig(tmp_path / "data", rules, source, target, database_url=postgres_url, store=str(tmp_path / "store"))
            )
            for _ in range(2)
        ]
        # Each is told half twice, and all of it at the same moment.
        taken = await asyncio.gather(
            *(both[start % 2].triggers.take("test", events[start : start + 40]) for start in range(0, COUNT, 10))
        )
        assert sum(one.accepted for one in taken) == COUNT
        rows = await both[1].settled()
        assert {row.state for row in rows} == {"delivered"}
        assert len(rows) == COUNT
        counted = (await both[0].triggers.state())["rules"]["r"]
        assert (counted["accepted"], counted["delivered"], counted["dead"]) == (COUNT, COUNT, 0)
        jobs = {row.job for row in rows}
        sizes = [(await both[0].service.job("local", job or "")).counts.total for job in jobs]
        assert sum(sizes) == COUNT, "no object ran twice"
    assert len([info async for info in store_of(target).list()]) == COUNT


async def test_a_rule_that_one_gets_is_soon_in_force_in_the_other(
    tmp_path: Path, moto_server: Moto, postgres_url: str, pictures: list[bytes]
) -> None:
    source, target = s3_bucket(moto_server, prefix="in"), s3_bucket(moto_server, prefix="out")
    await store_of(source).put("a.jpg", pictures[0])
    rule = rule_from_dict(
        {"name": "api", "watch": f"{source.uri}/", "output": f"{target.uri}/", "pipeline": "grayscale/format:png"}
    )
    async with AsyncExitStack() as stack:
        one, other = [
            await stack.enter_async_context(
                rig(tmp_path / "data", None, source, target, database_url=postgres_url, store=str(tmp_path / "store"))
            )
            for _ in range(2)
        ]
        await one.triggers.put_rule(rule)
        async with asyncio.timeout(30):
            while "api" not in other.triggers.rule_set().rules:  # noqa: ASYNC110 -- another service's, it tells nobody
                await asyncio.sleep(0.05)
        await other.triggers.take("test", [created(f"{source.uri}/a.jpg")])
        assert [row.state for row in await one.settled()] == ["delivered"]
        await other.triggers.remove_rule("api")
        async with asyncio.timeout(30):
            while one.triggers.rule_set().rules:  # noqa: ASYNC110 -- see above
                await asyncio.sleep(0.05)
