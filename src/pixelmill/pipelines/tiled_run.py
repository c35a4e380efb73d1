"""Runs a pipeline in tiles: opens the source by regions, begins the result, and hands both to the runner over threads.

What is written by regions (TIFF and others, see ``images/region_options.py``) never is in memory as a whole. Every
other format is encoded from a result that is held, and so must be within the limits of whole images.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from pixelmill.images.byte_sources import ByteSource
from pixelmill.images.formats import FORMATS, format_of_name
from pixelmill.images.image import Image
from pixelmill.images.region_memory import MemoryReader
from pixelmill.images.region_places import FolderPlace, ResultPlace
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_tiff import TiffReader
from pixelmill.images.regions import Raster, RegionReader, RegionWriter
from pixelmill.models.model import ModelSource
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.sources import load_fonts, load_images, load_models
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.steps import Given, free_key
from pixelmill.pipelines.tiled_options import TiledOptions, TiledOutcome, TiledSource
from pixelmill.pipelines.tiled_plan import TiledPlan, plan_tiled
from pixelmill.pipelines.tiled_target import Target
from pixelmill.tiling.compiler import Wishes
from pixelmill.tiling.progress import TileLog, Told
from pixelmill.tiling.scratch import Scratch
from pixelmill.tiling.stage import Stage
from pixelmill.tiling.threads import Found
from pixelmill.tiling.threads import run_tiled as run_program

READER_CACHE = 32 << 20
IN_MEMORY = 32 << 20
"""Bytes of stores that stay in memory."""


@dataclass(slots=True)
class Prepared:
    """An open source and the plan for it. As a context manager it closes the source."""

    reader: RegionReader
    plan: TiledPlan
    given: Given
    options: TiledOptions
    icc: bytes | None
    target: Target
    source: TiledSource

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the source."""
        self.reader.close()
        _closed(self.source)

    def writer(self, raster: Raster) -> RegionWriter:
        """Begin the result, of that form."""
        return self.target.writer(replace(raster, icc=self.icc))


def run_tiled(
    pipeline: Pipeline,
    source: TiledSource,
    dest: str | Path | ResultPlace | None = None,
    options: TiledOptions | None = None,
    *,
    images: Mapping[str, bytes | Path | Image] | None = None,
    models: ModelSource | None = None,
    progress: Told | None = None,
    stop: Callable[[], bool] | None = None,
    done: TileLog | None = None,
) -> TiledOutcome:
    """One source through one pipeline, in tiles.

    Args:
        pipeline: what to do.
        source: a path, the bytes of a file, pixels, any :class:`ByteSource` (an object that is read by ranges; it is
            closed), or any reader of regions (which stays open).
        dest: the file of the result, written beside that name and renamed at the end, or a place in an object store;
            None: its bytes are in the outcome.
        options: tiles, threads, memory, limits.
        images: as :func:`pixelmill.pipelines.run.run` takes them.
        models: likewise.
        progress: called a few times a second, in this thread.
        stop: asked several times a second; True ends the run with :class:`Cancelled`, and nothing is left of it.
        done: tiles that an earlier run has written, for writers that can go on.

    Raises:
        NotTileable: a step needs the whole image.
        InputError, PipelineError, StorageError, MissingExtra, RunError: as a whole run.
    """
    started = perf_counter()
    options = options or TiledOptions()
    with prepare(pipeline, source, dest, options, images=images, models=models) as prepared:
        chosen, target = prepared.plan, prepared.target
        folder = options.scratch or (target.place.scratch if target.place else Path(tempfile.gettempdir()))
        with Scratch(folder, IN_MEMORY, options.scratch_bytes) as scratch:
            found = run_program(
                chosen.program,
                prepared.reader,
                prepared.writer if chosen.wishes.image else None,
                scratch=scratch,
                progress=progress,
                stop=stop,
                done=done,
            )
        body, fmt, size = target.end() if chosen.wishes.image else (None, None, None)
        return TiledOutcome(
            Path(dest) if isinstance(dest, str | Path) and fmt is not None else None,
            body,
            fmt,
            size,
            prepared.reader.raster.size,
            data_of(found),
            perf_counter() - started,
            chosen.stages,
        )


def data_of(found: tuple[Found, ...]) -> dict[str, Any]:
    """What was found by the operation's name, as a whole run gives it."""
    data: dict[str, Any] = {}
    for item in found:
        data[free_key(item.operation, data)] = item.data
    return data


def prepare(
    pipeline: Pipeline,
    source: TiledSource,
    dest: str | Path | ResultPlace | None = None,
    options: TiledOptions | None = None,
    *,
    why: str = "tiles were asked for",
    images: Mapping[str, bytes | Path | Image] | None = None,
    models: ModelSource | None = None,
    still: bool | None = None,
) -> Prepared:
    """Open the source and plan; nothing is written. Raises as :func:`run_tiled` does.

    ``still``: the result is a still image or data, which of an animation are those of its first frame. None: as the
    pipeline and the name of the result say.
    """
    if pipeline.source.frame is not None:
        still = True
    elif still is None:
        still = _is_still(pipeline, dest)
    try:
        return _prepared(pipeline, source, dest, options or TiledOptions(), why, images, models, still=still)
    except BaseException:
        _closed(source)
        raise


