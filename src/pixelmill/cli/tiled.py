"""`pixelmill run` of an image that is too large to be held, or with `--tile`: in this process, on threads."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import psutil

from pixelmill.cli.outputs import Target, exists_error, extension
from pixelmill.cli.progress import REFRESH_PER_SECOND
from pixelmill.cli.settings import limits, own_models
from pixelmill.cli.state import Stopped
from pixelmill.cli.work import Report, Rules, failed, keep_data, there
from pixelmill.errors import Cancelled, PixelmillError, StorageError
from pixelmill.images.formats import WRITTEN, format_of_name, identify
from pixelmill.images.image import ImageInfo
from pixelmill.images.limits import RegionLimits
from pixelmill.images.probe import probe
from pixelmill.images.region_options import is_regions_only
from pixelmill.images.region_readers import open_regions
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.tiled_explain import explain_tiled, tiled_record
from pixelmill.pipelines.tiled_options import TiledOptions, TiledOutcome
from pixelmill.pipelines.tiled_plan import ENDLESS, info_of, too_large
from pixelmill.pipelines.tiled_run import prepare, run_tiled
from pixelmill.tiling.heap import keep_freed_memory
from pixelmill.tiling.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

    from pixelmill.config import Settings

ASKED = "tiles were asked for"
HEAD_BYTES = 1 << 20


def why_tiled(
    pipeline: Pipeline, body: Path | bytes, destination: Path | None, tile: int | None, settings: Settings
) -> str | None:
    """Why this source runs in tiles, None where it runs whole. What is wrong with it is left for the run to tell."""
    if tile is not None:
        return ASKED
    if destination is not None and is_regions_only(destination.name):
        return f"{destination.suffix} is written in tiles"
    bounds = limits(settings)
    try:
        with body.open("rb") if isinstance(body, Path) else io.BytesIO(body) as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, os.SEEK_END)
        info = _info(body, head, settings, pipeline.source.frame)
    except (OSError, PixelmillError):
        return None
    if size > bounds.max_bytes:
        return f"the file has {size:,} bytes; the limit of whole images is {bounds.max_bytes:,}"
    return too_large(pipeline, info, bounds, settings["memory"])


def _info(body: Path | bytes, head: bytes, settings: Settings, frame: int | None) -> ImageInfo:
    """The header, whatever it says: that of a TIFF may be anywhere in the file, those of others are in front."""
    if identify(head).name != "tiff":
        return probe(head, ENDLESS, frame)
    reader = open_regions(body, RegionLimits(settings["tiled_max_pixels"], settings["tiled_max_side"]), page=frame or 0)
    try:
        return info_of(reader.raster, "tiff")
    finally:
        reader.close()


def options_of(settings: Settings, tile: int | None, *, overwrite: bool = False) -> TiledOptions:
    """What settings say about runs in tiles."""
    from pixelmill.fleet.cores import usable_cores

    return TiledOptions(
        tile=tile,
        workers=settings["workers"] or usable_cores(),
        memory=settings["tiled_memory"],
        scratch=settings["scratch"],
        scratch_bytes=settings["scratch_bytes"],
        limits=RegionLimits(settings["tiled_max_pixels"], settings["tiled_max_side"]),
        whole=limits(settings),
        whole_memory=settings["memory"],
        overwrite=overwrite,
    )


@dataclass(frozen=True, slots=True)
class Order:
    """One source in tiles: its number among the sources, where it comes from and goes to, and why."""

    number: int
    name: str
    body: Path | bytes
    target: Target
    why: str


def run_order(
    order: Order, pipeline: Pipeline, rules: Rules, settings: Settings, tile: int | None, *, shown: bool
) -> tuple[Report, bytes | None]:
    """Run it; the report, and the bytes of a result that goes to no file. A failure is a report."""
    try:
        before = there(rules, pipeline, order.target)
        dest = destination(order, pipeline)
        if before is None and rules.clash != "overwrite" and dest is not None and os.path.lexists(dest):
            before = str(dest)
        if before is not None:
            if rules.clash == "skip":
                return Report(order.number, "skipped", output=before), None
            raise exists_error(before)
        if dest is not None:
            dest.parent.mkdir(parents=True, exist_ok=True)
        options = options_of(settings, tile, overwrite=rules.clash == "overwrite")
        keep_freed_memory()
        with TileBar(order.name, shown=shown) as bar, _ended_by_sigterm() as ended:
            try:
                outcome = run_tiled(
                    pipeline, order.body, dest, options, models=own_models(settings), progress=bar.update, stop=ended
                )
            except Cancelled:
                raise Stopped(128 + signal.SIGTERM) from None
        data_file = keep_data(rules, order.number, order.target, outcome.data)
    except PixelmillError as error:
        return failed(order.number, error), None
    except OSError as error:
        return failed(order.number, StorageError(f"{order.target.stem}: {error.strerror or error}.")), None
    output = str(outcome.path) if outcome.path is not None else None
    report = Report(order.number, "succeeded", output, data_file, _detail(outcome) if rules.detailed else None)
    return report, outcome.bytes


def destination(order: Order, pipeline: Pipeline) -> Path | None:
    """The file of the result; in a folder with the extension of its format: the pipeline's, else the source's."""
    if gives_data_only(pipeline) or order.target.nowhere:
        return None
    if order.target.path is not None:
        return Path(order.target.path)
    named = format_of_name(Path(order.target.name))
    fmt = pipeline.output.format or (named.name if named is not None else None)
    if fmt is None or fmt not in WRITTEN:
        fmt = "tiff"
    return Path(f"{order.target.stem}{extension(fmt, order.target.name)}")


def explain_order(order: Order, pipeline: Pipeline, settings: Settings, tile: int | None, *, as_json: bool) -> None:
    """Print the plan; raises what opening and planning raise."""
    dest = destination(order, pipeline)
    options = options_of(settings, tile)
    with prepare(pipeline, order.body, dest, options, why=order.why, models=own_models(settings)) as prepared:
        if as_json:
            record = {"pipeline": pipeline.to_text(), "hash": pipeline.hash, "source": order.name}
            print(json.dumps({**record, "tiles": tiled_record(prepared.plan)}))
            return
        print(f"pipeline {pipeline.to_text()}")
        print(f"file     {order.name}")
        print(explain_tiled(prepared.plan))


def _detail(outcome: TiledOutcome) -> dict[str, Any]:
    """What ``--json`` prints of a run in tiles."""
    stages = outcome.stages
    return {
        "format": outcome.format,
        "size": list(outcome.size) if outcome.size is not None else None,
        "source_size": list(outcome.source_size),
        "frames": 1 if outcome.size is not None else 0,
        "data": dict(outcome.data),
        "timings": {"total_ms": outcome.seconds * 1e3},
        "tiles": sum(stage.grid.tiles for stage in stages),
        "sweeps": len(stages),
        "bytes": _bytes(outcome),
    }


def _bytes(outcome: TiledOutcome) -> int | None:
    """Of a result that is one file."""
    if outcome.bytes is not None:
        return len(outcome.bytes)
    return outcome.path.stat().st_size if outcome.path is not None and outcome.path.is_file() else None


@contextmanager
def _ended_by_sigterm() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM is noted, for a run to ask for."""
    hit = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: hit.set())
    try:
        yield hit.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


