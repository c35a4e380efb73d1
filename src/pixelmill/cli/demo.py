"""`pixelmill demo`: a private service on a free port runs jobs over sample images, shows what it made, and ends.

Everything it starts it ends, also after Ctrl-C or a failure; the service is killed by the kernel should this process
die in a way that leaves no time for that.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pixelmill.cli.state import Stopped
from pixelmill.errors import ConfigError, RunError

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

READY_S = 60.0
STOP_S = 20.0


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
    with _sigterm_raises(), tempfile.TemporaryDirectory(prefix="pixelmill-demo-") as temporary:
        folder = Path(temporary)
        sources = _samples(folder) if images is None else _own(images)
        with private_service(folder) as url:
            made = _run_jobs(url, sources, output)
    _print(made, output)
    if any(row.failed for row in made):
        raise typer.Exit(1)


@contextmanager
def _sigterm_raises() -> Iterator[None]:
    """SIGTERM unwinds like Ctrl-C, so that what was started is ended."""

    def stop(number: int, frame: object) -> None:
        del frame
        raise Stopped(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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


# -- the service ---------------------------------------------------------------------------------


@contextmanager
def private_service(folder: Path) -> Iterator[str]:
    """A private service over an empty data folder; its URL."""
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "service.log"
    command = [sys.executable, "-m", "pixelmill", "serve", "--port", str(port), "--data", str(folder / "data")]
    # Settings that are meant for the user's own service stay out of this one, as does a pixelmill.toml.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PIXELMILL_")}
    parent = os.getpid()
    with log.open("wb") as sink:
        process = subprocess.Popen(  # noqa: S603 -- the interpreter of this program, with fixed arguments
            command,
            cwd=folder,
            env=_with_import_path(environment),
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=sink,
            # A Ctrl-C at the terminal is for this process, which then ends the service.
            process_group=0,
            preexec_fn=lambda: _die_with(parent),  # noqa: PLW1509 -- there is one thread here, so nothing can deadlock
        )
    try:
        _wait_until_ready(process, url, log)
        print(f"Private service at {url} (process {process.pid})", file=sys.stderr)
        yield url
    finally:
        _stop(process)


def _with_import_path(environment: dict[str, str]) -> dict[str, str]:
    """The service must import the same Pixelmill, though it starts in another folder."""
    paths = [str(Path(path).absolute()) for path in sys.path if path]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)}


def _die_with(parent: int) -> None:
    from pixelmill.targets.process import die_with

    die_with(parent)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    import httpx

    deadline = time.monotonic() + READY_S
    with httpx.Client(trust_env=False, timeout=2.0) as http:
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if http.get(f"{url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)
    tail = log.read_text(errors="replace")[-2000:].strip()
    raise RunError(
        f"The private service did not get ready. Its log ends with:\n{tail}\n`pixelmill doctor` may know more."
    )


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


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
