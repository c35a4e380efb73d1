"""Runs a program in this process: lanes read, compute and write tiles, sweep by sweep, and surveys conclude between."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from pixelmill.images.regions import Raster, RegionReader, RegionWriter
from pixelmill.operations.failing import translated
from pixelmill.operations.passes import Array, Look, Place
from pixelmill.operations.plain_opencv import one_thread
from pixelmill.tiling.bands import Bands
from pixelmill.tiling.lanes import Lanes
from pixelmill.tiling.ordered import Ordered
from pixelmill.tiling.program import AHEAD, Program
from pixelmill.tiling.progress import Progress, TileLog, Told
from pixelmill.tiling.scratch import Scratch, Store
from pixelmill.tiling.stage import SOURCE, Stage
from pixelmill.tiling.sweep import Done, Sweep


class Found(NamedTuple):
    """What an operation found, and which step of the pipeline it is."""

    step: int
    operation: str
    data: dict[str, Any]


def run_tiled(
    program: Program,
    reader: RegionReader,
    writer: RegionWriter | Callable[[Raster], RegionWriter] | None,
    *,
    workers: int | None = None,
    scratch: Scratch | None = None,
    progress: Told | None = None,
    stop: Callable[[], bool] | None = None,
    done: TileLog | None = None,
) -> tuple[Found, ...]:
    """Run all sweeps, finish the writer, and give what surveys found, in their order.

    The reader stays open. Whatever ends the run early aborts the writer, so that there is no result, unless ``done`` is
    given: then what is written stays for the run that goes on.

    Args:
        program: what to do; its result has the form that the writer was made for.
        reader: of the form that the program was compiled for.
        writer: one, or what makes one for a result once its form is known (see ``Program.open``); None where only data
            are wanted.
        workers: tiles that are computed at a time; None: as the program was compiled for.
        scratch: makes the stores between sweeps; None: in the folder for temporary files.
        progress: called by this thread, a few times a second at most and at the end of each sweep.
        stop: asked several times a second; True ends the run.
        done: tiles of the result that are written already, and are left out.

    Raises:
        Cancelled: it was stopped.
        InputError, StorageError, PipelineError, RunError: of the first tile that failed.
    """
    run = Run(program, reader, writer, done, progress)
    run.to_the_end(Lanes(workers or program.workers, AHEAD, stop), scratch)
    return run.found()


@dataclass(slots=True)
class Run:
    """What is known between sweeps."""

    program: Program
    reader: RegionReader
    made: RegionWriter | Callable[[Raster], RegionWriter] | None
    log: TileLog | None
    progress: Told | None
    scratch: Scratch = field(init=False)
    stores: dict[int, Store] = field(default_factory=dict)
    conclusions: dict[int, Any] = field(default_factory=dict)
    data: dict[int, dict[str, Any]] = field(default_factory=dict)
    read: int = 0
    written: int = 0
    writer: RegionWriter | None = None

    def __post_init__(self) -> None:
        if not callable(self.made):
            self.writer = self.made

    def to_the_end(self, lanes: Lanes, scratch: Scratch | None) -> None:
        """Every sweep, and finish the writer; what ends it early aborts that, unless a log keeps what is written.

        ``scratch`` None: one of its own, which ends with the run.
        """
        own = Scratch() if scratch is None else nullcontext(scratch)
        try:
            with own as self.scratch, one_thread():
                try:
                    self.all(lanes)
                finally:
                    self.close_stores()
            if self.writer is not None:
                self.writer.finish()
        except BaseException:
            if self.writer is not None and self.log is None:
                self.writer.abort()
            raise

    def all(self, lanes: Lanes) -> None:
        """Every sweep; what a program leaves open is decided by what it found."""
        number = 0
        while True:
            for stage in self.program.stages[number:]:
                self.stage(stage, lanes)
                number += 1
            opened = self.program.open
            if opened is None:
                return
            seen = self.program.surveys[opened.survey]
            with translated(seen.step, seen.operation, seen.grid.size):
                self.program = opened.continued(self.conclusions[opened.survey])

    def found(self) -> tuple[Found, ...]:
        """The data of surveys that found something."""
        surveys = enumerate(self.program.surveys)
        return tuple(Found(seen.step, seen.operation, self.data[n]) for n, seen in surveys if n in self.data)

    def stage(self, stage: Stage, lanes: Lanes) -> None:
        """One sweep, and the conclusions at its end."""
        if stage.writes and callable(self.made):
            assert self.program.result is not None
            self.writer = self.made(self.program.result)
        for number in _made(stage):
            self.stores[number] = self.made_store(number, stage)
        self.begin(stage)
        tellings = {link.survey: Tellings(self.program, link.survey, stage.grid.tiles) for link in stage.looks}
        work = TileWork(self, stage, Sweep(self.program, stage, self.conclusions), tellings)
        lanes.run(work, work.numbers, lambda done: self._tell(work, done))
        for link in stage.looks:
            with translated(link.step, link.operation, link.before.size):
                survey = self.program.surveys[link.survey].survey
                self.conclusions[link.survey] = concluded = self.concluded(link.survey, tellings[link.survey])
                found = survey.data(concluded) if survey.data is not None else None
            if found is not None:
                self.data[link.survey] = found
        for number, spec in enumerate(self.program.stores):
            if spec.last <= stage.number and number in self.stores and self._is_over(number):
                self.scratch.give_back(self.stores.pop(number))

    def numbers(self, stage: Stage) -> Sequence[int]:
        """The tiles of a sweep that this process works on."""
        return range(stage.grid.tiles)

    def made_store(self, number: int, stage: Stage) -> Store:
        """The store that a sweep is about to write."""
        del stage
        spec = self.program.stores[number]
        return self.scratch.make(spec.raster, spec.tile)

    def begin(self, stage: Stage) -> None:
        """Get what the sweep reads from a store, where that isn't here."""

    def concluded(self, survey: int, tellings: Tellings) -> Any:
        """What a survey concludes from all tiles."""
        return self.program.surveys[survey].survey.conclude(tellings.all())

    def _tell(self, work: TileWork, done: int) -> None:
        self.tell(work.stage, done + len(self.numbers(work.stage)) - len(work.numbers))

    def tell(self, stage: Stage, tiles: int) -> None:
        """So many tiles of the sweep are done."""
        if self.progress is not None:
            self.progress(self.progress_of(stage, tiles, self.read, self.written))

    def progress_of(self, stage: Stage, tiles: int, read: int, written: int) -> Progress:
        """How far a run is that has done so many tiles of a sweep."""
        stages = self.program.stages
        pixels = stage.grid.size.pixels * tiles // stage.grid.tiles
        all_pixels = sum(item.grid.size.pixels for item in stages)
        before = sum(item.grid.size.pixels for item in stages[: stage.number])
        return Progress(
            stage=stage.number + 1,
            stages=len(stages),
            name=stage.name,
            tiles=tiles,
            of_tiles=stage.grid.tiles,
            pixels=pixels,
            of_pixels=stage.grid.size.pixels,
            read=read,
            written=written,
            share=(before + pixels) / all_pixels,
            all_pixels=all_pixels,
        )

    def _is_over(self, store: int) -> bool:
        """Whether nothing more is read from it, also not by what a program may become."""
        return (
            self.program.open is None
            or self.program.expected is None
            or (self.program.expected.stores[store].last < len(self.program.stages))
        )

    def close_stores(self) -> None:
        """Give back what an early end has left."""
        while self.stores:
            self.scratch.give_back(self.stores.popitem()[1])


