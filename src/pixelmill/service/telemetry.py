"""Spans and metrics of this process to an OpenTelemetry collector, by OTLP over HTTP; needs the extra ``otel``.

Owns what is OpenTelemetry's: the SDK is imported when it is configured, and known nowhere else. Work never waits for
the collector: spans go to a bounded queue that drops what has no room, and threads of their own send. Metrics are read
from the registry that Prometheus reads too, so that both tell the same.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pixelmill import __version__, tracing
from pixelmill.errors import MissingExtra
from pixelmill.metrics import Metrics
from pixelmill.service.settings import TelemetryConfig

log = logging.getLogger(__name__)

SEND_S = 5.0
"""For one batch, its retries included."""
STOP_S = 5.0
"""For what is left when the process ends."""


class Telemetry:
    """What this process tells a collector, from ``start`` to ``stop``. Belongs to one event loop."""

    def __init__(self, config: TelemetryConfig, metrics: Metrics | None) -> None:
        self._config, self._metrics = config, metrics
        self._spans: Any = None
        self._told: Any = None
        self._work: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send; raises :class:`MissingExtra`."""
        config = self._config
        tracing.configure(None, config.ratio)
        if not config.traces and not config.metrics:
            return
        try:
            from pixelmill.service import otlp
        except ImportError as error:
            missing = MissingExtra('Traces and metrics by OTLP need OpenTelemetry: pip install "pixelmill[otel]".')
            if config.needed:
                raise missing from error
            log.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, and nothing is sent: %s", missing)
            return
        resource = otlp.resource(config.role, __version__)
        if config.traces:
            self._spans = otlp.Spans(config.traces, resource)
            tracing.configure(self._spans, config.ratio)
        if config.metrics and self._metrics is not None:
            self._told = otlp.Told(config.metrics, resource)
            self._work = asyncio.create_task(self._tell_for_ever(self._metrics), name="otlp metrics")

    async def stop(self) -> None:
        """Send what is left, for :data:`STOP_S` at most."""
        tracing.configure(None)
        if self._work is not None:
            self._work.cancel()
            with suppress(asyncio.CancelledError):
                await self._work
        last = []
        if self._told is not None and self._metrics is not None:
            last.append(functools.partial(self._told.send, self._metrics.families(), time.time()))
        if self._spans is not None:
            last.append(self._spans.flush)
        parts = [part for part in (self._told, self._spans) if part is not None]
        try:
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*map(in_thread, last))
        except TimeoutError:
            log.warning("the collector did not take what was left within %g s", STOP_S)
            for part in parts:
                part.give_up()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_S):
                await asyncio.gather(*(in_thread(part.close) for part in parts))

    async def _tell_for_ever(self, metrics: Metrics) -> None:
        while True:
            await asyncio.sleep(self._config.metrics_every_s)
            # Gauges are set in this thread, where what they show lives; sending may take its time elsewhere.
            await in_thread(functools.partial(self._told.send, metrics.families(), time.time()))


async def in_thread(function: Callable[[], object]) -> None:
    """Run it in a thread that no end of the process waits for."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def work() -> None:
        try:
            function()
        except Exception:
            log.exception("telemetry could not be sent")
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, name="pixelmill-otlp", daemon=True).start()
    await done.wait()
