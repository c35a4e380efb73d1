"""Runs many sources in a local pool by the chunk, a bounded number under way, and hands over reports as they come.

A chunk is about ``CHUNK_S`` of work. Where one fails as a whole (a process died, a time or memory limit), its sources
are run again one by one, so that what is wrong with one costs that one alone. Prints nothing.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pixelmill.cli.outputs import Target
from pixelmill.cli.state import Stopped
from pixelmill.cli.work import INLINE, Item, Report, Rules, chunk_request, failed, part_of, read_reports
from pixelmill.errors import LimitExceeded, OutOfMemory, PixelmillError
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.target import RunRequest

CHUNK_S = 0.1
LARGEST_CHUNK = 32
_TOO_LARGE = frozenset({LimitExceeded.type, OutOfMemory.type})

Runner = Callable[[RunRequest], Awaitable[Outcome]]
"""Runs one request in the pool; raises :class:`PixelmillError`."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source: bytes or a file, where its result goes, or why it can't be used."""

    name: str
    body: bytes | Path
    target: Target
    error: PixelmillError | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """All sources of a command, and what they share. ``pipeline`` is canonical JSON."""

    sources: Sequence[Source]
    pipeline: str
    rules: Rules
    images: Mapping[str, Path]
    limits: Limits
    timeout_s: float
    max_attempts: int


class Batch:
    """One pass over all sources. ``take`` gets each report, and the image bytes of a source without a place."""

    def __init__(self, work: Work, runner: Runner, workers: int, take: Callable[[Report, bytes | None], None]) -> None:
        self._work, self._runner, self._workers, self._take = work, runner, workers, take
        self._next = 0
        self._under_way: dict[int, Item] = {}
        self._mean_s: float | None = None

    async def run(self) -> None:
        """Run all. Failures are reports; only a defect or a cancellation raises."""
        # One lane more than workers: it has its chunk ready when a slot comes free.
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers + 1):
                group.create_task(self._lane())

    def sweep(self) -> None:
        """Remove what chunks that never ended have left; for the end, when no process of the pool lives any more."""
        for item in self._under_way.values():
            self._sweep(item)

    async def _lane(self) -> None:
        while chunk := self._draw():
            await self._run(chunk, attempt=1)

    def _draw(self) -> list[Item]:
        """The next chunk: small at first, when the pace is unknown, and at last, so that all workers end together."""
        sources = self._work.sources
        fair = (len(sources) - self._next) // (2 * self._workers)
        wanted = 1 if self._mean_s is None else int(CHUNK_S / max(self._mean_s, 1e-6))
        size = max(1, min(wanted, fair, LARGEST_CHUNK))
        chunk: list[Item] = []
        while len(chunk) < size and self._next < len(sources):
            number, source = self._next, sources[self._next]
            self._next += 1
            if source.error is not None:
                self._take(failed(number, source.error), None)
                continue
            inline = isinstance(source.body, bytes)
            chunk.append(Item(number, INLINE if inline else str(source.body), source.target))
        return chunk

    async def _run(self, chunk: list[Item], attempt: int, *, again: bool = False) -> None:
        self._under_way |= {item.number: item for item in chunk}
        start = asyncio.get_running_loop().time()
        try:
            outcome = await self._runner(self._request(chunk, again=again))
        except PixelmillError as error:
            for item in chunk:
                self._sweep(item)
            await self._recover(chunk, error, attempt)
            return
        for report in read_reports(outcome):
            del self._under_way[report.number]
            self._take(report, outcome.bytes)
        seconds = (asyncio.get_running_loop().time() - start) / len(chunk)
        self._mean_s = seconds if self._mean_s is None else 0.7 * self._mean_s + 0.3 * seconds

    async def _recover(self, chunk: list[Item], error: PixelmillError, attempt: int) -> None:
        if len(chunk) > 1:
            for item in chunk:
                await self._run([item], attempt=1, again=True)
        elif error.retryable and attempt < self._work.max_attempts:
            await self._run(chunk, attempt + 1, again=True)
        else:
            del self._under_way[chunk[0].number]
            self._take(failed(chunk[0].number, error), None)

    def _request(self, chunk: list[Item], *, again: bool) -> RunRequest:
        work = self._work
        images: dict[str, bytes | Path] = dict(work.images)
        for item in chunk:
            body = work.sources[item.number].body
            if isinstance(body, bytes):
                images[INLINE] = body
        rules = work.rules
        if again and rules.clash == "refuse":
            # A result that is there now was written by the attempt that was lost.
            rules = Rules(rules.format, "overwrite", rules.token, rules.data_to_files, rules.detailed)
        identity = str(chunk[0].number)
        return chunk_request(identity, rules, chunk, work.pipeline, work.limits, work.timeout_s, images)

    def _sweep(self, item: Item) -> None:
        part = part_of(self._work.rules, item.target, item.number)
        if part is not None:
            with suppress(OSError):  # nearly always there is none
                os.unlink(part)  # noqa: PTH108 -- text, as in work.py


class Sieve:
    """Hands reports on, and holds back those of sources that were too large to be run whole."""

    def __init__(self, take: Callable[[Report, bytes | None], None]) -> None:
        self._take = take
        self.held: list[Report] = []

    def take(self, report: Report, body: bytes | None) -> None:
        """One source has ended."""
        if report.error is not None and report.error["type"] in _TOO_LARGE:
            self.held.append(report)
        else:
            self._take(report, body)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within it SIGTERM cancels the running asyncio task like Ctrl-C does, and then raises :class:`Stopped`."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()
    hit = False

    def stop() -> None:
        nonlocal hit
        hit = True
        task.cancel()

    loop.add_signal_handler(signal.SIGTERM, stop)
    try:
        yield
    except asyncio.CancelledError:
        if hit:
            raise Stopped(128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
