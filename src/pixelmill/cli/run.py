"""`pixelmill run`: a pipeline over files here and now, without a service."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.cli.state import Globals
from pixelmill.errors import ConfigError, PipelineError

if TYPE_CHECKING:
    from pixelmill.cli.batch import Report, Work
    from pixelmill.cli.outputs import Destination, Job
    from pixelmill.cli.progress import Tally
    from pixelmill.config import Settings
    from pixelmill.pipelines.spec import Pipeline
    from pixelmill.targets.spawner import ZygoteProcess

SMALL_FILE = 20_000_000
"""Bytes up to which a single file is run in this process: a pool would take longer to start than the work."""


def run(
    context: typer.Context,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Text or JSON form, such as grayscale/resize:256,256/format:jpeg.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Files, folders (searched recursively), globs, or - for stdin."),
    ],
    output: Annotated[str | None, typer.Option("--output", "-o", help="File, folder, or - for stdout.")] = None,
    json_lines: Annotated[
        bool, typer.Option("--json", help="One JSON line a source, and a summary, on stdout.")
    ] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="Print the plan for the first source; run nothing.")
    ] = False,
    workers: Annotated[str | None, typer.Option(help="Processes; 0 is one a core.")] = None,
    timeout: Annotated[str | None, typer.Option(help="Time limit of a source, such as 90s.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace result files that exist.")] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out sources with a result file.")
    ] = False,
    progress: Annotated[bool | None, typer.Option(help="Draw a progress bar, or not (default: on a terminal).")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Run a pipeline over files here and now, on all cores, without a service.

    A folder given to -o keeps each source's relative path and stem, with the extension of the result; data goes to
    STEM.json beside it. Exit code 1 if any source failed.
    """
    from pixelmill.cli import inputs, outputs

    settings = _settings(context, assignments, workers, timeout)
    found = inputs.expand(sources, sys.stdin.buffer, settings["max_bytes"])
    destination = outputs.understand(output, found)
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing can't both be meant.")
    if destination.kind == "stdout" and json_lines:
        raise ConfigError("--json and `-o -` both write to standard output. Name a file or a folder with -o.")
    parsed = with_output_format(_parse(pipeline), destination)
    if explain:
        from pixelmill.cli.explain import explain as print_plan

        print_plan(parsed, found.items, settings, as_json=json_lines)
        return
    if destination.kind == "none" and not json_lines:
        raise ConfigError("Say where results go: -o FOLDER, -o FILE, or -o - for standard output.")
    jobs, told = outputs.plan(found.items, destination)
    if found.left_out:
        told.append(f"{found.left_out:,} files in the folders are left out: their names are not those of images.")
    for sentence in told:
        print(f"pixelmill: {sentence}", file=sys.stderr)
    clash: outputs.Clash = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    work = _work(parsed, settings, destination, clash, data_to_files=not json_lines)
    in_process = len(jobs) == 1 and timeout is None and workers is None and _size(jobs[0].input.body) <= SMALL_FILE
    tally = _execute(work, jobs, settings, in_process=in_process, json_lines=json_lines, progress=progress)
    _finish(tally, destination, json_lines=json_lines)


def _settings(
    context: typer.Context, assignments: list[str] | None, workers: str | None, timeout: str | None
) -> Settings:
    options: Globals = context.obj
    return options.settings(assignments or (), workers=workers, timeout=timeout)


def _parse(text: str) -> Pipeline:
    from pixelmill.pipelines.spec import Pipeline

    return Pipeline.parse(text)


def with_output_format(pipeline: Pipeline, destination: Destination) -> Pipeline:
    """The pipeline with the format that the destination's extension asks for; they must not contradict each other."""
    wanted, given = destination.format, pipeline.output.format
    if wanted is None or wanted == given:
        return pipeline
    if given is None:
        return pipeline.format(wanted)
    assert destination.path is not None
    raise ConfigError(
        f"The pipeline ends in format:{given}, but -o {destination.path} has the extension of {wanted}. "
        "Change one of them."
    )


def _work(pipeline: Pipeline, settings: Settings, destination: Destination, clash: Any, *, data_to_files: bool) -> Work:
    from pixelmill.cli.batch import Work
    from pixelmill.cli.settings import limits

    return Work(
        pipeline=pipeline.to_json(),
        format=pipeline.output.format,
        images={reference: _image_file(reference) for reference in pipeline.images()},
        limits=limits(settings),
        timeout_s=settings["timeout"],
        destination=destination,
        clash=clash,
        data_to_files=data_to_files,
    )


