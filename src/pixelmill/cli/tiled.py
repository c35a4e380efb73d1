"""`pixelmill run` of an image that is too large to be held, or with `--tile`: in this process, on threads.

Files and objects in buckets alike: those are read by ranges, and results come into being in them.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pixelmill.cli.far import Body, Bucket, FarObject
from pixelmill.cli.outputs import Target, exists_error, extension
from pixelmill.cli.settings import limits, own_models
from pixelmill.cli.state import Stopped
from pixelmill.cli.tile_bar import TileBar
from pixelmill.cli.work import Report, Rules, data_to_write, expected, failed, keep_data
from pixelmill.errors import Cancelled, PixelmillError, StorageError
from pixelmill.images.byte_sources import ByteSource, BytesSource, FileSource
from pixelmill.images.formats import WRITTEN, format_of_name, identify
from pixelmill.images.image import ImageInfo
from pixelmill.images.limits import RegionLimits
from pixelmill.images.probe import probe
from pixelmill.images.region_options import is_regions_only
from pixelmill.images.region_readers import open_regions
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.sources import info_of
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.tiled_explain import explain_tiled, tiled_record
from pixelmill.pipelines.tiled_options import TiledOptions, TiledOutcome
from pixelmill.pipelines.tiled_plan import ENDLESS, too_large
from pixelmill.pipelines.tiled_run import prepare, run_tiled
from pixelmill.tiling.heap import keep_freed_memory
from pixelmill.tiling.places import ObjectPlace

if TYPE_CHECKING:
    from pixelmill.config import Settings

ASKED = "tiles were asked for"
HEAD_BYTES = 1 << 20


def why_tiled(
    pipeline: Pipeline, body: Body, destination: Path | None, tile: int | None, settings: Settings
) -> str | None:
    """Why this source runs in tiles, None where it runs whole. What is wrong with it is left for the run to tell."""
    if tile is not None:
        return ASKED
    if destination is not None and is_regions_only(destination.name):
        return f"{destination.suffix} is written in tiles"
    bounds = limits(settings)
    try:
        source = _bytes_of(body)
        size = source.size
        info = _info(source, settings, pipeline.source.frame)
    except (OSError, PixelmillError):
        return None
    if size > bounds.max_bytes:
        return f"the file has {size:,} bytes; the limit of whole images is {bounds.max_bytes:,}"
    return too_large(pipeline, info, bounds, settings["memory"])


def _bytes_of(body: Body) -> ByteSource:
    if isinstance(body, FarObject):
        return body.open()
    return FileSource(body) if isinstance(body, Path) else BytesSource(body)


def _info(source: ByteSource, settings: Settings, frame: int | None) -> ImageInfo:
    """The header, whatever it says: that of a TIFF may be anywhere in the file, those of others are in front."""
    try:
        head = source.read_at(0, min(HEAD_BYTES, source.size))
        if identify(head).name != "tiff":
            return probe(head, ENDLESS, frame)
        limits_ = RegionLimits(settings["tiled_max_pixels"], settings["tiled_max_side"])
        return info_of(open_regions(source, limits_, page=frame or 0).raster, "tiff")
    finally:
        source.close()


def options_of(settings: Settings, tile: int | None, *, overwrite: bool = False) -> TiledOptions:
    """What settings say about runs in tiles."""
    from pixelmill.cores import usable_cores

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
    """One source in tiles: its number among the sources, where it comes from and goes to, and why.

    ``bucket``: where results are objects, and the names of the target are keys.
    """

    number: int
    name: str
    body: Body
    target: Target
    why: str
    bucket: Bucket | None = None

    def shown(self, path: str) -> str:
        """A result's file or address for people."""
        return path if self.bucket is None else self.bucket.uri(path)


def run_order(
    order: Order, pipeline: Pipeline, rules: Rules, settings: Settings, tile: int | None, *, shown: bool
) -> tuple[Report, bytes | None]:
    """Run it; the report, and the bytes of a result that goes to no file. A failure is a report."""
    try:
        dest = destination(order, pipeline)
        if (skipped := skipped_for(order, pipeline, rules, dest)) is not None:
            return skipped, None
        if dest is not None and order.bucket is None:
            dest.parent.mkdir(parents=True, exist_ok=True)
        options = options_of(settings, tile, overwrite=rules.clash == "overwrite")
        place = _place(order, dest, rules, settings)
        keep_freed_memory()
        with TileBar(order.name, shown=shown) as bar, _ended_by_sigterm() as ended:
            try:
                outcome = run_tiled(
                    pipeline,
                    opened(order.body),
                    place,
                    options,
                    models=own_models(settings),
                    progress=bar.update,
                    stop=ended,
                )
            except Cancelled:
                raise Stopped(128 + signal.SIGTERM) from None
        data_file = keep_found(order, rules, outcome.data)
        output = str(dest) if dest is not None and outcome.format is not None else None
        detail = _detail(outcome, _bytes(order, outcome, output)) if rules.detailed else None
    except PixelmillError as error:
        return failed(order.number, error), None
    except OSError as error:
        return failed(order.number, StorageError(f"{order.target.stem}: {error.strerror or error}.")), None
    return Report(
        order.number, "succeeded", None if output is None else order.shown(output), data_file, detail
    ), outcome.bytes


