"""What every target must do. Subclass :class:`TargetConformance` in your tests and give it a target and requests.

::

    class TestMyTarget(TargetConformance):
        def make(self) -> Target: ...
        def good(self) -> RunRequest: ...
        def bad(self) -> RunRequest: ...
        def endless(self) -> RunRequest: ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from pixelmill.errors import Cancelled, InputError, ShuttingDown, TaskTimeout
from pixelmill.targets.target import RunRequest, RunResult, Target

BOUND_S = 30.0
"""Nothing here takes that long; a test that would hang fails instead."""


@pytest.mark.anyio
class TargetConformance:
    """Tests of the contract in ``targets/target.py``."""

    def make(self) -> Target:
        """A target that was not started, with room for at least two tasks."""
        raise NotImplementedError

    def good(self) -> RunRequest:
        """A request that succeeds soon."""
        raise NotImplementedError

    def bad(self) -> RunRequest:
        """A request whose source raises an :class:`InputError`."""
        raise NotImplementedError

    def endless(self) -> RunRequest:
        """A request that never ends by itself."""
        raise NotImplementedError

    async def test_a_good_request_gives_its_outcome_and_where_it_ran(self) -> None:
        """``run`` returns outcome, target and worker."""
        async with _running(self.make()) as target:
            result = await target.run(self.good())
            assert result.outcome.bytes is not None or result.outcome.data
            assert result.target == target.name
            assert result.worker

    async def test_an_error_of_the_image_arrives_as_itself(self) -> None:
        """The class, the sentence and the context survive the way."""
        async with _running(self.make()) as target:
            with pytest.raises(InputError) as caught:
                await target.run(self.bad())
            assert caught.value.detail
            await target.run(self.good())

    async def test_the_load_counts_what_runs(self) -> None:
        """``running`` goes up with a task and down after it; it never exceeds the capacity and the slots for models."""
        async with _running(self.make()) as target:
            load = target.load()
            assert load.capacity >= 2
            assert load.running == 0
            most = load.capacity + load.model_slots
            tasks = [asyncio.create_task(target.run(self.good())) for _ in range(3 * most)]
            while not all(task.done() for task in tasks):
                assert target.load().running <= most
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED, timeout=0.01)
            assert all(task.result().outcome for task in tasks)
            assert target.load().running == 0

    async def test_the_time_limit_is_hard(self) -> None:
        """A task over its limit raises :class:`TaskTimeout`, and its room is free again."""
        async with _running(self.make()) as target:
            with pytest.raises(TaskTimeout):
                await target.run(replace(self.endless(), timeout_s=0.2))
            await target.run(self.good())

    async def test_cancelling_the_await_frees_the_room(self) -> None:
        """As often as there is capacity, and once more."""
        async with _running(self.make()) as target:
            for _ in range(target.load().capacity + 1):
                task = await _started(target, self.endless())
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            assert target.load().running == 0
            await target.run(self.good())

    async def test_stopping_cancels_what_runs_and_refuses_what_comes(self) -> None:
        """Running tasks raise :class:`Cancelled`, later ones :class:`ShuttingDown`; a second stop does nothing."""
        async with _running(self.make()) as target:
            task = await _started(target, self.endless())
            await target.stop()
            with pytest.raises(Cancelled):
                await task
            with pytest.raises(ShuttingDown):
                await target.run(self.good())
            await target.stop()


@asynccontextmanager
async def _running(target: Target) -> AsyncIterator[Target]:
    async with asyncio.timeout(BOUND_S):
        await target.start()
        try:
            yield target
        finally:
            await target.stop()


async def _started(target: Target, request: RunRequest) -> asyncio.Task[RunResult]:
    """The task of a run that the target counts as running."""
    before = target.load().running
    task = asyncio.create_task(target.run(request))
    while target.load().running == before and not task.done():
        await asyncio.wait([task], timeout=0.001)
    return task
