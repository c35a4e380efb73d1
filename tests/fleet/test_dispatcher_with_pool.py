"""The dispatcher in front of a real pool: crashes, cancels and priorities lose no slot and no process."""

from __future__ import annotations

import asyncio
import random

import pytest
from pool_tools import request, running_pool

from pixelmill.errors import WorkerCrashed
from pixelmill.fleet.dispatcher import ORDER, Dispatcher


@pytest.mark.anyio
async def test_a_storm_of_good_bad_and_cancelled_work_leaves_everything_in_order() -> None:
    chance = random.Random(7)
    async with running_pool(workers=3) as pool:
        dispatcher = Dispatcher([pool])
        most = 0

        async def one(number: int) -> str:
            nonlocal most
            try:
                async with await dispatcher.acquire(chance.choice(ORDER)) as slot:
                    most = max(most, pool.load().running + 1)
                    action = "leave" if number % 10 == 0 else "echo"
                    result = await slot.run(request(action, b"%d" % number))
            except WorkerCrashed:
                return "crashed"
            assert result.outcome.bytes == b"%d" % number
            return "done"

        tasks = [asyncio.create_task(one(number)) for number in range(200)]
        for number, task in enumerate(tasks):
            if number % 10 == 5:
                await asyncio.sleep(0)
                task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(ends[number] == "crashed" for number in range(0, 200, 10))
        assert all(ends[number] == "done" for number in range(200) if number % 5)
        assert (dispatcher.running, dispatcher.waiting, pool.load().running) == (0, 0, 0)
        assert most <= 3
        slots = [await dispatcher.acquire("interactive", 0) for _ in range(3)]
        for slot in slots:
            await slot.run(request("echo"))
            slot.release()
        assert await dispatcher.drain(1)