def opened(body: Body) -> Path | bytes | ByteSource:
    """What a run in tiles takes as its source; it closes it."""
    return body.open() if isinstance(body, FarObject) else body


def skipped_for(order: Order, pipeline: Pipeline, rules: Rules, dest: Path | None) -> Report | None:
    """What is told where a result is there that is to be kept; raises the error of it where that is not asked for."""
    before = _there_before(order, pipeline, rules, dest)
    if before is None:
        return None
    if rules.clash == "skip":
        return Report(order.number, "skipped", output=before)
    raise exists_error(before)


def _there_before(order: Order, pipeline: Pipeline, rules: Rules, dest: Path | None) -> str | None:
    """The result that is there and must not be replaced."""
    names = expected(rules, pipeline, order.target)
    if rules.clash != "overwrite" and dest is not None:
        names = list(dict.fromkeys([*names, str(dest)]))
    if order.bucket is not None:
        return asyncio.run(order.bucket.first_there(names)) if names else None
    return next((name for name in names if os.path.lexists(name)), None)


def keep_found(order: Order, rules: Rules, data: Mapping[str, Any]) -> str | None:
    """Write what was found, where it is to go: the file or the address."""
    if order.bucket is None:
        return keep_data(rules, order.number, order.target, data)
    found = data_to_write(rules, order.target, data)
    return None if found is None else asyncio.run(order.bucket.put(*found, rules.clash))


def _place(order: Order, dest: Path | None, rules: Rules, settings: Settings) -> Path | ObjectPlace | None:
    if dest is None or order.bucket is None:
        return dest
    return order.bucket.place(str(dest), rules.clash, settings["scratch"])


def destination(order: Order, pipeline: Pipeline) -> Path | None:
    """The file (or key) of the result; in a folder with the extension of its format, or of the source's."""
    if gives_data_only(pipeline) or order.target.nowhere:
        return None
    if order.target.path is not None:
        return Path(order.target.path)
    named = format_of_name(Path(order.target.name))
    fmt = pipeline.output.format or (named.name if named is not None else None)
    if fmt is None or fmt not in WRITTEN:
        fmt = "tiff"
    return Path(f"{order.target.stem}{extension(fmt, order.target.name)}")


def explain_order(
    order: Order, pipeline: Pipeline, rules: Rules, settings: Settings, tile: int | None, *, as_json: bool
) -> None:
    """Print the plan; raises what opening and planning raise."""
    dest = _place(order, destination(order, pipeline), rules, settings)
    options = options_of(settings, tile)
    with prepare(pipeline, opened(order.body), dest, options, why=order.why, models=own_models(settings)) as prepared:
        if as_json:
            record = {"pipeline": pipeline.to_text(), "hash": pipeline.hash, "source": order.name}
            print(json.dumps({**record, "tiles": tiled_record(prepared.plan)}))
            return
        print(f"pipeline {pipeline.to_text()}")
        print(f"file     {order.name}")
        print(explain_tiled(prepared.plan))


def _detail(outcome: TiledOutcome, size: int | None) -> dict[str, Any]:
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
        "bytes": size,
    }


def _bytes(order: Order, outcome: TiledOutcome, output: str | None) -> int | None:
    """Of a result that is one file."""
    if output is None:
        return None if outcome.bytes is None else len(outcome.bytes)
    if order.bucket is not None:
        return None if is_regions_only(output) else asyncio.run(order.bucket.size(output))
    return Path(output).stat().st_size if Path(output).is_file() else None


@contextmanager
def _ended_by_sigterm() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM is noted, for a run to ask for; one that ended before it could raises :class:`Stopped`."""
    hit = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: hit.set())
    try:
        yield hit.is_set
    finally:
        signal.signal(signal.SIGTERM, before)
    if hit.is_set():
        raise Stopped(128 + signal.SIGTERM)