def _made(stage: Stage) -> tuple[int, ...]:
    return (*(() if stage.store is None else (stage.store,)), *(store for _, store in stage.keeps))


class Tellings:
    """What looks have told of one survey: added up where that can be, else held by tile."""

    def __init__(self, program: Program, survey: int, tiles: int) -> None:
        self._join = program.surveys[survey].survey.join
        self._lock = threading.Lock()
        self._held: list[tuple[Place | None, Any] | None] = [None] * (tiles if self._join is None else 0)
        self._sum: list[Any] = []

    def add(self, place: Place | None, told: Any) -> None:
        """Of one tile, or of several whose tellings were joined."""
        if self._join is None:
            assert place is not None
            self._held[place.number] = (place, told)
            return
        with self._lock:
            self._sum = [self._join(self._sum[0], told)] if self._sum else [told]

    def merge(self, parts: Sequence[tuple[Place | None, Any]]) -> None:
        """Take in what was told elsewhere."""
        for place, told in parts:
            self.add(place, told)

    def all(self) -> list[tuple[Place | None, Any]]:
        """For the conclusion."""
        if self._join is not None:
            return [(None, told) for told in self._sum]
        return [item for item in self._held if item is not None]


class TileWork:
    """One sweep's tiles, for lanes: reading, computing, and putting away."""

    def __init__(self, run: Run, stage: Stage, sweep: Sweep, tellings: Mapping[int, Tellings]) -> None:
        self.run, self.stage, self.sweep = run, stage, sweep
        self._tellings = tellings
        self._source: RegionReader | Store | Bands = run.reader if stage.start == SOURCE else run.stores[stage.start]
        if stage.start == SOURCE and run.reader.in_order:
            self._source = Bands(run.reader, held=run.program.lanes + 2)
        self._keeps = {survey: run.stores[store] for survey, store in stage.keeps}
        self._store = None if stage.store is None else run.stores[stage.store]
        self._ordered: Ordered | None = None
        numbers = run.numbers(stage)
        log = run.log if stage.writes and not stage.looks else None  # what is looked at is needed again
        self.numbers = [number for number in numbers if not log.has(number)] if log is not None else list(numbers)
        if stage.writes and run.writer is not None and run.writer.in_order:
            self._ordered = Ordered(run.writer, self.numbers)

    def read(self, number: int) -> Array:
        """The pixels that a tile needs."""
        pixels = self._source.read(self.sweep.wanted(number))
        self.run.read += pixels.nbytes  # of several threads: a count for people
        return pixels

    def compute(self, number: int, given: Array) -> Done:
        """The tile from these."""
        return self.sweep.tile(number, given)

    def put(self, number: int, made: Done) -> None:
        """Everything that a tile gave, to where it belongs."""
        for survey, place, look in made.looks:
            self._tell(survey, place, look)
        if self._store is not None:
            self._store.write(made.core, made.pixels)
        if self.stage.writes and self.run.writer is not None:
            self._write(number, made)

    def _tell(self, survey: int, place: Place, look: Look) -> None:
        if look.kept is not None:
            self._keeps[survey].write(place.core, look.kept)
        self._tellings[survey].add(place, look.told)

    def _write(self, number: int, made: Done) -> None:
        assert self.run.writer is not None
        pixels = np.ascontiguousarray(made.pixels)
        log = self.run.log
        if log is not None and log.has(number):
            return
        if self._ordered is not None:
            self._ordered.write(number, made.core, pixels)
        else:
            self.run.writer.write(made.core, pixels)
        self.run.written += pixels.nbytes
        if log is not None:
            log.add(number)
