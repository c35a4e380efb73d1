"""`pixelmill run`: a pipeline over files here and now, without a service."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pixelmill.cli.state import Globals, Stopped
from pixelmill.errors import ConfigError, PipelineError

if TYPE_CHECKING:
    from pixelmill.cli.batch import Work
    from pixelmill.cli.inputs import Input, Inputs
    from pixelmill.cli.outputs import Clash, Destination, Target
    from pixelmill.cli.progress import Tally
    from pixelmill.cli.work import Report
    from pixelmill.config import Settings
    from pixelmill.pipelines.spec import Pipeline
    from pixelmill.targets.spawner import ZygoteProcess

BUCKETS = ("s3://", "gs://", "az://")
SMALL_FILE = 20_000_000
"""Bytes up to which a single file is run in this process: a pool would take longer to start than the work."""


def run(
    context: typer.Context,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Text or JSON form, such as grayscale/resize:256,256/format:jpeg.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE",
            help="Files, folders (searched recursively), globs, s3://, gs:// or az:// addresses, or - for stdin.",
        ),
    ],
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="File, folder, either in a bucket, or - for stdout.")
    ] = None,
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
    model: Annotated[
        str | None, typer.Option(help="Name or path of the model, for all steps that ask for one.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(min=64, max=16_384, help="Run in tiles of about that many pixels a side, also small images."),
    ] = None,
    mpi: Annotated[
        int | None, typer.Option(min=1, max=1_024, metavar="N", help="Spread each image over N MPI ranks.")
    ] = None,
    progress: Annotated[bool | None, typer.Option(help="Draw a progress bar, or not (default: on a terminal).")] = None,
    assignments: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="Any setting; may be given again.")
    ] = None,
) -> None:
    """Run a pipeline over files here and now, on all cores, without a service.

    A folder given to -o keeps each source's relative path and stem, with the extension of the result; data goes to
    STEM.json beside it. What a pipeline that only analyzes finds is printed where no -o is given. An image that is too
    large to be held runs in tiles. Exit code 1 if any source failed.
    """
    from pixelmill.cli import inputs, outputs
    from pixelmill.pipelines.plan import gives_data_only

    settings = _settings(context, assignments, workers, timeout)
    clash: outputs.Clash = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    if any(text.startswith(BUCKETS) for text in (*sources, output or "")):
        from pixelmill.cli.remote import Wanted, run_remote

        if overwrite and skip_existing:
            raise ConfigError("--overwrite and --skip-existing can't both be meant.")
        run_remote(Wanted(pipeline, sources, output, json_lines, explain, clash, progress, model), settings)
        return
    found = inputs.expand(sources, sys.stdin.buffer, settings["max_bytes"])
    destination = outputs.understand(output, found)
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing can't both be meant.")
    if destination.kind == "stdout" and json_lines:
        raise ConfigError("--json and `-o -` both write to standard output. Name a file or a folder with -o.")
    parsed = with_output_format(with_model(parse_pipeline(pipeline, settings), model), destination)
    reason = "MPI ranks were asked for" if mpi else _why_tiled(parsed, found, destination, tile, settings)
    if explain and reason is not None:
        _explain_tiled(parsed, found, destination, settings, tile, reason, as_json=json_lines)
        return
    if explain:
        from pixelmill.cli.explain import explain as print_plan

        print_plan(parsed, found.items, settings, as_json=json_lines)
        return
    prints_data = not json_lines and destination.path is None and gives_data_only(parsed)
    if destination.kind == "none" and not json_lines and not prints_data:
        raise ConfigError("Say where results go: -o FOLDER, -o FILE, or -o - for standard output.")
    targets, told = outputs.plan(found.items, destination)
    if found.left_out:
        told.append(
            f"{found.left_out:,} files in the folders are left out: their names are not those of images it reads."
        )
    for sentence in told:
        print(f"pixelmill: {sentence}", file=sys.stderr)
    detailed = json_lines or prints_data
    work = _work(parsed, settings, found, targets, clash, detailed=detailed, data_to_files=not json_lines)
    limited = timeout is not None or workers is not None or bool(assignments)
    one = len(work.sources) == 1 and not limited and _size(found.items[0]) <= SMALL_FILE
    printer = Printer(work, destination, json_lines=json_lines, prints_data=prints_data)
    if reason is not None:
        _run_tiled(work, parsed, settings, printer, progress, tile, reason, mpi)
        printer.finish()
        return
    _run_here(work, settings, printer) if one else _run_in_pool(work, settings, printer, progress)
    printer.finish()


def _settings(
    context: typer.Context, assignments: list[str] | None, workers: str | None, timeout: str | None
) -> Settings:
    options: Globals = context.obj
    return options.settings(assignments or (), workers=workers, timeout=timeout)


def parse_pipeline(text: str, settings: Settings) -> Pipeline:
    """The pipeline; raises :class:`PipelineError`."""
    from pixelmill.cli.settings import presets
    from pixelmill.pipelines.spec import Pipeline

    if not text.strip():
        raise ConfigError("The pipeline is empty (an unset variable, perhaps). To only encode, write format:webp.")
    return Pipeline.parse(text, presets=presets(settings))


def with_model(pipeline: Pipeline, model: str | None) -> Pipeline:
    """The pipeline with another model in place of each that it must have; paths become absolute."""
    if model is None:
        return pipeline
    from dataclasses import replace

    from pixelmill.models.folder import is_path

    name = str(Path(model).expanduser().absolute()) if is_path(model) or Path(model).exists() else model
    names: dict[str, Any] = {wanted.name: name for wanted in pipeline.wanted_models if not wanted.optional}
    if not names:
        raise ConfigError("--model is given, but no step of the pipeline asks for a model.")
    return replace(pipeline, operations=tuple(item.with_models(names) for item in pipeline.operations))


def with_output_format(pipeline: Pipeline, destination: Destination) -> Pipeline:
    """The pipeline with the format that the destination's extension asks for; they must not contradict each other."""
    from pixelmill.images.encoders import AUTO

    wanted, given = destination.format, pipeline.output.format
    if wanted is None or wanted == given:
        return pipeline
    if given is None:
        return pipeline.format(wanted)
    if given == AUTO:
        return _narrowed(pipeline, wanted, destination)
    assert destination.path is not None
    raise ConfigError(
        f"The pipeline ends in format:{given}, but -o {destination.uri or destination.path} has the extension of "
        f"{wanted}. Change one of them."
    )


