"""`pixelmill jobs`: jobs of a running service, through the client."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pixelmill.cli.state import Globals
from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.client import Client, Job, JobStatus, Sheet, TaskStatus

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

UrlOption = Annotated[str | None, typer.Option(help="Service (PIXELMILL_URL; default http://127.0.0.1:8080).")]
TokenOption = Annotated[str | None, typer.Option(help="Token (better by PIXELMILL_TOKEN: others see command lines).")]
JsonOption = Annotated[bool, typer.Option("--json", help="JSON lines on stdout.")]
IdArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]
LONGEST_LIST = 50


@app.command()
def submit(
    context: typer.Context,
    pipeline: Annotated[
        str, typer.Argument(metavar="PIPELINE", help="Text or JSON form, such as grayscale/resize:256,256/format:jpeg.")
    ],
    sources: Annotated[
        list[str],
        typer.Argument(metavar="SOURCE...", help="Files, folders, globs (uploaded), or addresses the service reads."),
    ],
    name: Annotated[str, typer.Option(help="A name for people.")] = "",
    priority: Annotated[str, typer.Option(help="interactive, normal or batch.")] = "normal",
    mpi: Annotated[int | None, typer.Option(help="MPI ranks that each image is spread over.", min=1)] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Watch it until it has ended.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Upload files and make one job of them; prints its id."""
    from pixelmill.cli.progress import Bar, is_shown

    items = _uploads(sources, context)
    with connected(context, url, token) as client, Bar("upload", len(items), shown=is_shown(None)) as bar:
        job = client.submit(
            items,
            pipeline,
            name=name,
            priority=priority,
            ranks=mpi,
            on_progress=lambda progress: bar.update(progress.done),
        )
        bar.finish()
        _show(job.status, as_json=as_json, brief=True)
        if wait:
            _watch(job, as_json=as_json)


def _uploads(sources: list[str], context: typer.Context) -> list[str | tuple[str, Path | bytes]]:
    from pixelmill.cli.inputs import expand

    options: Globals = context.obj
    settings = options.settings()
    most = max(settings["max_bytes"], settings["tiled_max_bytes"])
    items: list[str | tuple[str, Path | bytes]] = []
    for source in sources:
        if "://" in source:
            items.append(source)
            continue
        for found in expand([source], sys.stdin.buffer, most).items:
            if found.error is not None:
                raise found.error
            items.append((found.relative, found.body))
    return items


