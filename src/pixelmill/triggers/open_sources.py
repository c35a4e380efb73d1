"""The sources of events that run: opened and closed as the rules file says, and again after a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelmill import logs
from pixelmill.triggers.rule import SourceSpec
from pixelmill.triggers.source import EventSource, open_source
from pixelmill.triggers.verbs import Taker

PAUSES_S = (1.0, 2.0, 5.0, 15.0, 60.0)
"""Before a source that failed is opened again; the last one from then on."""

Open = Callable[[SourceSpec], EventSource]


def opener(roots: Sequence[Path], *, on_loopback: bool) -> Open:
    """Opens sources for a service that may read ``roots``."""
    return lambda spec: open_source(spec, roots=roots, on_loopback=on_loopback)


class OpenSources:
    """Runs every source in a task of its own."""

    def __init__(self, taker: Taker, open_: Open) -> None:
        self._taker, self._open = taker, open_
        self._running: dict[str, tuple[SourceSpec, asyncio.Task[None]]] = {}
        self._errors: dict[str, str] = {}

    async def follow(self, specs: Mapping[str, SourceSpec]) -> None:
        """End what is no longer there, or is another by now, and begin what is new."""
        gone = [name for name, (spec, _) in self._running.items() if specs.get(name) != spec]
        await self._stop(gone)
        for name, spec in specs.items():
            if name not in self._running:
                self._running[name] = (spec, asyncio.create_task(self._tend(spec), name=f"source {name}"))

    async def stop(self) -> None:
        """End all."""
        await self._stop(list(self._running))

    async def _stop(self, names: Sequence[str]) -> None:
        ended = [self._running.pop(name)[1] for name in names]
        for name in names:
            self._errors.pop(name, None)
        for task in ended:
            task.cancel()
        await asyncio.gather(*ended, return_exceptions=True)

    async def _tend(self, spec: SourceSpec) -> None:
        """Run a source until cancelled; one that ends is opened again after a pause."""
        for attempt in range(1 << 62):
            try:
                source = self._open(spec)
                self._errors.pop(spec.name, None)
                try:
                    await source.run(self._taker)
                finally:
                    with suppress(Exception):  # it failed already, or is to end
                        await source.close()
            except Exception as error:  # noqa: BLE001 -- a defect in one source must not end the others
                self._errors[spec.name] = str(error)
                logs.event("source.failed", error=error, source=spec.name)
            await asyncio.sleep(PAUSES_S[min(attempt, len(PAUSES_S) - 1)])

    def state(self) -> Mapping[str, Mapping[str, Any]]:
        """By name: its kind, and why it does not run where it does not."""
        return {name: {"kind": spec.kind, "error": self._errors.get(name)} for name, (spec, _) in self._running.items()}
