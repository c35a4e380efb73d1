"""`pixelmill demo`: a private service on a free port runs jobs over sample images, shows what it made, and ends.

Everything it starts it ends, also after Ctrl-C or a failure; the service is killed by the kernel should this process
die in a way that leaves no time for that.
"""

from __future__ import annotations

import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.private import private_service, sigterm_raises
from pixelmill.errors import ConfigError

if TYPE_CHECKING:
    from pixelmill.cli.progress import Bar
    from pixelmill.client import Client, Job, TaskStatus

PIPELINES = (
    ("gray thumbnails", "thumbnails", "grayscale/resize:256,256,fit=inside/format:jpeg,quality=80"),
    ("web size", "web", "resize:1024,1024,fit=inside/sharpen/format:webp,quality=80"),
    ("edges", "edges", "resize:1024,1024,fit=inside/canny:80,160/format:png"),
    ("pencil sketch", "sketch", "resize:640,640,fit=inside/sketch:fast/format:jpeg,quality=85"),
)
"""Title, folder below the output, and pipeline of each job."""


@dataclass(frozen=True, slots=True)
class Made:
    """A row of the table at the end."""

    title: str
    folder: Path
    images: int
    failed: int
    bytes: int
    seconds: float
    milliseconds: float


def demo(
    images: Annotated[Path | None, typer.Option(help="A folder of your own images, instead of drawn samples.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("demo-output"),
) -> None:
    """Run jobs over sample images on a private service: a dozen drawn pictures, or your own with --images.

    The service listens on a free loopback port, keeps its data in a temporary folder, and is gone afterwards.
    """
    with sigterm_raises(), tempfile.TemporaryDirectory(prefix="pixelmill-demo-") as temporary:
        folder = Path(temporary)
        sources = _samples(folder) if images is None else _own(images)
        with private_service(folder, folder / "data") as url:
            made = _run_jobs(url, sources, output)
    _print(made, output)
    if any(row.failed for row in made):
        raise typer.Exit(1)


def _samples(folder: Path) -> list[Path]:
    from pixelmill.cli.samples import draw_all

    target = folder / "samples"
    target.mkdir()
    print("Drawing sample images ...", file=sys.stderr)
    return list(draw_all(target))


def _own(folder: Path) -> list[Path]:
    from pixelmill.cli.inputs import expand

    if not folder.is_dir():
        raise ConfigError(f"--images {folder} is not a folder.")
    found = [item.body for item in expand([str(folder)], sys.stdin.buffer, 0).items if isinstance(item.body, Path)]
    if not found:
        raise ConfigError(f"There is no image in the folder {folder} (JPEG, PNG, WebP, AVIF, GIF or the like).")
    return found


# -- the jobs ------------------------------------------------------------------------------------


def _run_jobs(url: str, sources: list[Path], output: Path) -> list[Made]:
    from pixelmill.client import Client

    made: list[Made] = []
    with Client(url) as client:
        for title, name, pipeline in PIPELINES:
            made.append(_run_job(client, title, output / name, pipeline, sources))
    return made


def _run_job(client: Client, title: str, folder: Path, pipeline: str, sources: list[Path]) -> Made:
    from pixelmill.cli.progress import Bar, is_shown

    start = time.perf_counter()
    with Bar(f"{title:16}", len(sources), shown=is_shown(None)) as bar:
        job = client.submit(
            sources, pipeline, name=title, on_progress=lambda sent: bar.update(0, note=f"sent {sent.done}")
        )
        _follow(job, bar)
    status = job.refresh()
    seconds = time.perf_counter() - start
    # Results of an earlier demo must not be taken for those of this one.
    done = job.download(folder, overwrite=True)
    for task in done.failed:
        print(f"  {task.name}: {(task.error or {}).get('detail', task.state)}", file=sys.stderr)
    tasks = [task for task in job.tasks() if task.state == "succeeded"]
    total = sum(path.stat().st_size for path in done.saved)
    return Made(title, folder, status.counts.succeeded, status.counts.failed, total, seconds, _mean_ms(tasks))


def _follow(job: Job, bar: Bar) -> None:
    from pixelmill.client import Counts

    for event in job.events():
        if event.type == "job" and "counts" in event.data:
            counts = Counts.read(event.data["counts"])
            bar.update(counts.done, total=counts.total)


def _mean_ms(tasks: list[TaskStatus]) -> float:
    """Milliseconds of decode, apply and encode, on average."""
    spent = [sum((task.outcome or {}).get("timings", {}).values()) for task in tasks]
    return sum(spent) / len(spent) if spent else 0.0


def _print(made: list[Made], output: Path) -> None:
    from pixelmill.cli.tables import print_table, size_text

    header = ("job", "images", "failed", "size", "seconds", "images/s", "ms/image", "written to")
    print_table(
        header,
        (
            (
                row.title,
                row.images,
                row.failed or "",
                size_text(row.bytes),
                f"{row.seconds:.2f}",
                f"{row.images / row.seconds:.1f}" if row.seconds else "",
                f"{row.milliseconds:.1f}",
                row.folder,
            )
            for row in made
        ),
    )
    print("ms/image: decode, apply and encode in a pool process, on average.")
    print(f"Results are in {output.absolute()}. The private service has ended.")
    print("Next: `pixelmill operations`, `pixelmill run PIPELINE FOLDER -o OUT`, `pixelmill serve`.")