@app.command(name="list")
def list_(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only jobs in this state.")] = None,
    limit: Annotated[int, typer.Option(help="Most jobs to list.", min=1)] = LONGEST_LIST,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """List jobs, newest first."""
    from itertools import islice

    from pixelmill.cli.tables import print_table

    with connected(context, url, token) as client:
        jobs = list(islice(client.jobs(state=state), limit))
    if as_json:
        for job in jobs:
            _show(job, as_json=True)
        return
    rows = [
        (job.id, job.state, f"{job.counts.done:,}/{job.counts.total:,}", job.counts.failed, job.created or "", job.name)
        for job in jobs
    ]
    print_table(("id", "state", "done", "failed", "created", "name"), rows)


@app.command()
def show(
    context: typer.Context,
    job_id: IdArgument,
    tasks: Annotated[bool, typer.Option("--tasks", help="List its tasks too.")] = False,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Show a job, and why tasks of it failed."""
    with connected(context, url, token) as client:
        job = client.job(job_id)
        _show(job.status, as_json=as_json)
        state = None if tasks else "failed"
        if tasks or job.status.counts.failed:
            _show_tasks(job.tasks(state=state), as_json=as_json)


@app.command()
def search(
    context: typer.Context,
    label: Annotated[
        list[str] | None, typer.Option(help="Seen by classify or auto_tag: a label or one word of it; may be repeated.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(help="How sure of each label, 0 to 1.", min=0, max=1)] = None,
    caption: Annotated[str | None, typer.Option(metavar="WORDS", help="All of these are in the caption.")] = None,
    faces: Annotated[str | None, typer.Option(metavar="N|A..B", help="So many faces: 2, 1.., 2..5.")] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only tasks of this job.")] = None,
    limit: Annotated[int, typer.Option(help="Most tasks to list.", min=1)] = LONGEST_LIST,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Search tasks by what was found in them, the last that ended first. Exit code 1 where none was found."""
    from itertools import islice

    if not label and caption is None and faces is None:
        raise ConfigError("Say what to search for: --label, --caption or --faces.")
    with connected(context, url, token) as client:
        tasks = client.tasks(label=label, min_score=min_score, caption=caption, faces=faces, job=job)
        found = list(islice(tasks, limit))
    _show_found(found, as_json=as_json)
    if not found:
        raise typer.Exit(1)


def _show_found(tasks: list[TaskStatus], *, as_json: bool) -> None:
    from pixelmill.cli.tables import print_table

    if as_json:
        for task in tasks:
            print(json.dumps(asdict(task)))
        return
    rows = ((task.id, task.job, task.name, task.ended or "", ", ".join(task.data)) for task in tasks)
    print_table(("task", "job", "source", "ended", "data of"), rows)


@app.command()
def watch(
    context: typer.Context,
    job_id: IdArgument,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Follow a job until it has ended. Exit code 1 unless it succeeded."""
    with connected(context, url, token) as client:
        _watch(client.job(job_id), as_json=as_json)


@app.command()
def cancel(context: typer.Context, job_id: IdArgument, url: UrlOption = None, token: TokenOption = None) -> None:
    """Cancel what has not ended; results that are there stay."""
    with connected(context, url, token) as client:
        _show(client.job(job_id).cancel(), as_json=False, brief=False)


@app.command()
def retry(context: typer.Context, job_id: IdArgument, url: UrlOption = None, token: TokenOption = None) -> None:
    """Run the failed and cancelled tasks again."""
    with connected(context, url, token) as client:
        _show(client.job(job_id).retry(), as_json=False, brief=False)


@app.command(name="dead-letters")
def dead_letters(
    context: typer.Context,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="Only those of this job.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Of all owners (scope admin).")] = False,
    limit: Annotated[int, typer.Option(help="Most to list.", min=1)] = LONGEST_LIST,
    as_json: JsonOption = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """List tasks that failed because their attempts were used up, the latest first."""
    from itertools import islice

    from pixelmill.cli.tables import print_table

    with connected(context, url, token) as client:
        letters = list(islice(client.dead_letters(job=job, everybody=everybody), limit))
    if as_json:
        for letter in letters:
            print(json.dumps(asdict(letter)))
        return
    rows = [
        (one.task, one.job, one.name, one.attempts, one.ended or "", (one.error or {}).get("detail", ""))
        for one in letters
    ]
    print_table(("task", "job", "source", "attempts", "ended", "why"), rows)


@app.command()
def redrive(
    context: typer.Context,
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK...", help="Ids of tasks.")] = None,
    job: Annotated[str | None, typer.Option(metavar="JOB", help="All of this job, instead of tasks.")] = None,
    everybody: Annotated[bool, typer.Option("--all", help="Of any owner (scope admin).")] = False,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Run dead letters again, in a new run; prints the ids of the tasks. Exit code 1 where none was found."""
    if bool(tasks) == bool(job):
        raise ConfigError("Name either tasks or --job JOB: that says what is to run again.")
    with connected(context, url, token) as client:
        done = client.redrive(tasks or [], job=job, everybody=everybody)
    for task in done:
        print(task)
    print(f"{len(done):,} queued again", file=sys.stderr)
    if not done:
        raise typer.Exit(1)


@app.command()
def delete(context: typer.Context, job_id: IdArgument, url: UrlOption = None, token: TokenOption = None) -> None:
    """Remove a job with its results."""
    with connected(context, url, token) as client:
        client.job(job_id).delete()
    print(f"Job {job_id} is deleted.", file=sys.stderr)


@app.command()
def fetch(
    context: typer.Context,
    job_id: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results, or a file ending in .zip.")],
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Download all results into a folder; run again, it leaves alone what is there. Or as one ZIP."""
    from pixelmill.cli.progress import Bar, Failure, is_shown, print_failures

    if output.is_file() and output.suffix.lower() != ".zip":
        raise ConfigError(f"{output} is a file. Name a folder for the results with -o, or a file ending in .zip.")
    with connected(context, url, token) as client:
        job = client.job(job_id)
        if output.suffix.lower() == ".zip":
            print(f"written to {job.archive(output)}", file=sys.stderr)
            return
        count = 0
        with Bar("fetch", job.status.counts.succeeded, shown=is_shown(None)) as bar:

            def step(path: Path) -> None:
                nonlocal count
                del path
                count += 1
                bar.update(count)

            done = job.download(output, on_file=step)
    print(f"{len(done.saved):,} written to {output}, {len(done.skipped):,} were there already", file=sys.stderr)
    if done.failed:
        print_failures([Failure(task.name, task.state, _why(task)) for task in done.failed])
        raise typer.Exit(1)


@app.command()
def montage(
    context: typer.Context,
    job_id: IdArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help="Image file to write; its extension is the format.")],
    columns: Annotated[int | None, typer.Option(help="Cells in a row; about square unless given.")] = None,
    cell: Annotated[str, typer.Option(metavar="WxH", help="Size of a cell in pixels.")] = "256x256",
    gap: Annotated[int | None, typer.Option(help="Pixels between cells, 8 unless given.")] = None,
    background: Annotated[str | None, typer.Option(help="Color as hex RRGGBB, ffffff unless given.")] = None,
    labels: Annotated[bool, typer.Option("--labels/--no-labels", help="Names of the sources below.")] = True,
    font_size: Annotated[int | None, typer.Option(help="Pixels of the labels' font, 14 unless given.")] = None,
    failed: Annotated[str, typer.Option(help="What gave no image: skip or mark.")] = "skip",
    limit: Annotated[int | None, typer.Option(help="Most cells, in the order of the tasks.")] = None,
    format_: Annotated[
        str | None, typer.Option("--format", help="With options, such as jpeg,quality=90; by default the extension.")
    ] = None,
    url: UrlOption = None,
    token: TokenOption = None,
) -> None:
    """Write a contact sheet: the results that are there now as thumbnails, with the names of their sources."""
    width, height = _cell(cell)
    layout = {
        "columns": columns,
        "cell_width": width,
        "cell_height": height,
        "gap": gap,
        "background": background,
        "labels": labels,
        "font_size": font_size,
        "failed": failed,
        "limit": limit,
    }
    with connected(context, url, token) as client:
        given = {"format": format_} if format_ else {}
        sheet = client.montage(job_id, output, **layout, **given)
    told = [f"{sheet.cells:,} cells in {sheet.columns:,}×{sheet.rows:,}"]
    told += [f"{number:,} {what}" for number, what in _beside(sheet) if number]
    print(f"written to {sheet.path}: {', '.join(told)}", file=sys.stderr)


def _cell(text: str) -> tuple[int, int]:
    width, _, height = text.lower().replace("×", "x").partition("x")
    if not (width.isdecimal() and (height or width).isdecimal() and len(text) < 20):
        raise ConfigError(f"--cell {text!r} is no size; write width and height in pixels, such as 256x192.")
    return int(width), int(height or width)


def _beside(sheet: Sheet) -> Iterator[tuple[int, str]]:
    yield sheet.marked, "marked as without an image"
    yield sheet.left_out, "left out"
    yield sheet.unfinished, "not finished yet"


@contextmanager
def connected(context: typer.Context, url: str | None, token: str | None) -> Iterator[Client]:
    """A client of the service that options and settings name."""
    options: Globals = context.obj
    settings = options.settings(url=url, token=token)
    from pixelmill.client import Client, RetryPolicy

    # A person waits: better to say soon that there is no service.
    patience = RetryPolicy(attempts=4)
    with Client(settings["url"], settings["token"] or None, retry=patience) as client:
        yield client


def _watch(job: Job, *, as_json: bool) -> None:
    from pixelmill.cli.progress import Bar, is_shown

    with Bar("job", job.status.counts.total, shown=is_shown(None) and not as_json) as bar:
        for event in job.events():
            if as_json:
                print(json.dumps({"id": event.id, "type": event.type, **event.data}), flush=True)
            elif event.type == "progress":
                bar.update(-1, note=_far(event.data))
            elif event.type == "job" and "counts" in event.data:
                from pixelmill.client import Counts

                counts = Counts.read(event.data["counts"])
                note = f"{counts.failed:,} failed" if counts.failed else ""
                bar.update(counts.done, total=counts.total, note=note)
    status = job.refresh()
    if not as_json:
        _show(status, as_json=False)
    if status.counts.failed and not as_json:
        _show_tasks(job.tasks(state="failed"), as_json=False)
    if status.state != "succeeded":
        raise typer.Exit(1)


def _far(data: Mapping[str, Any]) -> str:
    """How far a large image is, in a few words."""
    progress = data.get("progress") or {}
    left = progress.get("seconds_left")
    rest = "" if left is None else f", {left:,.0f} s left"
    tiles = f"{progress.get('tiles', 0):,} of {progress.get('of', 0):,} tiles"
    return f"{data.get('name', '')}: {tiles}, {progress.get('megapixels_s', 0):,.0f} MP/s{rest}"


def _show(status: JobStatus, *, as_json: bool, brief: bool = False) -> None:
    if as_json:
        print(json.dumps(asdict(status)), flush=True)
    elif brief:
        print(status.id, flush=True)
    else:
        counts = ", ".join(f"{number:,} {name}" for name, number in asdict(status.counts).items() if number) or "empty"
        print(f"{status.id}  {status.state}  {counts}")
        print(f"  pipeline  {status.pipeline}")
        for label in ("name", "created", "started", "ended"):
            if getattr(status, label):
                print(f"  {label:8}  {getattr(status, label)}")
        if status.labels:
            print(f"  labels    {', '.join(f'{label} {number:,}' for label, number in status.labels.items())}")


def _show_tasks(tasks: Iterator[TaskStatus], *, as_json: bool) -> None:
    if as_json:
        for task in tasks:
            print(json.dumps(asdict(task)))
        return
    from pixelmill.cli.tables import print_table

    print_table(
        ("task", "state", "source", "attempts", "why"), ((t.id, t.state, t.name, t.attempts, _why(t)) for t in tasks)
    )


def _why(task: TaskStatus) -> str:
    return str((task.error or {}).get("detail", ""))