class TileBar:
    """A bar of tiles, with megapixels a second, memory and time left. Nothing is drawn unless it is shown."""

    def __init__(self, name: str, *, shown: bool) -> None:
        self._progress: RichProgress | None = None
        self._task: TaskID
        self._process, self._started = psutil.Process(), time.perf_counter()
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn

            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[told]}"),
                console=Console(stderr=True),
                refresh_per_second=REFRESH_PER_SECOND,
            )
            self._task = self._progress.add_task(Path(name).name, total=1.0, told="")

    def __enter__(self) -> Self:
        if self._progress is not None:
            self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()

    def update(self, progress: Progress) -> None:
        """Show how far it is."""
        if self._progress is None:
            return
        told = line_of(progress, time.perf_counter() - self._started, self._process.memory_info().rss)
        self.show(progress.share, told)

    def show(self, share: float, told: str) -> None:
        """Draw that much of it, with some words."""
        if self._progress is not None:
            self._progress.update(self._task, completed=share, told=told)


def line_of(progress: Progress, seconds: float, memory: int) -> str:
    """What stands behind the bar; ``memory`` is resident bytes."""
    swept = progress.share * progress.all_pixels
    rate = f"{swept / seconds / 1e6:,.0f} MP/s" if seconds > 0 else ""
    left = seconds * (1 - progress.share) / progress.share if progress.share > 0 else 0.0
    sweep = f"sweep {progress.stage}/{progress.stages}, " if progress.stages > 1 else ""
    clock = f"{int(left) // 3600}:{int(left) // 60 % 60:02}:{int(left) % 60:02} left"
    return f"{sweep}{progress.tiles:,}/{progress.of_tiles:,} tiles  {rate}  {memory / 1e6:,.0f} MB  {clock}"