def _image_file(reference: str) -> Path:
    path = Path(reference.removeprefix("file://"))
    if not path.is_file():
        raise PipelineError(f"The pipeline names the image {reference}, but there is no such file here.")
    return path


def _size(body: bytes | Path) -> int:
    return len(body) if isinstance(body, bytes) else body.stat().st_size


def _execute(
    work: Work, jobs: list[Job], settings: Settings, *, in_process: bool, json_lines: bool, progress: bool | None
) -> Tally:
    from pixelmill.cli.progress import Bar, Failure, Tally, is_shown

    tally = Tally()
    zygote = None
    if not in_process:
        from pixelmill.targets.spawner import prefork

        # Before the progress bar: its thread must not exist in the processes that are forked.
        zygote = prefork(("cv2", "simplejpeg", "pixelmill.targets.entry"))
    with Bar("run", len(jobs), shown=is_shown(progress) and not in_process) as bar:

        def take(report: Report) -> None:
            if report.state == "failed" and report.error is not None:
                tally.failures.append(Failure(report.source, report.error.type, report.error.detail))
            elif report.state == "skipped":
                tally.skipped += 1
            else:
                tally.succeeded += 1
            _print(report, work.destination, json_lines=json_lines)
            bar.update(tally.done, note=f"{len(tally.failures)} failed" if tally.failures else "")

        if zygote is None:
            from pixelmill.cli.batch import run_here

            run_here(work, jobs, take)
        else:
            asyncio.run(_in_pool(work, jobs, settings, take, zygote))
    return tally


async def _in_pool(work: Work, jobs: list[Job], settings: Settings, take: Any, zygote: ZygoteProcess) -> None:
    from pixelmill.cli.batch import ended_by_sigterm, run_all
    from pixelmill.fleet.dispatcher import Dispatcher
    from pixelmill.jobs.model import Priority
    from pixelmill.pipelines.outcome import Outcome
    from pixelmill.targets.local import LocalPool
    from pixelmill.targets.target import RunRequest

    workers = min(settings["workers"] or os.cpu_count() or 1, max(1, len(jobs)))
    pool = LocalPool(
        workers=workers, memory_bytes=settings["memory"], recycle_after=settings["recycle_after"], zygote=zygote
    )
    dispatcher = Dispatcher([pool], reserved=0, max_waiting=2 * workers)

    async def runner(request: RunRequest) -> Outcome:
        return (await dispatcher.run(request, Priority.BATCH)).outcome

    with ended_by_sigterm():
        try:
            await pool.start()
            # One more lane than workers: it has its request ready when a slot comes free.
            await run_all(work, jobs, runner, workers + 1, take)
        finally:
            await pool.stop()


def _print(report: Report, destination: Destination, *, json_lines: bool) -> None:
    if json_lines:
        from pixelmill.cli.batch import record

        print(json.dumps(record(report), ensure_ascii=False), flush=True)
    elif destination.kind == "stdout" and report.outcome is not None:
        if report.outcome.bytes is not None:
            sys.stdout.buffer.write(report.outcome.bytes)
        else:
            print(json.dumps(dict(report.outcome.data), ensure_ascii=False))
        sys.stdout.flush()


def _finish(tally: Tally, destination: Destination, *, json_lines: bool) -> None:
    from pixelmill.cli.progress import print_failures

    if json_lines:
        summary = {
            "sources": tally.done,
            "succeeded": tally.succeeded,
            "failed": len(tally.failures),
            "skipped": tally.skipped,
            "seconds": round(tally.seconds, 3),
            "images_per_second": round(tally.rate, 2),
        }
        print(json.dumps({"summary": summary}), flush=True)
    elif destination.kind != "stdout" and tally.done > 1:
        skipped = f", {tally.skipped:,} skipped" if tally.skipped else ""
        where = f" to {destination.path}" if destination.path is not None else ""
        print(
            f"{tally.succeeded:,} of {tally.done:,} written{where} in {tally.seconds:.1f} s{skipped}", file=sys.stderr
        )
    if tally.failures:
        if tally.done == 1:
            print(f"pixelmill: {tally.failures[0].name}: {tally.failures[0].why}", file=sys.stderr)
        else:
            print_failures(tally.failures)
        raise typer.Exit(1)