def _narrowed(pipeline: Pipeline, wanted: str, destination: Destination) -> Pipeline:
    """``format:auto`` that may choose what the file's name asks for alone: quality and losslessness stay its choice."""
    from pixelmill.images.encoders import AUTO, Acceptable, AutoOptions

    options = pipeline.output.options
    assert isinstance(options, AutoOptions)
    if wanted not in (options.accept or get_args(Acceptable)):
        possible = ", ".join(options.accept or get_args(Acceptable))
        raise ConfigError(
            f"The pipeline ends in format:auto, which may choose {possible}, but -o {destination.path} has the "
            f"extension of {wanted}. Change one of them."
        )
    return pipeline.format(AUTO, accept=[wanted], quality=options.quality, background=options.background)


def _work(
    pipeline: Pipeline,
    settings: Settings,
    found: Inputs,
    targets: Sequence[Target],
    clash: Clash,
    *,
    detailed: bool,
    data_to_files: bool,
) -> Work:
    from pixelmill.cli.batch import Source, Work
    from pixelmill.cli.settings import limits
    from pixelmill.cli.work import Rules

    return Work(
        sources=[
            Source(item.name, item.body, target, item.error) for item, target in zip(found.items, targets, strict=True)
        ],
        pipeline=pipeline.to_json(),
        rules=Rules(pipeline.output.format, clash, secrets.token_hex(6), data_to_files, detailed),
        images=files_of(pipeline),
        limits=limits(settings),
        timeout_s=settings["timeout"],
        max_attempts=settings["max_attempts"],
    )


def files_of(pipeline: Pipeline) -> dict[str, Path]:
    """The files of images and fonts that a pipeline names."""
    images = {reference: _image_file(reference) for reference in pipeline.images()}
    return images | {reference: _font_file(reference) for reference in pipeline.font_references}


def _image_file(reference: str) -> Path:
    path = Path(reference.removeprefix("file://"))
    if not path.is_file():
        raise PipelineError(f"The pipeline names the image {reference}, but there is no such file here.")
    return path


def _font_file(reference: str) -> Path:
    path = Path(reference.removeprefix("file://"))
    if not path.is_file():
        raise PipelineError(f"The pipeline names the font {reference}, which is no built-in family, and no file here.")
    return path


