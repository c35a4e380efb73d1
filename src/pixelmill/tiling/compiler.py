"""Passes to sweeps: what is fused, where the chain is cut, and which size tiles have. Pure.

Maps in a row are fused, with their halos added up, and cut apart where more than ``MOST_TWICE`` would be computed
twice. A survey is looked at behind the maps before it, in the same sweep; its finish begins the next one, which gets
the pixels again: computed anew, or from a store, whichever takes less time. An analysis is looked at in passing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from pixelmill.images.image import Size
from pixelmill.images.regions import Raster
from pixelmill.operations.passes import Form, Map, Move, Pass, Survey
from pixelmill.tiling.grid import ALIGNMENT, Grid, share, up, whole_units
from pixelmill.tiling.program import (
    SCRATCH_NS,
    Open,
    Part,
    Program,
    Seen,
    StoreSpec,
    after,
    form_bytes,
    middle,
    pixel_bytes,
)
from pixelmill.tiling.stage import SOURCE, Link, Stage, works

MOST_TWICE = 0.15
"""Share of a sweep that may be computed twice before the chain is cut."""
SIZES = (
    Size(512, 512),
    Size(1024, 512),
    Size(2048, 512),
    Size(2048, 1024),
    Size(4096, 1024),
    Size(4096, 2048),
    Size(4096, 4096),
)
"""Tiles that are tried. Wide ones waste less on the alignment in x."""
LITTLE = 1.05
"""How much longer a run with smaller tiles may take, which need less memory and keep all workers busy."""
SPREAD = 3
"""A tile may need so many times its own pixels of the input, before it is made smaller."""
LEAST = Size(ALIGNMENT, 16)
ANY = Size(1, 1)
EVERYWHERE = 1 << 30
"""A side that is as long as any image."""
READ_NS, BAND_NS = 1.0, 12.0
"""Nanoseconds to read a byte of the source: of one that is read anywhere, and of one that only decodes from the top."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a program must fit.

    ``unit`` is that of the writer; ``tile`` forces square tiles of about that many pixels a side; ``memory`` is what
    may be used, ``caches`` what reader and writer hold of it, ``in_memory`` what stores may. ``bands``: the source is
    read from top to bottom only, so that tiles are as wide as it is.
    """

    workers: int = 1
    unit: Size = ANY
    tile: int | None = None
    memory: int = 1_000_000_000
    caches: int = 0
    in_memory: int = 64_000_000
    bands: bool = False
    unit_of: Callable[[Raster], Size] | None = None
    """The unit of a writer of pixels of that form, where it depends on it; in place of ``unit``."""

    image: bool = True
    """False: data alone are wanted."""

    def unit_for(self, form: Form) -> Size:
        """Of a writer of pixels of that form. Whole rows and columns are so whatever the size becomes."""
        unit = self.unit
        if self.unit_of is not None:
            unit = self.unit_of(Raster(form.size, form.channels, form.dtype))
        return Size(*(EVERYWHERE if one >= side else one for one, side in zip(unit, form.size, strict=True)))

    def peak(self, program: Program) -> int:
        """Of its memory."""
        return program.memory(self.in_memory, self.caches)


def compiled(source: Raster, parts: Sequence[Part], wishes: Wishes) -> Program:
    """The program that needs the least memory of those that fit it and take little longer than the fastest.

    Where none fits, that with the least memory.
    """
    sizes = SIZES if wishes.tile is None else (Size(wishes.tile, wishes.tile),)
    programs = [_Compiler(source, wishes, size).program(parts) for size in sizes]

    def peak(program: Program) -> int:
        return wishes.peak(likely(program))

    fitting = [program for program in programs if peak(program) <= wishes.memory]
    if fitting:
        least = min(likely(program).seconds for program in fitting)
        return min((item for item in fitting if likely(item).seconds <= least * LITTLE), key=peak)
    return min(programs, key=peak)


def likely(program: Program) -> Program:
    """What to plan with."""
    return program.expected or program


class _Due(NamedTuple):
    """What is still to be added: of a part whose passes are known already, these; else all of it."""

    part: Part
    passes: Sequence[Pass] | None


class _Compiler:
    """Grows the links of one sweep, and closes it where another must begin."""

    def __init__(self, source: Raster, wishes: Wishes, tile: Size) -> None:
        self._source, self._wishes, self._tile = source, wishes, tile
        self._read_ns = BAND_NS if wishes.bands else READ_NS
        self._start, self._raster = SOURCE, source
        self._links: list[Link] = []
        self._stages: list[Stage] = []
        self._seen: list[Seen] = []
        self._stores: list[StoreSpec] = []

    def program(self, parts: Sequence[Part]) -> Program:
        """All of it."""
        return self.grown([_Due(part, None) for part in parts])

    def grown(self, due: list[_Due]) -> Program:
        """With what is due added behind what is there."""
        while due:
            part, passes = due.pop(0)
            waiting = list(part.passes(self._form) if passes is None else passes)
            while waiting:
                link = _link(part, waiting.pop(0), self._form)
                survey = link.action
                if isinstance(survey, Survey) and survey.then is not None:
                    return self._open(link, survey, [_Due(part, waiting), *due])
                self._add(link)
        return self._ended()

    def _add(self, link: Link) -> None:
        if link.role == "map":
            self._map(link)
        elif link.role == "move":
            self._move(link)
        else:
            self._survey(link)

    def _open(self, link: Link, survey: Survey, rest: list[_Due]) -> Program:
        """The program as far as it is known, and how it goes on."""
        assert survey.then is not None
        then, part = survey.then, rest[0].part
        self._survey(link)
        self._after_look()
        number = len(self._seen) - 1

        def continued(passes: Sequence[Pass]) -> Program:
            return self._copy().grown([_Due(part, passes), *rest])

        expected = continued(survey.expected)
        return replace(
            self._program_of(None),
            open=Open(number, lambda concluded: continued(then(concluded))),
            expected=expected.expected or expected,
        )

    def _copy(self) -> _Compiler:
        other = _Compiler(self._source, self._wishes, self._tile)
        other._start, other._raster, other._links = self._start, self._raster, list(self._links)
        other._stages, other._seen, other._stores = list(self._stages), list(self._seen), list(self._stores)
        return other

    def _ended(self) -> Program:
        result = None
        if self._wishes.image:
            form = self._form
            result = Raster(form.size, form.channels, form.dtype)
            self._last()
        elif any(link.role == "look" for link in self._links):
            self._close()
        return self._program_of(result)

    def _program_of(self, result: Raster | None) -> Program:
        return Program(
            self._source,
            tuple(self._stages),
            tuple(self._seen),
            tuple(self._stores),
            result,
            self._wishes.workers,
            self._read_ns,
        )

    @property
    def _form(self) -> Form:
        if self._links:
            return self._links[-1].after
        return Form(self._raster.size, self._raster.channels, self._raster.dtype)

    @property
    def _finished(self) -> Form:
        """What the last link gives, or its finish will: that is cut into the same tiles."""
        last = self._links[-1] if self._links else None
        return after(last.before, last.action) if last is not None and last.role == "look" else self._form

    # -- passes -----------------------------------------------------------------------------------

    def _map(self, link: Link) -> None:
        self._make_room(link)
        self._links.append(link)

    def _make_room(self, link: Link) -> None:
        """Cut the chain where the halo of one more link makes too much of it twice, or what is there has none."""
        halo, larger = self._halo(self._links), self._halo([*self._links, link])
        if larger > halo and any(item.by_tile for item in self._links):
            self._cut(len(self._links))
        elif halo and larger > halo and share(self._tile, larger) > MOST_TWICE:
            self._cut(self._cheapest_cut())

    def _move(self, link: Link) -> None:
        if any(item.role == "look" for item in self._links):
            self._after_look()
        by_tile = any(item.by_tile for item in self._links)
        if self._links and (by_tile or self._spread(link) > MOST_TWICE):
            self._cut(len(self._links))
        self._links.append(link)

    def _survey(self, link: Link) -> None:
        survey = link.action
        assert isinstance(survey, Survey)
        self._make_room(link)
        link = replace(link, survey=len(self._seen))
        self._seen.append(Seen(link.step, link.operation, survey, Grid.of(link.before.size, self._tile)))
        self._links.append(replace(link, after=link.before))
        if not survey.images or survey.then is not None:
            return
        finish = replace(link, role="finish")
        if survey.keeps is None:
            self._after_look()
        else:
            kept = Raster(link.before.size, 1, survey.keeps)
            store = self._new_store(kept)
            self._close(keeps=((link.survey, store),))
            self._begin(store, kept, [])
            finish = replace(finish, before=Form(kept.size, 1, kept.dtype))
        self._links.append(finish)

    # -- sweeps -----------------------------------------------------------------------------------

    def _after_look(self) -> None:
        """End the sweep here; the next one gets the same pixels, computed again or stored, whichever is quicker."""
        again = [link for link in self._links if link.role != "look"]
        form = self._form
        bytes_read = pixel_bytes(self._raster) * self._raster.size.pixels
        read = bytes_read * (self._read_ns if self._start == SOURCE else SCRATCH_NS / 2)
        compute = sum(link.before.size.pixels * link.before.channels * link.action.ns_per_pixel for link in again) * (
            1 + share(self._tile, self._halo(again))
        )
        if read + compute <= form.size.pixels * form_bytes(form) * SCRATCH_NS * 1.5:
            start, raster = self._start, self._raster
            self._close()
            self._begin(start, raster, again)
        else:
            self._cut(len(self._links))

    def _cut(self, at: int) -> None:
        """End the sweep behind ``at`` links with a store, from which the next one reads."""
        rest = self._links[at:]
        del self._links[at:]
        form = self._form
        raster = Raster(form.size, form.channels, form.dtype)
        store = self._new_store(raster)
        self._close(store=store)
        self._begin(store, raster, rest)

    def _cheapest_cut(self) -> int:
        """Behind the last link with a halo, or behind one without that makes pixels of fewer bytes."""
        last = max(index for index, link in enumerate(self._links) if link.halo or link.role == "look")
        return min(range(last + 1, len(self._links) + 1), key=lambda at: form_bytes(self._links[at - 1].after))

    def _begin(self, start: int, raster: Raster, links: list[Link]) -> None:
        self._start, self._raster, self._links = start, raster, links

    def _close(
        self,
        store: int | None = None,
        keeps: tuple[tuple[int, int], ...] = (),
        *,
        writes: bool = False,
    ) -> None:
        grid = self._grid()
        number = len(self._stages)
        self._stages.append(Stage(number, self._start, self._raster, tuple(self._links), grid, store, keeps, writes))
        if self._start != SOURCE:
            self._stores[self._start] = replace(self._stores[self._start], last=number)
        for made in (*([] if store is None else [store]), *(kept for _, kept in keeps)):
            self._stores[made] = replace(self._stores[made], tile=grid.tile, last=number)
        for link in self._links:
            if link.role == "look":
                self._seen[link.survey] = replace(self._seen[link.survey], grid=grid)

    def _last(self) -> None:
        """The sweep that writes. Where whole units of the writer would need too much of the input, it only copies."""
        unit, grid = self._wishes.unit_for(self._form), self._grid()
        in_units = all(
            tile % step == 0 or tile == side for tile, step, side in zip(grid.tile, unit, grid.size, strict=True)
        )
        if not in_units:
            self._cut(len(self._links))
        self._close(writes=True)

    # -- tiles ------------------------------------------------------------------------------------

    def _new_store(self, raster: Raster) -> int:
        self._stores.append(StoreSpec(raster, self._tile, len(self._stages)))
        return len(self._stores) - 1

    def _grid(self) -> Grid:
        """Tiles for the links at hand: those of a finish by tile; else whole units of the writer.

        Where they would need too much of the input they are smaller, down to less than units.
        """
        for link in self._links:
            if link.by_tile:
                return self._seen[link.survey].grid
        size, tile, unit = self._form.size, self._tile, self._wishes.unit_for(self._finished)
        if self._wishes.bands and self._start == SOURCE and self._wishes.tile is None:
            tile = Size(size.width, max(16, self._tile.pixels // max(1, size.width)))
        grid = self._whole(size, tile, unit)
        while self._spread_of(grid) > SPREAD and _smaller(tile) != tile:
            tile = _smaller(tile)
            larger, grid = grid, self._whole(size, tile, unit)
            if grid == larger:
                unit = ANY
        return grid

    def _whole(self, size: Size, tile: Size, unit: Size) -> Grid:
        width = whole_units(tile.width, unit.width, size.width, aligned=True)
        if width == size.width and self._wishes.tile is None:  # as many pixels as the tile has, in rows
            tile = Size(width, min(4 * tile.height, max(tile.height, tile.pixels // width)))
        return Grid.of(size, Size(width, whole_units(tile.height, unit.height, size.height, aligned=False)))

    def _halo(self, links: Sequence[Link]) -> int:
        """Of the run that they end in."""
        runs = works(tuple(links), self._raster.size)
        return 0 if not runs or isinstance(runs[-1], Link) else runs[-1].halo

    def _spread(self, move: Link) -> float:
        """How much more of the input than its share a tile of the output needs."""
        assert isinstance(move.action, Move)
        core = middle(Grid.of(move.after.size, self._tile))
        ratio = move.before.size.pixels / move.after.size.pixels
        return move.action.source(core).pixels / (core.pixels * max(1.0, ratio)) - 1

    def _spread_of(self, grid: Grid) -> float:
        """Pixels that a tile of this grid needs at most, over those of a tile as it was wanted."""
        stage = Stage(0, self._start, self._raster, tuple(self._links), grid)
        core = middle(grid)
        steps, _ = stage.trace(core)
        largest = max((step.given.pixels for step in steps), default=core.pixels)
        return largest / max(self._tile.pixels, 1 << 20)


def _smaller(tile: Size) -> Size:
    """Half of it, as far as tiles go down."""
    if tile.height > max(LEAST.height, tile.width // 4):
        return Size(tile.width, max(LEAST.height, tile.height // 2))
    if tile.width > LEAST.width:
        return Size(max(LEAST.width, up(tile.width // 2, ALIGNMENT)), tile.height)
    return Size(tile.width, max(1, tile.height // 2))


def _link(part: Part, action: Pass, form: Form) -> Link:
    """A pass with the form that arrives there; a survey as its look."""
    return Link(_role(action), part.step, part.operation, action, form, after(form, action))


def _role(action: Pass) -> Literal["map", "look", "move"]:
    return "map" if isinstance(action, Map) else "move" if isinstance(action, Move) else "look"
