"""What one sweep over an image does: where its pixels come from, the passes over each tile, and what becomes of it.

Pure data with the arithmetic of regions: which pixels a tile needs, from the end of the sweep back to its start.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

from pixelmill.images.image import Size
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Form, Map, Move, Survey
from pixelmill.tiling.grid import Grid, extended

SOURCE = -1
"""Where a sweep begins: the reader of the source, else the number of a store."""


@dataclass(frozen=True, slots=True)
class Link:
    """One pass in a sweep, or half of one (a survey is looked at in one sweep, and finished in a later one).

    ``step`` and ``operation`` name who wanted it; ``survey`` is the number of the survey within the program.
    """

    role: Literal["map", "look", "finish", "move"]
    step: int
    operation: str
    action: Map | Survey | Move
    before: Form
    after: Form
    survey: int = -1

    @property
    def halo(self) -> int:
        """How far its result looks."""
        return self.action.halo if isinstance(self.action, Map) else 0

    @property
    def by_tile(self) -> bool:
        """A finish of the tiles that were looked at."""
        return self.role == "finish" and isinstance(self.action, Survey) and self.action.by_tile

    @property
    def name(self) -> str:
        """For people: the pass's own, and which half of it."""
        return f"{self.action.name} ({self.role})" if self.role in ("look", "finish") else self.action.name


@dataclass(frozen=True, slots=True)
class Run:
    """Links without a change of geometry between them; all of them work on one extended tile of an image of ``size``.

    ``halo``: how far beyond the core its first link must see; ``inner``: how far its result is still needed.
    """

    size: Size
    links: tuple[Link, ...]
    halo: int
    inner: int


class Step(NamedTuple):
    """What is done at one tile: it gets the pixels of ``given``, and its result is right in ``core``."""

    work: Run | Link
    core: Region
    given: Region


@dataclass(frozen=True)  # no slots: the runs are worked out once
class Stage:
    """One sweep. ``start`` is where pixels come from, of the form ``raster``; the grid is that of the image at its end.

    ``store``: the number of the store that keeps the image at its end, None: none does. ``keeps``: for a survey that is
    looked at and keeps something, the store of that. ``writes``: the image at its end is the result.
    """

    number: int
    start: int
    raster: Raster
    links: tuple[Link, ...]
    grid: Grid
    store: int | None = None
    keeps: tuple[tuple[int, int], ...] = ()
    writes: bool = False

    @property
    def name(self) -> str:
        """For people: what is done in it."""
        return " + ".join(link.name for link in self.links) or "copy"

    @property
    def looks(self) -> tuple[Link, ...]:
        """The surveys that are looked at."""
        return tuple(link for link in self.links if link.role == "look")

    @property
    def form(self) -> Form:
        """What comes out."""
        raster = self.raster
        return self.links[-1].after if self.links else Form(raster.size, raster.channels, raster.dtype)

    @cached_property
    def works(self) -> tuple[Run | Link, ...]:
        """Runs, with what stands between them."""
        return works(self.links, self.raster.size)

    def trace(self, core: Region) -> tuple[list[Step], Region]:
        """What is done for ``core`` of the image at its end, in order, and the region that is read at the start."""
        steps: list[Step] = []
        for work in reversed(self.works):
            if isinstance(work, Run):
                given = extended(core, work.size, work.halo, work.inner)
            elif isinstance(work.action, Move):
                given = work.action.source(core)
            else:
                given = core
            steps.append(Step(work, core, given))
            core = given
        return steps[::-1], core

    @property
    def halo(self) -> int:
        """The largest of its runs."""
        return max((work.halo for work in self.works if isinstance(work, Run)), default=0)


def works(links: tuple[Link, ...], size: Size) -> tuple[Run | Link, ...]:
    """Links as runs, with moves and finishes by tile between them, for an image of ``size`` at the start."""
    done: list[Run | Link] = []
    waiting: list[Link] = []
    for link in links:
        if link.role == "move" or link.by_tile:
            if waiting:
                done.append(_run(size, tuple(waiting)))
            waiting, size = [], link.after.size
            done.append(link)
        else:
            waiting.append(link)
    if waiting:
        done.append(_run(size, tuple(waiting)))
    return tuple(done)


def _run(size: Size, links: tuple[Link, ...]) -> Run:
    need = inner = 0
    for link in reversed(links):
        inner = need  # at the end of the loop: behind the first link
        need = (
            max(need, link.action.halo)
            if isinstance(link.action, Survey) and link.role == "look"
            else need + (link.halo)
        )
    return Run(size, links, need, inner)
