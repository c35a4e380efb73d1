"""`pixelmill run`: a pipeline over files here and now, without a service."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from pixelmill.cli.state import Globals, Stopped
from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.cli.batch import Work
    from pixelmill.cli.inputs import Input, Inputs
    from pixelmill.cli.outputs import Clash, Destination, Target
    from pixelmill.cli.printer import Printer
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
    from pixelmill.cli.printer import Printer
    from pixelmill.pipelines.plan import gives_data_only

    settings = _settings(context, assignments, workers, timeout)
    clash: outputs.Clash = "overwrite" if overwrite else "skip" if skip_existing else "refuse"
    if any(text.startswith(BUCKETS) for text in (*sources, output or "")):
        from pixelmill.cli.remote import Wanted, run_remote

        if overwrite and skip_existing:
            raise ConfigError("--overwrite and --skip-existing can't both be meant.")
        run_remote(Wanted(pipeline, sources, output, json_lines, explain, clash, progress, model, tile, mpi), settings)
        return
    found = inputs.expand(sources, sys.stdin.buffer, settings["max_bytes"])
    destination = outputs.understand(output, found)
    if overwrite and skip_existing:
        raise ConfigError("--overwrite and --skip-existing can't both be meant.")
    if destination.kind == "stdout" and json_lines:
        raise ConfigError("--json and `-o -` both write to standard output. Name a file or a folder with -o.")
    parsed = with_output_format(with_model(parse_pipeline(pipeline, settings), model), destination)
    reason = why_all(parsed, found, destination, tile, mpi, settings)
    if explain:
        _explain(parsed, found, destination, settings, reason, tile, clash, as_json=json_lines)
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
    elif one:
        _run_here(work, settings, printer)
    else:
        held = _run_in_pool(work, settings, printer, progress)
        if held:
            _run_held(held, work, parsed, destination, settings, printer, progress)
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
    from pixelmill.cli.references import files_of
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


def why_all(
    pipeline: Pipeline,
    found: Inputs,
    destination: Destination,
    tile: int | None,
    ranks: int | None,
    settings: Settings,
) -> str | None:
    """Why all sources run in tiles: that is asked for, or there is one alone, and it is too large. Else None."""
    if ranks:
        return "MPI ranks were asked for"
    if tile is None and (found.many or not found.items or found.items[0].error is not None):
        return None
    from pixelmill.cli.tiled import why_tiled

    return why_tiled(pipeline, found.items[0].body, destination.path, tile, settings)


def _explain(
    pipeline: Pipeline,
    found: Inputs,
    destination: Destination,
    settings: Settings,
    reason: str | None,
    tile: int | None,
    clash: Clash,
    *,
    as_json: bool,
) -> None:
    """The plan of the first source, as it would be run among all of them."""
    from pixelmill.cli.explain import explain
    from pixelmill.cli.outputs import plan
    from pixelmill.cli.tiled import Order, explain_order, why_tiled
    from pixelmill.cli.work import Rules

    first = found.items[0]
    why = reason
    if why is None and first.error is None:
        why = why_tiled(pipeline, first.body, destination.path, tile, settings)
    if why is None:
        explain(pipeline, found.items, settings, as_json=as_json)
        return
    if first.error is not None:
        raise first.error
    targets, _ = plan(found.items[:1], destination)
    rules = Rules(pipeline.output.format, clash, "", data_to_files=False, detailed=False)
    order = Order(0, first.name, first.body, targets[0], why)
    explain_order(order, pipeline, rules, settings, tile, as_json=as_json)


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
    from pixelmill.cli.tiled import Order
    from pixelmill.cli.tiled_orders import Tiled
    from pixelmill.cli.work import failed

    orders = []
    for number, source in enumerate(work.sources):
        if source.error is not None:
            printer.take(failed(number, source.error), None)
        else:
            orders.append(Order(number, source.name, source.body, source.target, reason))
    Tiled(pipeline, work.rules, work.images, settings, tile, ranks, progress).run(orders, printer)


def _run_held(
    held: Sequence[Report],
    work: Work,
    pipeline: Pipeline,
    destination: Destination,
    settings: Settings,
    printer: Printer,
    progress: bool | None,
) -> None:
    """Those that were too large for the pool."""
    from pixelmill.cli.tiled import Order, why_tiled
    from pixelmill.cli.tiled_orders import Tiled, orders_of

    def look(number: int) -> Order | None:
        source = work.sources[number]
        why = why_tiled(pipeline, source.body, destination.path, None, settings)
        return None if why is None else Order(number, source.name, source.body, source.target, why)

    tiled = Tiled(pipeline, work.rules, work.images, settings, progress=progress)
    tiled.run(orders_of(held, printer, look), printer)


def _run_in_pool(work: Work, settings: Settings, printer: Printer, progress: bool | None) -> Sequence[Report]:
    """All that can be run whole; the reports of those that are too large for that."""
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
            return asyncio.run(_pooled(work, settings, printer, zygote))
        except (KeyboardInterrupt, Stopped):
            printer.stopped()
            raise


async def _pooled(work: Work, settings: Settings, printer: Printer, zygote: ZygoteProcess) -> Sequence[Report]:
    from pixelmill.cli.batch import Batch, Sieve, ended_by_sigterm
    from pixelmill.cli.settings import pool_models
    from pixelmill.cli.work import ENTRY
    from pixelmill.cores import usable_cores
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

    sieve = Sieve(printer.take)
    batch = Batch(work, runner, workers, sieve.take)
    with ended_by_sigterm():
        try:
            await pool.start()
            await batch.run()
        finally:
            await pool.stop()
            batch.sweep()
    return sieve.held
