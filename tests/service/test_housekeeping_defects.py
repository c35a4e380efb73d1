"""Housekeeping goes on, whatever a round ends with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from pixelmill.service import ServiceConfig, housekeeping, loops
from pixelmill.service.housekeeping import Housekeeping
from pixelmill.service.parts import Parts


@pytest.mark.anyio
async def test_a_defect_in_one_round_does_not_end_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(housekeeping, "GAUGES_S", 0.01)
    again = asyncio.Event()

    class Defective(Housekeeping):
        rounds = 0

        async def measure(self) -> None:
            self.rounds += 1
            if self.rounds == 1:
                raise RuntimeError("a defect")
            again.set()

        async def clean(self) -> None:
            """Nothing: no database is open."""

        async def sweep(self) -> None:
            """Nothing either."""

    task = asyncio.create_task(Defective(Parts(ServiceConfig(data=tmp_path / "data"))).run())
    try:
        async with asyncio.timeout(10):
            await again.wait()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.anyio
async def test_a_loop_that_ends_in_a_defect_is_begun_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(loops, "PAUSE_S", 0.01)
    runs = 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError("a defect")

    async with asyncio.timeout(10):
        await loops.keep_going(work, "webhooks")
    assert runs == 3
    assert len(caplog.records) == 2
