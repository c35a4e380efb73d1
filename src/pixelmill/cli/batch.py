"""Runs a pipeline over many inputs in a local pool: a bounded number under way, each result written as it comes.

Knows inputs, outputs and targets; prints nothing: every ended source is handed to a callback as a :class:`Report`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pixelmill.cli.outputs import Clash, Destination, Job, exists_error, expected, extension, write
from pixelmill.cli.state import Stopped
from pixelmill.errors import PixelmillError
from pixelmill.images.limits import Limits
from pixelmill.pipelines.outcome import Outcome
from pixelmill.targets.target import RunRequest


@dataclass(frozen=True, slots=True)
class Report:
    """How one source ended, and what it left: ``output`` and ``data_file`` are paths where files were written."""

    source: str
    state: Literal["succeeded", "failed", "skipped"]
    output: str | None = None
    data_file: str | None = None
    outcome: Outcome | None = None
    error: PixelmillError | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """What all inputs of one command share. ``pipeline`` is canonical JSON."""

    pipeline: str
    format: str | None
    images: Mapping[str, Path]
    limits: Limits
    timeout_s: float
    destination: Destination
    clash: Clash
    data_to_files: bool

    def request(self, number: int, job: Job) -> RunRequest:
        """The request for one input."""
        return RunRequest(
            id=str(number),
            pipeline=self.pipeline,
            source=job.input.body,
            images=self.images,
            source_name=job.input.name,
            limits=self.limits,
            timeout_s=self.timeout_s,
        )

    def before(self, job: Job) -> Report | None:
        """The report of an input that needs no work: it can't be used, or its result is there already."""
        if job.input.error is not None:
            return Report(job.input.name, "failed", error=job.input.error)
        path = expected(job, self.destination, self.format) if self.clash != "overwrite" else None
        if path is None or not os.path.lexists(path):
            return None
        if self.clash == "skip":
            return Report(job.input.name, "skipped", output=path)
        return Report(job.input.name, "failed", error=exists_error(path))

    def after(self, job: Job, outcome: Outcome) -> Report:
        """Write what an outcome holds; raises :class:`StorageError`."""
        output = data_file = None
        stem = job.stem
        if stem is not None and outcome.bytes is not None and outcome.format is not None:
            if self.destination.kind == "file":
                output = str(self.destination.path)
            else:
                output = stem + extension(outcome.format, job.input.relative)
            write(output, outcome.bytes, self.clash)
        if stem is not None and outcome.data and self.data_to_files:
            data_file = f"{stem}.json"
            text = json.dumps(dict(outcome.data), indent=2, ensure_ascii=False) + "\n"
            write(data_file, text.encode(), self.clash)
        return Report(job.input.name, "succeeded", output, data_file, outcome)


class Runner(Protocol):
    """Runs one request: the dispatcher over a pool."""

    async def __call__(self, request: RunRequest) -> Outcome:
        """Raises :class:`PixelmillError`."""
        ...


async def run_all(
    work: Work, jobs: Sequence[Job], runner: Runner, lanes: int, report: Callable[[Report], None]
) -> None:
    """Run all jobs, at most ``lanes`` at a time. Failures are reports; only a defect or a cancellation raises."""
    waiting = iter(enumerate(jobs))
    async with asyncio.TaskGroup() as group:
        for _ in range(min(lanes, len(jobs))):
            group.create_task(_lane(work, waiting, runner, report))


async def _lane(
    work: Work, waiting: Iterator[tuple[int, Job]], runner: Runner, report: Callable[[Report], None]
) -> None:
    for number, job in waiting:
        ended = work.before(job)
        if ended is None:
            try:
                ended = work.after(job, await runner(work.request(number, job)))
            except PixelmillError as error:
                ended = Report(job.input.name, "failed", error=error)
        report(ended)


def run_here(work: Work, jobs: Iterable[Job], report: Callable[[Report], None]) -> None:
    """The same in this process, without a pool: for one image, which is done before a pool would be up."""
    from pixelmill.pipelines.run import run
    from pixelmill.pipelines.spec import Pipeline

    pipeline = Pipeline.parse(work.pipeline)
    for job in jobs:
        ended = work.before(job)
        if ended is None:
            try:
                outcome = run(pipeline, job.input.body, limits=work.limits, images=work.images)
                ended = work.after(job, outcome)
            except PixelmillError as error:
                ended = Report(job.input.name, "failed", error=error)
        report(ended)


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


def record(report: Report) -> dict[str, Any]:
    """A report as plain JSON values, for ``--json``."""
    line: dict[str, Any] = {"source": report.source, "state": report.state}
    if report.output is not None:
        line["output"] = report.output
    if report.data_file is not None:
        line["data_file"] = report.data_file
    if report.outcome is not None:
        document = report.outcome.to_dict()
        line |= {name: document[name] for name in ("format", "size", "source_size", "data", "timings")}
        line["bytes"] = len(report.outcome.bytes) if report.outcome.bytes is not None else None
    if report.error is not None:
        line["error"] = {"type": report.error.type, "detail": report.error.detail}
    return line
