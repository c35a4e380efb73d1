"""How long the next message of each class has waited: what overflow goes by."""

from __future__ import annotations

from pathlib import Path

import pytest

from pixelmill.engines.queue import Message
from pixelmill.engines.sql_queue import SqlLeaseQueue
from pixelmill.jobs.database import Database

pytestmark = pytest.mark.anyio


async def test_heads_are_told_by_priority_and_those_handed_out_are_none(tmp_path: Path) -> None:
    now = 1000.0
    async with Database(f"sqlite:///{tmp_path / 'state.sqlite'}") as database:
        queue = SqlLeaseQueue(database, now=lambda: now)
        assert (await queue.depth()).heads == {}
        await queue.send([Message("batch", "{}", priority=2)])
        now = 1010.0
        await queue.send([Message("first", "{}", priority=1, rank=1), Message("later", "{}", priority=1, rank=2)])
        now = 1015.0
        await queue.send([Message("before", "{}", priority=1, rank=0)])
        now = 1020.0
        assert (await queue.depth()).heads == {1: 5.0, 2: 20.0}
        await queue.receive(1, 60)
        assert (await queue.depth()).heads == {1: 10.0, 2: 20.0}