def _size(item: Input) -> int:
    try:
        return len(item.body) if isinstance(item.body, bytes) else item.body.stat().st_size
    except OSError:
        return 0  # the attempt itself will say what is wrong with it


def _run_here(work: Work, settings: Settings, printer: Printer) -> None:
    """In this process, without a pool: for one image, which is done before a pool would be up."""
    from pixelmill.cli.settings import own_models
    from pixelmill.cli.work import attempt, failed
    from pixelmill.pipelines.spec import Pipeline

    (source,) = work.sources
    if source.error is not None:
        printer.take(failed(0, source.error), None)
        return
    pipeline = Pipeline.parse(work.pipeline)
    report, outcome = attempt(
        work.rules, pipeline, 0, source.target, source.body, work.limits, work.images, own_models(settings)
    )
    printer.take(report, outcome.bytes if outcome is not None else None)


def _why_tiled(
    pipeline: Pipeline, found: Inputs, destination: Destination, tile: int | None, settings: Settings
) -> str | None:
    """Why the sources run in tiles, None where they run whole. Many do where that is asked for, and else one alone."""
    if tile is None and (found.many or not found.items or found.items[0].error is not None):
        return None
    from pixelmill.cli.tiled import why_tiled

    return why_tiled(pipeline, found.items[0].body, destination.path, tile, settings)


def _explain_tiled(
    pipeline: Pipeline,
    found: Inputs,
    destination: Destination,
    settings: Settings,
    tile: int | None,
    reason: str,
    *,
    as_json: bool,
) -> None:
    from pixelmill.cli.outputs import plan
    from pixelmill.cli.tiled import Order, explain_order

    first = found.items[0]
    if first.error is not None:
        raise first.error
    targets, _ = plan(found.items[:1], destination)
    order = Order(0, first.name, first.body, targets[0], reason)
    explain_order(order, pipeline, settings, tile, as_json=as_json)


def _run_tiled(
    work: Work,
    pipeline: Pipeline,
    settings: Settings,
    printer: Printer,
    progress: bool | None,
    tile: int | None,
    reason: str,
    ranks: int | None,
) -> None:
    """One source after the other, each on all cores."""
    from pixelmill.cli.progress import is_shown
    from pixelmill.cli.tiled import Order, run_order
    from pixelmill.cli.work import failed

    for number, source in enumerate(work.sources):
        if source.error is not None:
            printer.take(failed(number, source.error), None)
            continue
        order = Order(number, source.name, source.body, source.target, reason)
        try:
            if ranks:
                from pixelmill.cli.ranks import run_over_ranks

                result = run_over_ranks(
                    order, pipeline, work.rules, settings, ranks, work.images, tile=tile, progress=progress
                )
            else:
                result = run_order(order, pipeline, work.rules, settings, tile, shown=is_shown(progress))
            printer.take(*result)
        except (KeyboardInterrupt, Stopped):
            printer.stopped()
            raise


def _run_in_pool(work: Work, settings: Settings, printer: Printer, progress: bool | None) -> None:
    from pixelmill.cli.progress import Bar, is_shown
    from pixelmill.cli.work import ENTRY
    from pixelmill.targets.spawner import prefork

    # The command tells what failed itself; without a handler, logging would print warnings beside it.
    logging.getLogger("pixelmill").addHandler(logging.NullHandler())
    # Before the progress bar and the event loop: what they start must not exist in the processes that are forked.
    zygote = prefork((ENTRY.partition(":")[0],))
    with Bar("run", len(work.sources), shown=is_shown(progress)) as bar:
        printer.bar = bar
        try:
            asyncio.run(_pooled(work, settings, printer, zygote))
        except (KeyboardInterrupt, Stopped):
            printer.stopped()
            raise


