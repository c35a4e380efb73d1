"""What the processes of a run over tiles run: ``python -m pixelmill.targets.tiled_job [--mpi]``, by ``tiled_runs.py``.

The first rank reads one order from its standard input, and all of them are ended where that ends before the run does.
Each keeps its packed tiles in a spool in the order's folder, so that a run that was killed is taken up where it was;
at the end the first rank makes the result of them, beside its name, and renames it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pixelmill.errors import LimitExceeded, NotApplicable, PixelmillError, RunError, StorageUnavailable
from pixelmill.images.byte_sources import FetchedSource
from pixelmill.images.encode import encode
from pixelmill.images.formats import FORMATS, UNDECIDED, identify
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits, RegionLimits
from pixelmill.images.region_options import TileTiffOptions, region_options
from pixelmill.images.region_readers import open_regions
from pixelmill.images.regions import Raster, Region, RegionWriter
from pixelmill.images.tile_spool import TileSpool, assemble, tiles_done
from pixelmill.pipelines.outcome import Outcome, Timings
from pixelmill.pipelines.plan import gives_data_only
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.tiled_options import TiledOptions
from pixelmill.pipelines.tiled_run import IN_MEMORY, Prepared, data_of, prepare
from pixelmill.storage.faults import translated
from pixelmill.storage.ranges import ObjectRanges
from pixelmill.targets.target import Progress
from pixelmill.targets.tiled_order import Report, TiledOrder, file_identity
from pixelmill.tiling.alike import check_alike, traits
from pixelmill.tiling.grid import Grid
from pixelmill.tiling.heap import keep_freed_memory
from pixelmill.tiling.mpi import Team, Told, run_ranks, started_mpi
from pixelmill.tiling.scratch import Scratch

TELL_S = 0.5
ROWS_A_RANK = 2
"""Rows of tiles that a rank should have at least: with fewer some would wait for others."""
HEAD = 1 << 16
_SPOOL = "spool-"


class Alone:
    """The communicator of a run without MPI: one rank, to whom nobody speaks."""

    def Get_rank(self) -> int:  # noqa: N802 -- mpi4py's name
        """The first."""
        return 0

    def Get_size(self) -> int:  # noqa: N802 -- mpi4py's name
        """Alone."""
        return 1

    def Abort(self, code: int) -> None:  # noqa: N802 -- mpi4py's name
        """End the process."""
        os._exit(code)


def main(arguments: list[str]) -> None:
    """One run; the exit code is 0 where it succeeded, and every error was told."""
    comm = started_mpi().COMM_WORLD if "--mpi" in arguments else Alone()
    keep_freed_memory()
    team = Team(comm)
    try:
        order = _ordered(team, comm)
        outcome = _Job(order, team).run()
        if team.rank == 0:
            say(Report(outcome=outcome))
    except PixelmillError as error:
        say(Report(error=error))
        comm.Abort(1)
    except MemoryError:
        say(Report(error=RunError("A process of the run could not get the memory that it needs.")))
        comm.Abort(1)
    except Exception as error:  # noqa: BLE001 -- the seam: whatever is raised becomes an answer
        traceback.print_exc()
        say(Report(error=RunError(f"The run over tiles failed with an unexpected {type(error).__name__}: {error}.")))
        comm.Abort(1)


def say(report: Report) -> None:
    """One write: lines of other ranks go through the same pipe."""
    os.write(1, report.to_line())


def _ordered(team: Team, comm: Any) -> TiledOrder:
    line = _line() if team.rank == 0 else b""
    if team.rank == 0:
        threading.Thread(target=_end_with_stdin, args=(comm,), daemon=True).start()
    line = team.share(line)
    try:
        order = TiledOrder.from_line(line)
    except ValueError as error:
        raise RunError(f"The order of the run can't be read: {error}.") from error
    found = team.gather((traits(), os.uname().nodename))
    if found is not None:
        check_alike([mine for mine, _ in found], [host for _, host in found])
    team.share()
    return order


def _line() -> bytes:
    """The first line of standard input; not through a buffer, whose lock a thread would hold when the process ends."""
    line = b""
    while not line.endswith(b"\n") and (more := os.read(0, 65_536)):
        line += more
    return line


def _end_with_stdin(comm: Any) -> None:
    """Who started us is gone, or wants us to end."""
    while os.read(0, 1024):
        pass
    comm.Abort(1)


@dataclass(slots=True)
class _Spooled:
    """A :class:`TileLog` of what all spools hold: a tile of the program is done where all units in it are."""

    units: Grid
    tiles: Grid
    done: NDArray[np.bool_]

    def has(self, number: int) -> bool:
        """Whether it need not be computed."""
        return all(self.done[unit] for unit, _ in self.units.parts(self.tiles.core(number)))

    def add(self, number: int) -> None:
        """The spool knows it."""

    @property
    def kept(self) -> int:
        """How many of the program's tiles were there."""
        return sum(self.has(number) for number in range(self.tiles.tiles)) if self.done.any() else 0


