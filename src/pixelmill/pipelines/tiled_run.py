"""Runs a pipeline in tiles: opens the source by regions, begins the result, and hands both to the runner over threads.

What is written by regions (TIFF and others, see ``images/region_options.py``) never is in memory as a whole. Every
other format is encoded from a result that is held, and so must be within the limits of whole images.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import perf_counter
from typing import Any, Self

from pixelmill.errors import LimitExceeded, NotApplicable, UnknownOperation
from pixelmill.images.encode import encode
from pixelmill.images.encoders import AutoOptions
from pixelmill.images.formats import FORMATS, UNDECIDED, format_of_name
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits, RegionLimits
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.images.region_options import region_format
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_results import FileResult
from pixelmill.images.region_tiff import TiffReader
from pixelmill.images.region_writers import create_regions, region_unit
from pixelmill.images.regions import Raster, RegionReader, RegionWriter
from pixelmill.models.model import ModelSource
from pixelmill.pipelines.output import Output
from pixelmill.pipelines.sources import load_fonts, load_images, load_models
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.steps import Given, free_key
from pixelmill.pipelines.tiled_plan import TiledPlan, plan_tiled
from pixelmill.tiling.compiler import Wishes
from pixelmill.tiling.progress import TileLog, Told
from pixelmill.tiling.scratch import Scratch
from pixelmill.tiling.stage import Stage
from pixelmill.tiling.threads import Found
from pixelmill.tiling.threads import run_tiled as run_program

READER_CACHE = 32 << 20
IN_MEMORY = 32 << 20
"""Bytes of stores that stay in memory."""


@dataclass(frozen=True, slots=True)
class TiledOptions:
    """How a run in tiles is done.

    ``tile``: side of the tiles in pixels (about; None: as planned). ``workers``: tiles computed at a time. ``memory``:
    resident bytes that the process may have at the peak; what is planned keeps to it where it can. ``scratch``: folder
    of intermediate pixels (None: that of the result's file, else that for temporary files); ``scratch_bytes``: the most
    there. ``limits`` are of images in tiles; ``whole`` and ``whole_memory`` of what is held as a whole.
    """

    tile: int | None = None
    workers: int = 1
    memory: int = 1_000_000_000
    scratch: Path | None = None
    scratch_bytes: int = 100_000_000_000
    limits: RegionLimits = field(default_factory=RegionLimits)
    whole: Limits = field(default_factory=Limits)
    whole_memory: int = 1_000_000_000
    overwrite: bool = True


@dataclass(frozen=True, slots=True)
class TiledOutcome:
    """What a run in tiles gave: a file at ``path``, or ``bytes`` where none was named; and what was found.

    ``format`` and ``size`` are None where the pipeline gives data only. ``seconds`` is wall time of the run.
    """

    path: Path | None
    bytes: bytes | None
    format: str | None
    size: Size | None
    source_size: Size
    data: Mapping[str, Any]
    seconds: float
    plan: TiledPlan = field(repr=False)


@dataclass(slots=True)
class Prepared:
    """An open source and the plan for it. As a context manager it closes the source."""

    reader: RegionReader
    plan: TiledPlan
    given: Given
    options: TiledOptions
    icc: bytes | None
    target: _Target

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    def writer(self, raster: Raster) -> RegionWriter:
        """Begin the result, of that form."""
        return self.target.writer(replace(raster, icc=self.icc))


def run_tiled(
    pipeline: Pipeline,
    source: str | Path | bytes | Image | RegionReader,
    dest: str | Path | None = None,
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
        source: a path, the bytes of a file, pixels, or any reader of regions (which stays open).
        dest: the file of the result, written beside that name and renamed at the end; None: its bytes are in the
            outcome.
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
        folder = options.scratch or (target.path.parent if target.path is not None else Path(tempfile.gettempdir()))
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
            target.path if fmt is not None else None,
            body,
            fmt,
            size,
            prepared.reader.raster.size,
            data_of(found),
            perf_counter() - started,
            chosen,
        )


def data_of(found: tuple[Found, ...]) -> dict[str, Any]:
    """What was found by the operation's name, as a whole run gives it."""
    data: dict[str, Any] = {}
    for item in found:
        data[free_key(item.operation, data)] = item.data
    return data


def prepare(
    pipeline: Pipeline,
    source: str | Path | bytes | Image | RegionReader,
    dest: str | Path | None = None,
    options: TiledOptions | None = None,
    *,
    why: str = "tiles were asked for",
    images: Mapping[str, bytes | Path | Image] | None = None,
    models: ModelSource | None = None,
) -> Prepared:
    """Open the source and plan; nothing is written. Raises as :func:`run_tiled` does."""
    options = options or TiledOptions()
    references, fonts, wanted = pipeline.image_references, pipeline.font_references, pipeline.wanted_models
    given = Given(
        load_images(references, images, options.whole) if references else {},
        load_fonts(fonts, images, options.whole) if fonts else {},
        load_models(wanted, models) if wanted else {},
    )
    opened = functools.partial(_opened, source, options, pipeline.source.frame or 0)
    keep = pipeline.output.metadata.icc
    reader = opened(keep_icc=keep)
    try:
        # Bands of a PNG or JPEG are no tiles: where tiles were asked for and can be held, they are what was asked for.
        held = options.tile is not None and reader.raster.size.pixels <= options.whole.max_pixels
        target = _Target(pipeline.output, Path(dest) if dest is not None else None, options, held=held)
        chosen = _planned(pipeline, reader, target, options, given, why)
        icc = reader.raster.icc if keep else None
        if icc is not None and not _stays(chosen.stages, reader.raster):
            # No profile is one of gray and of color both, so the way from one to the other leads through sRGB.
            reader.close()
            reader, icc = opened(keep_icc=False), None
            chosen = _planned(pipeline, reader, target, options, given, why)
        return Prepared(reader, chosen, given, options, icc, target)
    except BaseException:
        reader.close()
        raise


def _opened(source: Any, options: TiledOptions, page: int, *, keep_icc: bool) -> RegionReader:
    if isinstance(source, str | Path):
        source = Path(source)
    elif not isinstance(source, bytes | bytearray | memoryview | Image):
        return _Borrowed(source)
    return open_regions(
        source, options.limits, whole=options.whole, page=page, keep_icc=keep_icc, cache_bytes=READER_CACHE
    )


class _Borrowed:
    """A reader of the caller's, which stays open."""

    def __init__(self, reader: RegionReader) -> None:
        self.raster, self.unit, self.in_order, self.read = reader.raster, reader.unit, reader.in_order, reader.read

    def close(self) -> None:
        """It is the caller's to close."""


def _planned(
    pipeline: Pipeline, reader: RegionReader, target: _Target, options: TiledOptions, given: Given, why: str
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


class _Target:
    """Where a result goes, and in which format: by regions where that format is written so, else from memory."""

    def __init__(self, output: Output, path: Path | None, options: TiledOptions, *, held: bool) -> None:
        self.path, self._output, self._options = path, output, options
        self._held: MemoryWriter | None = None
        self._raster: Raster | None = None
        name = self._by_regions()
        self._name = None if held and name in ("png", "jpeg") else name

    def _by_regions(self) -> str | None:
        """The format of :mod:`pixelmill.images.region_options`, None for one that is encoded from memory."""
        if self.path is None:
            return None
        try:
            name = region_format(self.path.name)
        except UnknownOperation:
            return None
        return name if self._output.format in (None, name) else None

    @property
    def _chosen(self) -> Mapping[str, Any]:
        """Options that were given; defaults are those of the writer of regions."""
        options = self._output.options
        return {} if options is None else options.model_dump(exclude_unset=True)

    def unit_of(self, raster: Raster) -> Size:
        """Of the writer that is going to be made."""
        if self._name is None:
            return Size(1, 1)
        try:
            return region_unit(raster, self._name, self._chosen)
        except NotApplicable:  # of pixels on the way, which need not be what the format can hold
            return Size(1, 1)

    def check(self, raster: Raster) -> None:
        """Before anything runs: whether the format holds the result, or it can be held here.

        Raises :class:`NotApplicable`, :class:`InvalidParameter`, :class:`LimitExceeded`.
        """
        if self._name is not None:
            region_unit(raster, self._name, self._chosen)
            return
        limits = self._options.whole
        if raster.size.pixels > limits.max_pixels:
            raise LimitExceeded(
                f"The result has {raster.size.width:,}×{raster.size.height:,} pixels, more than is held as a whole "
                f"({limits.max_pixels:,}). Write it in tiles, to a file that ends in .tif for example.",
                limit="pixels",
                value=raster.size.pixels,
                maximum=limits.max_pixels,
            )

    def writer(self, raster: Raster) -> RegionWriter:
        """Begin it."""
        self._raster = raster
        if self._name is not None:
            assert self.path is not None
            return create_regions(
                self.path, raster, fmt=self._name, options=self._chosen, if_absent=not self._options.overwrite
            )
        self.check(raster)
        self._held = MemoryWriter(raster, Size(1, 1))
        return self._held

    def end(self) -> tuple[bytes | None, str, Size]:
        """Behind the run: the bytes, where they go to no file; format and size."""
        assert self._raster is not None
        if self._held is None:
            assert self._name is not None
            return None, self._name, self._raster.size
        name, body = self._encoded(self._held.image)
        if self.path is None:
            return body, name, self._raster.size
        result = FileResult(self.path, if_absent=not self._options.overwrite)
        try:
            result.append(body)
            result.finish()
        except BaseException:
            result.abort()
            raise
        return None, name, self._raster.size

    def _encoded(self, image: Image) -> tuple[str, bytes]:
        target = self._output.target(None)
        if target is UNDECIDED:
            from pixelmill.images.auto import encode_auto

            assert isinstance(self._output.options, AutoOptions)
            return encode_auto(image, self._output.options)
        if self._output.format is None and self.path is not None:
            named = format_of_name(self.path)
            target = FORMATS[named.name] if named is not None else target
        return target.name, encode(image, target.name, self._output.options)