async def _pooled(work: Work, settings: Settings, printer: Printer, zygote: ZygoteProcess) -> None:
    from pixelmill.cli.batch import Batch, ended_by_sigterm
    from pixelmill.cli.settings import pool_models
    from pixelmill.cli.work import ENTRY
    from pixelmill.fleet.cores import usable_cores
    from pixelmill.fleet.dispatcher import Dispatcher
    from pixelmill.jobs.model import Priority
    from pixelmill.pipelines.outcome import Outcome
    from pixelmill.targets.local import LocalPool
    from pixelmill.targets.target import RunRequest

    workers = min(settings["workers"] or usable_cores(), len(work.sources))
    pool = LocalPool(
        workers=workers,
        memory_bytes=settings["memory"],
        recycle_after=settings["recycle_after"],
        entry=ENTRY,
        models=pool_models(settings, paths=True),
        zygote=zygote,
    )
    dispatcher = Dispatcher([pool], reserved=0, max_waiting=2 * workers)

    async def runner(request: RunRequest) -> Outcome:
        return (await dispatcher.run(request, Priority.BATCH)).outcome

    batch = Batch(work, runner, workers, printer.take)
    with ended_by_sigterm():
        try:
            await pool.start()
            await batch.run()
        finally:
            await pool.stop()
            batch.sweep()


class Printer:
    """Takes reports, counts them, and prints what a person or a program wants to see."""

    def __init__(self, work: Work, destination: Destination, *, json_lines: bool, prints_data: bool) -> None:
        from pixelmill.cli.progress import Bar, Tally

        self.bar = Bar("", None, shown=False)
        self._names = [source.name for source in work.sources]
        self._destination, self._json, self._prints_data = destination, json_lines, prints_data
        self._tally = Tally()

    def take(self, report: Report, body: bytes | None) -> None:
        """One source has ended; ``body`` is its image where that has no file to go to."""
        from pixelmill.cli.progress import Failure

        tally, name = self._tally, self._names[report.number]
        if report.error is not None:
            tally.failures.append(Failure(name, report.error["type"], report.error["detail"]))
        elif report.state == "skipped":
            tally.skipped += 1
        else:
            tally.succeeded += 1
        if self._json:
            print(json.dumps(_line(name, report), ensure_ascii=False), flush=True)
        elif self._prints_data and report.detail is not None:
            self._print_data(name, report.detail["data"])
        elif self._destination.kind == "stdout" and body is not None:
            sys.stdout.buffer.write(body)
            sys.stdout.buffer.flush()
        self.bar.update(tally.done, note=f"{len(tally.failures)} failed" if tally.failures else "")

    def _print_data(self, name: str, data: Mapping[str, Any]) -> None:
        """Over several lines for one source; a line of JSON each, with its source, for several."""
        if len(self._names) == 1:
            print(json.dumps(data, indent=2, ensure_ascii=False), flush=True)
        else:
            print(json.dumps({"source": name, "data": data}, ensure_ascii=False), flush=True)

    def stopped(self) -> None:
        """Say how far it came, and how to go on."""
        how = "; the same command with --skip-existing goes on" if self._destination.kind == "folder" else ""
        print(f"pixelmill: stopped after {self._tally.done:,} of {len(self._names):,} sources{how}", file=sys.stderr)

    def finish(self) -> None:
        """Print the summary, and what failed; raises :class:`typer.Exit` if anything did."""
        tally = self._tally
        if self._json:
            print(json.dumps({"summary": _summary(tally)}), flush=True)
        elif self._destination.kind != "stdout" and not self._prints_data and tally.done > 1:
            skipped = f", {tally.skipped:,} skipped" if tally.skipped else ""
            place = self._destination.uri or self._destination.path
            where = f" to {place}" if place is not None else ""
            written = f"{tally.succeeded:,} of {tally.done:,} written{where} in {tally.seconds:.1f} s"
            print(f"{written} ({tally.rate:.1f} images/s){skipped}", file=sys.stderr)
        if not tally.failures:
            return
        if tally.done == 1:
            print(f"pixelmill: {tally.failures[0].name}: {tally.failures[0].why}", file=sys.stderr)
        else:
            from pixelmill.cli.progress import print_failures

            print_failures(tally.failures)
        raise typer.Exit(1)


def _line(name: str, report: Report) -> dict[str, Any]:
    """A report for ``--json``."""
    line: dict[str, Any] = {"source": name, "state": report.state}
    if report.output is not None:
        line["output"] = report.output
    if report.data_file is not None:
        line["data_file"] = report.data_file
    if report.error is not None:
        line["error"] = {"type": report.error["type"], "detail": report.error["detail"]}
    return {**line, **(report.detail or {})}


def _summary(tally: Tally) -> dict[str, Any]:
    return {
        "sources": tally.done,
        "succeeded": tally.succeeded,
        "failed": len(tally.failures),
        "skipped": tally.skipped,
        "seconds": round(tally.seconds, 3),
        "images_per_second": round(tally.rate, 2),
    }