@dataclass(slots=True)
class _Job:
    """One rank's part of a run."""

    order: TiledOrder
    team: Team
    began: float = field(default_factory=time.monotonic)
    told: float = 0.0
    kept: int = 0
    spool: TileSpool | None = None
    raster: Raster | None = None
    version: str = ""

    def run(self) -> Outcome:
        """All of it; the outcome means something on the first rank only."""
        order = self.order
        pipeline = Pipeline.parse(order.pipeline)
        source_format = self._source_format()
        target = pipeline.output.target(source_format)
        if target is UNDECIDED:
            raise NotApplicable("Which format is the smallest is not tried over tiles. Name one, such as format:tiff.")
        fmt = target.name
        tiff = replace(pipeline, output=replace(pipeline.output, format="tiff", options=None))
        still = gives_data_only(pipeline) or not target.animated
        prepared = self._prepared(tiff if fmt != "tiff" else pipeline, order.tile, still)
        with prepared:
            chosen = prepared.plan
            options = region_options("tiff", self._chosen(pipeline) if fmt == "tiff" else {"level": 1})
            assert isinstance(options, TileTiffOptions)
            if not chosen.wishes.image:
                fmt = ""
            elif fmt != "tiff" and chosen.result is not None:
                _check_held(chosen.result, fmt)
            log = self._log(prepared, options)
            self.kept = log.kept if log is not None and self.team.rank == 0 else 0
            share = (IN_MEMORY // self.team.size, order.scratch_bytes // self.team.size)
            with Scratch(Path(order.folder), *share) as scratch:
                found = run_ranks(
                    chosen.program,
                    prepared.reader,
                    self._begin(prepared, options) if fmt else None,
                    self.team,
                    workers=order.threads,
                    scratch=scratch,
                    progress=self._tell,
                    done=log,
                )
            if self.spool is not None:
                self.spool.close()
            self._check_source()
            if self.team.rank == 0 and fmt:
                self._finish(fmt, pipeline, options)
            return self._outcome(fmt, source_format, prepared.reader.raster.size, data_of(found))

    # -- before ----------------------------------------------------------------------------------

    def _source(self) -> Path | FetchedSource:
        """A file, or an object that each rank reads by ranges."""
        order = self.order
        if not order.store:
            self.version = self._version_of_file()
            return Path(order.source)
        ranges = ObjectRanges(order.store, order.options, order.source)
        self.version = ranges.version
        return FetchedSource(ranges.read, ranges.size)

    def _version_of_file(self) -> str:
        try:
            return file_identity(Path(self.order.source))
        except OSError as error:
            raise translated(error, "read", self.order.source) from error

    @property
    def _identity(self) -> str:
        """Of tiles that may be put together: also those of an attempt that another version or machine has made."""
        told = [self.order.digest(), self.version, sorted(traits().items())]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def _check_source(self) -> None:
        """Raise :class:`StorageUnavailable` where ranks may have read one half of this file and one of another."""
        versions = self.team.gather(self.version)
        if versions is None:
            return
        now = self.version if self.order.store else self._version_of_file()
        if {*versions, now} != {self.version}:
            raise StorageUnavailable("The source was changed while it was read over tiles. Run it again.")

    def _limits(self) -> RegionLimits:
        return RegionLimits(self.order.limits.max_pixels, self.order.limits.max_side)

    def _source_format(self) -> str:
        """By the first bytes."""
        order = self.order
        if order.store:
            return identify(ObjectRanges(order.store, order.options, order.source).read(0, HEAD)).name
        try:
            with Path(order.source).open("rb") as file:
                return identify(file.read(HEAD)).name
        except OSError as error:
            raise translated(error, "read", order.source) from error

    def _prepared(self, pipeline: Pipeline, tile: int, still: bool) -> Prepared:
        """The source, open, and the plan; with enough rows of tiles for all ranks."""
        order, ranks, limits = self.order, self.team.size, self.order.limits
        options = TiledOptions(
            tile=tile or None,
            workers=order.threads,
            memory=order.memory_bytes // ranks,
            scratch=Path(order.folder),
            limits=self._limits(),
            whole=Limits(limits.max_bytes, min(limits.max_pixels, Limits().max_pixels), Limits().max_side),
        )
        images: dict[str, bytes | Path | Image] = {name: Path(path) for name, path in order.images.items()}
        prepared = prepare(
            pipeline,
            self._source(),
            Path(order.target).with_suffix(".tif"),
            options,
            why="",
            images=images,
            still=still,
        )
        rows = min(stage.grid.rows for stage in prepared.plan.program.stages)
        wanted = ROWS_A_RANK * ranks
        if ranks == 1 or tile or rows >= wanted:
            return prepared
        height = min(stage.grid.size.height for stage in prepared.plan.program.stages)
        prepared.close()
        return self._prepared(pipeline, max(64, min(4096, height // wanted // 64 * 64)), still)

    def _chosen(self, pipeline: Pipeline) -> dict[str, Any]:
        options = pipeline.output.options
        return {} if options is None else options.model_dump(exclude_unset=True)

    # -- spools ----------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        return sorted(Path(self.order.folder).glob(f"{_SPOOL}*"))

    def _forget(self) -> None:
        for path in self._paths():
            path.unlink()

    def _log(self, prepared: Prepared, options: TileTiffOptions) -> _Spooled | None:
        """What an attempt before has left, where that can be known before the run; the same on each rank."""
        chosen = prepared.plan
        if not chosen.wishes.image:
            return None
        if chosen.program.open is not None or chosen.program.result is None:
            if self.team.rank == 0:
                self._forget()
            self.team.share()
            return None
        raster = replace(chosen.program.result, icc=prepared.icc)
        done = None
        if self.team.rank == 0:
            try:
                done = tiles_done(self._paths(), raster, options, self._identity)
            except RunError:  # of another picture, or of other options: of no use
                self._forget()
                done = tiles_done([], raster, options, self._identity)
        done = self.team.share(done)
        (stage,) = [stage for stage in chosen.program.stages if stage.writes]
        return _Spooled(Grid(raster.size, Size(options.tile, options.tile)), stage.grid, done)

    def _begin(self, prepared: Prepared, options: TileTiffOptions) -> Callable[[Raster], RegionWriter]:
        def begin(raster: Raster) -> RegionWriter:
            self.raster = replace(raster, icc=prepared.icc)
            path = Path(self.order.folder) / f"{_SPOOL}{self.team.rank:04}"
            self.spool = TileSpool(path, self.raster, options, self._identity)
            return self.spool.writer()

        return begin

    # -- after -----------------------------------------------------------------------------------

    def _finish(self, fmt: str, pipeline: Pipeline, options: TileTiffOptions) -> None:
        assert self.raster is not None
        target = Path(self.order.target)
        if fmt == "tiff":
            assemble(target, self._paths(), self.raster, options, self._identity)
            return
        between = target.with_suffix(".between")
        assemble(between, self._paths(), self.raster, options, self._identity)
        reader = open_regions(between)
        try:
            image = Image(reader.read(Region(0, 0, *self.raster.size)), icc=self.raster.icc)
        finally:
            reader.close()
        body = encode(image, fmt, pipeline.output.options)
        part = target.with_suffix(".part")
        try:
            part.write_bytes(body)
            part.replace(target)
            between.unlink()
        except OSError as error:
            raise translated(error, "write", str(target)) from error

    def _tell(self, told: Told) -> None:
        """What people want to know of it, a few times a second."""
        now, far = time.monotonic(), told.progress
        if now - self.told < TELL_S and far.share < 1:
            return
        self.told = now
        seconds = max(1e-3, now - self.began)
        of = max(1, round(far.of_tiles * far.stages))
        tiles = min(of, round((far.stage - 1) * far.of_tiles + far.tiles))
        left = seconds * (1 - far.share) / far.share if far.share > 0.01 else None
        pixels = far.pixels + far.of_pixels * (far.stage - 1)
        say(Report(progress=Progress(tiles, of, pixels / seconds, told.memory, left, self.kept)))

    def _outcome(self, fmt: str, source_format: str, source: Size, data: dict[str, Any]) -> Outcome:
        size = self.raster.size if self.raster is not None else None
        spent = Timings(apply_ms=1e3 * (time.monotonic() - self.began))
        media = FORMATS[fmt].media_type if fmt else None
        return Outcome(None, fmt or None, media, size, source, source_format, data, spent, 1 if fmt else 0)


def _check_held(raster: Raster, fmt: str) -> None:
    """Raise :class:`LimitExceeded` for a result that is too large for a format that is encoded from memory."""
    most = Limits().max_pixels
    if raster.size.pixels > most:
        raise LimitExceeded(
            f"The result has {raster.size.width:,}×{raster.size.height:,} pixels, more than {fmt} is written of "
            f"({most:,}). End the pipeline in format:tiff, which is written in tiles.",
            limit="pixels",
            value=raster.size.pixels,
            maximum=most,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
