"""A node without a hub: one image in, one image out. No database, no data folder, no jobs.

It has those verbs of :class:`pixelmill.service.Service` that the routes of ``api/app.py``'s ``CONTAINER`` ask for.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pixelmill import __version__, logs
from pixelmill.cores import usable_cores
from pixelmill.errors import RequestError, ShuttingDown, Unauthenticated
from pixelmill.fleet.dispatcher import Dispatcher
from pixelmill.fleet.gates import gate_named
from pixelmill.fleet.load import LoadHistory, LoadMonitor, LoadSample
from pixelmill.fleet.samplers import sampler_for
from pixelmill.images.limits import Limits
from pixelmill.metrics import Metrics
from pixelmill.pipelines.spec import Pipeline
from pixelmill.service.about import load_now
from pixelmill.service.caller import Caller
from pixelmill.service.interactive import Interactive
from pixelmill.service.settings import ServiceConfig
from pixelmill.service.telemetry import Telemetry
from pixelmill.service.verbs import new_id
from pixelmill.targets.local import LocalPool
from pixelmill.targets.target import RunRequest, RunResult


class Stateless:
    """``token``: what callers must show where tokens are needed; ``config.data`` is not used."""

    def __init__(self, config: ServiceConfig, token: str = "") -> None:
        self.config = config
        self.metrics = Metrics(__version__)
        self.metrics.before_render(self._set_slots)
        self._telemetry = Telemetry(config.telemetry, self.metrics)
        self._token = _digest(token) if token else None
        self._pool = LocalPool(
            workers=config.workers or usable_cores(),
            memory_bytes=config.memory_bytes,
            recycle_after=config.recycle_after,
            models=config.pool_models,
        )
        self._pool.on_restart(self.metrics.pool_restarted)
        self._gate = gate_named(config.gate)
        self._dispatcher = Dispatcher(
            [self._pool], reserved=0, max_waiting=config.max_waiting, gates={self._pool.name: self._gate}
        )
        self._interactive = Interactive(self._dispatcher, self.metrics, config.interactive_wait_s)
        self._history = LoadHistory()
        self._monitor: asyncio.Task[None] | None = None
        self._draining = False

    async def start(self) -> None:
        """Start the pool."""
        self._telemetry.start()
        await self._pool.start()
        monitor = LoadMonitor(sampler_for(self._pool.processes), self._history, self._observe)
        self._monitor = asyncio.create_task(monitor.run(), name="load")
        logs.event("service.started", version=__version__, pid=os.getpid())

    async def stop(self) -> None:
        """Let running tasks end within ``drain_s``, then stop the pool."""
        self._draining = True
        await self._dispatcher.drain(self.config.drain_s)
        if self._monitor is not None:
            self._monitor.cancel()
            with suppress(asyncio.CancelledError):
                await self._monitor
        await self._pool.stop()
        await self._telemetry.stop()
        logs.event("service.stopped", pid=os.getpid())

    def _set_slots(self) -> None:
        self.metrics.set_targets(self._dispatcher.snapshot())
        self.metrics.set_peak(self._dispatcher.peak_ever)

    def drain(self) -> None:
        """Refuse new work from now on."""
        self._draining = True

    async def process(
        self,
        owner: str,
        pipeline: Pipeline,
        body: bytes,
        name: str = "",
        *,
        images: Mapping[str, bytes] | None = None,
        timeout_s: float | None = None,
        limits: Limits | None = None,
        taken: bool = False,
    ) -> RunResult:
        """Run one image; raises :class:`Busy` where no slot comes free in time.

        ``images`` by reference must come with the request. ``timeout_s`` and ``limits``: below the node's own.
        ``taken``: it belongs to work that was taken before the node began to drain.
        """
        del owner
        if self._draining and not taken:
            raise ShuttingDown("This node is shutting down. Send the request again in a moment.", retry_after=5)
        given: dict[str, bytes | Path] = dict(images or {})
        missing = [ref for ref in (*pipeline.images(), *pipeline.font_references) if ref not in given]
        if missing:
            raise RequestError(
                f"This node keeps no uploads: {missing[0][:120]!r} must come with the request, in the form field "
                "image:REFERENCE. Or ask a service instead."
            )
        for part in (body, *(images or {}).values()):
            self.config.limits.check_bytes(len(part))
        self.metrics.bytes_received(len(body))
        limit_s = self.config.timeout_s
        request = RunRequest(
            id=new_id("run"),
            pipeline=pipeline.to_json(),
            source=body,
            images=given,
            source_name=name,
            limits=limits or self.config.limits,
            timeout_s=limit_s if timeout_s is None else min(timeout_s, limit_s),
        )
        return await self._interactive.run(request)

    async def authenticate(self, token: str) -> Caller:
        """The only caller there is; raises :class:`Unauthenticated`."""
        if self._token is None or not hmac.compare_digest(_digest(token), self._token):
            raise Unauthenticated("The token is not the one that this node was started with (PIXELMILL_TOKEN).")
        return Caller("local", frozenset({"process"}))

    async def authenticate_session(self, secret: str) -> Caller:
        """A node keeps no sessions."""
        del secret
        raise Unauthenticated("This node keeps no sessions: send its token with each request.")

    async def has_tokens(self) -> bool:
        """Whether it was started with one."""
        return self._token is not None

    def load(self) -> Mapping[str, Any]:
        """What the pool does now."""
        return load_now(self._pool, self._dispatcher, self._history, draining=self._draining)

    async def ready(self) -> Mapping[str, Any]:
        """Whether it can take work."""
        pool = self._pool.load()
        waiting = self._dispatcher.waiting
        checks = {
            "pool": {
                "ok": pool.healthy,
                "detail": pool.reason or f"{pool.running} of {pool.capacity} processes are busy.",
            },
            "saturation": {"ok": waiting < self.config.max_waiting, "detail": f"{waiting:,} requests wait for a slot."},
        }
        return {"ready": all(check["ok"] for check in checks.values()), "checks": checks}

    def _observe(self, sample: LoadSample) -> None:
        self._gate.observe(sample)
        self._dispatcher.poke()


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "replace")).digest()