def _prepared(
    pipeline: Pipeline,
    source: TiledSource,
    dest: str | Path | ResultPlace | None,
    options: TiledOptions,
    why: str,
    images: Mapping[str, bytes | Path | Image] | None,
    models: ModelSource | None,
    *,
    still: bool,
) -> Prepared:
    references, fonts, wanted = pipeline.image_references, pipeline.font_references, pipeline.wanted_models
    given = Given(
        load_images(references, images, options.whole) if references else {},
        load_fonts(fonts, images, options.whole) if fonts else {},
        load_models(wanted, models) if wanted else {},
    )
    opened = functools.partial(_opened, source, options, pipeline.source.frame or 0, still=still)
    keep = pipeline.output.metadata.icc
    reader = opened(keep_icc=keep)
    try:
        # Bands of a PNG or JPEG are no tiles: where tiles were asked for and can be held, they are what was asked for.
        held = options.tile is not None and reader.raster.size.pixels <= options.whole.max_pixels
        place = FolderPlace(Path(dest), if_absent=not options.overwrite) if isinstance(dest, str | Path) else dest
        target = Target(pipeline.output, place, options.whole, held=held)
        chosen = _planned(pipeline, reader, target, options, given, why)
        icc = reader.raster.icc if keep else None
        if icc is not None and not _stays(chosen.stages, reader.raster):
            # No profile is one of gray and of color both, so the way from one to the other leads through sRGB.
            reader.close()
            reader, icc = opened(keep_icc=False), None
            chosen = _planned(pipeline, reader, target, options, given, why)
        return Prepared(reader, chosen, given, options, icc, target, source)
    except BaseException:
        reader.close()
        raise


def _is_still(pipeline: Pipeline, dest: str | Path | ResultPlace | None) -> bool:
    """Whether what comes out can't be an animation, though the source is one."""
    if gives_data_only(pipeline):
        return True
    name = Path(dest) if isinstance(dest, str | Path) else Path(dest.name) if dest is not None else None
    named = format_of_name(name) if name is not None else None
    if pipeline.output.format is None:
        return name is not None and (named is None or not named.animated)
    return pipeline.output.format in FORMATS and not FORMATS[pipeline.output.format].animated


def _opened(source: Any, options: TiledOptions, page: int, *, keep_icc: bool, still: bool = True) -> RegionReader:
    if isinstance(source, str | Path):
        source = Path(source)
    elif hasattr(source, "read_at"):
        source = _Kept(source)
    elif not isinstance(source, bytes | bytearray | memoryview | Image):
        return _Borrowed(source)
    return open_regions(
        source,
        options.limits,
        whole=options.whole,
        page=page,
        keep_icc=keep_icc,
        cache_bytes=READER_CACHE,
        still=still,
    )


def _closed(source: Any) -> None:
    """An object that is read by ranges is closed behind its readers: one may follow the other."""
    if hasattr(source, "read_at"):
        source.close()


class _Kept:
    """Bytes that a reader of them does not close."""

    def __init__(self, source: ByteSource) -> None:
        self.size, self.near, self.read_at = source.size, source.near, source.read_at

    def close(self) -> None:
        """Whoever gave them does."""


class _Borrowed:
    """A reader of the caller's, which stays open."""

    def __init__(self, reader: RegionReader) -> None:
        self.raster, self.unit, self.in_order, self.read = reader.raster, reader.unit, reader.in_order, reader.read

    def close(self) -> None:
        """It is the caller's to close."""


def _planned(
    pipeline: Pipeline, reader: RegionReader, target: Target, options: TiledOptions, given: Given, why: str
) -> TiledPlan:
    wishes = Wishes(
        workers=options.workers,
        unit_of=target.unit_of,
        tile=options.tile,
        memory=options.memory,
        caches=_held_by(reader),
        in_memory=IN_MEMORY,
        bands=reader.in_order,
    )
    chosen = plan_tiled(
        pipeline,
        reader.raster,
        wishes,
        why=why,
        given=given,
        limits=options.limits,
        whole=options.whole,
        whole_memory=options.whole_memory,
    )
    if chosen.result is not None:
        target.check(chosen.result)
    return chosen


def _held_by(reader: RegionReader) -> int:
    """Bytes of pixels that a reader has in memory at most."""
    if isinstance(reader, TiffReader):
        return reader.holds
    return reader.raster.bytes if isinstance(reader, MemoryReader) else min(READER_CACHE, reader.raster.bytes)


def _stays(stages: tuple[Stage, ...], source: Raster) -> bool:
    """Whether pixels are gray, or in color, all the way."""
    counts = [link.after.channels for stage in stages for link in stage.links if link.role != "look"]
    return all((count == 1) == (source.channels == 1) for count in counts)
