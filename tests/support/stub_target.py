"""A target in memory whose tasks end when a test says so."""

from __future__ import annotations

import asyncio

from pixelmill.images.image import Size
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.target import RunRequest, RunResult, TargetLoad


class StubTarget:
    def __init__(self, name: str = "stub", capacity: int = 2, model_slots: int = 0) -> None:
        self.name = name
        self.capacity = capacity
        self.model_slots = model_slots
        self.healthy = True
        self.ids: list[str] = []
        self.go = asyncio.Event()
        self.go.set()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def load(self) -> TargetLoad:
        reason = "" if self.healthy else "ill"
        return TargetLoad(len(self.ids), self.capacity, 0, self.healthy, reason, self.model_slots)

    async def run(self, request: RunRequest) -> RunResult:
        self.ids.append(request.id)
        await self.go.wait()
        return RunResult(Outcome(b"", "png", "image/png", None, Size(1, 1), "png"), self.name, "1")
