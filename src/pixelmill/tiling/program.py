"""A pipeline over tiles, as data: its sweeps, the stores between them, and what it takes of memory, disk and time.

``images/`` and ``operations/`` are known here only as forms of pixels and passes. Compiled by ``compiler.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pixelmill.images.image import Size
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Form, Move, Pass, Survey
from pixelmill.tiling.grid import Grid
from pixelmill.tiling.stage import SOURCE, Link, Stage

BASE_BYTES = 82_000_000
"""Resident bytes of a process with OpenCV and the codecs (measured 74 MB), and of its threads and writer."""
SEAM_BYTES = 6
"""What a look tells where looks are held: labels along the border of its tile, for each pixel of that about."""
JOINED = 4
"""How often that is in memory when all of it is joined."""
SCRATCH_NS = 1.0
"""Nanoseconds to write a byte to a store and to read it again, halos included (measured 0.7 to 0.9)."""
TILE_NS = 500_000.0
"""Nanoseconds that a tile takes beside its pixels: reads, calls, passing it on (measured: 0.5 ms of 1024×512)."""
AHEAD = 1
"""Tiles that are read or written while ``workers`` others are computed."""


class Part(NamedTuple):
    """What one operation of a pipeline gives to a program. ``passes``: its tiled form for pixels of a form."""

    step: int
    operation: str
    passes: Callable[[Form], Sequence[Pass]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A survey of the program: whose it is, and the grid that it is looked at with."""

    step: int
    operation: str
    survey: Survey
    grid: Grid


@dataclass(frozen=True, slots=True)
class StoreSpec:
    """Pixels between two sweeps: their form, the tiles that they are written in, and the last sweep that reads them."""

    raster: Raster
    tile: Size
    last: int


@dataclass(frozen=True, slots=True)
class Open:
    """What is not known before a survey has concluded: the passes that come then.

    ``continued`` gives the program with what was concluded: the same sweeps, stores and surveys, and more behind them.
    """

    survey: int
    continued: Callable[[Any], Program]


@dataclass(frozen=True, slots=True)
class Program:
    """Sweeps in order. Its last one writes the result, where there is one: ``result`` is the form of that.

    Where the way on depends on what is found, the program ends ``open`` behind the look; ``expected`` is then the whole
    program as it is likely to become, with the most that it may cost, for plans.
    """

    source: Raster
    stages: tuple[Stage, ...]
    surveys: tuple[Seen, ...]
    stores: tuple[StoreSpec, ...]
    result: Raster | None
    workers: int
    read_ns: float
    open: Open | None = None
    expected: Program | None = None

    @property
    def lanes(self) -> int:
        """Threads that read, compute and write; ``workers`` of them compute at a time."""
        return self.workers + AHEAD

    @property
    def scratch_bytes(self) -> int:
        """The most that stores hold at a time, in memory and on disk together."""
        return max((self._stores_during(stage.number) for stage in self.stages), default=0)

    def _stores_during(self, number: int) -> int:
        written = {store: stage.number for stage in self.stages for store in _written(stage)}
        return sum(spec.raster.bytes for index, spec in enumerate(self.stores) if written[index] <= number <= spec.last)

    def recomputed(self, stage: Stage) -> float:
        """How much of a sweep's input is computed more than once, of 1: of a tile inside of the image."""
        steps, _ = stage.trace(middle(stage.grid))
        worst = 0.0
        for step in steps:
            if isinstance(step.work, Link) and step.work.role == "move":
                ratio = step.work.before.size.pixels / step.work.after.size.pixels
                worst = max(worst, step.given.pixels / (step.core.pixels * ratio) - 1)
            else:
                worst = max(worst, step.given.pixels / step.core.pixels - 1)
        return worst

    @property
    def seconds(self) -> float:
        """Of all sweeps on idle cores, beside writing: reading, passes on extended tiles, and stores.

        The workers are busy as far as there are tiles for all of them.
        """
        total = 0.0
        for stage in self.stages:
            rounds = -(-stage.grid.tiles // self.workers)
            total += self._stage_ns(stage) * rounds / stage.grid.tiles
        return total * 1e-9

    def _stage_ns(self, stage: Stage) -> float:
        core = middle(stage.grid)
        steps, wanted = stage.trace(core)
        total = wanted.pixels * pixel_bytes(stage.raster) * (self.read_ns if stage.start == SOURCE else SCRATCH_NS / 2)
        for step in steps:
            links = (step.work,) if isinstance(step.work, Link) else step.work.links
            for link in links:
                pixels = step.given.pixels if link.role != "move" else max(step.given.pixels, step.core.pixels)
                total += pixels * link.before.channels * link.action.ns_per_pixel * (0.5 if _half(link) else 1.0)
        if stage.store is not None:
            total += core.pixels * form_bytes(stage.form) * SCRATCH_NS / 2
        return total * stage.grid.size.pixels / core.pixels + TILE_NS * stage.grid.tiles

    def memory(self, in_memory: int, caches: int) -> int:
        """Predicted resident bytes at the peak.

        ``in_memory`` is the bound of stores in memory; ``caches`` what reader and writer hold.
        """
        kept = min(self.scratch_bytes, in_memory)
        return BASE_BYTES + caches + kept + max((self.stage_bytes(stage) for stage in self.stages), default=0)

    def stage_bytes(self, stage: Stage) -> int:
        """Tiles in work and between, of one sweep."""
        core = middle(stage.grid)
        steps, wanted = stage.trace(core)
        read = wanted.pixels * pixel_bytes(stage.raster)
        peak = float(read)
        for step in steps:
            links = (step.work,) if isinstance(step.work, Link) else step.work.links
            for link in links:
                given = step.given.pixels * form_bytes(link.before)
                peak = max(peak, given * (1 + link.action.memory_factor))
                if isinstance(link.action, Move):
                    peak = max(peak, given + 2 * step.core.pixels * form_bytes(link.after))
        out = core.pixels * form_bytes(stage.form)
        told = SEAM_BYTES * 2 * sum(stage.grid.tile) * stage.grid.tiles * sum(map(_held, stage.looks))
        work = self.workers * peak + AHEAD * max(read, out) + out * bool(stage.writes)
        return int(max(work + told, JOINED * told))


def _half(link: Link) -> bool:
    """A survey's cost is that of both of its sweeps."""
    return link.role in ("look", "finish")


def _held(link: Link) -> bool:
    return isinstance(link.action, Survey) and link.action.join is None


def middle(grid: Grid) -> Region:
    """A whole tile in the middle of the image, which has a halo on all sides where there are three of them."""
    return grid.core((grid.rows - 1) // 2 * grid.columns + (grid.columns - 1) // 2)


def _written(stage: Stage) -> tuple[int, ...]:
    own = () if stage.store is None else (stage.store,)
    return (*own, *(store for _, store in stage.keeps))


def form_bytes(form: Form) -> int:
    """Of a pixel."""
    return form.channels * form.dtype.itemsize


def pixel_bytes(raster: Raster) -> int:
    """Of a pixel."""
    return raster.channels * raster.dtype.itemsize


def after(form: Form, action: Pass) -> Form:
    """What comes out of a pass."""
    if isinstance(action, Survey) and not action.images:
        return form
    size = action.size if isinstance(action, Move) else form.size
    dtype = form.dtype if action.dtype is None else np.dtype(action.dtype)
    return Form(size, action.channels or form.channels, dtype)
