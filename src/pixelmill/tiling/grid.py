"""Arithmetic of tiles: which pixels belong to which tile, and how far a tile with its halo reaches. No pixels, no I/O.

Two rules make tiles exact (docs/decisions/2026-11-28-tiles.md). An extended tile is clipped at the image, so that
borders are padded only where the image really ends. And it begins at a multiple of ``ALIGNMENT`` columns, and reaches
so far to the right that what is needed of it lies in whole multiples: there the vector loops of OpenCV do what they do
on the whole image, and their tails, which may round in another way, fall where nothing is taken from.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.operations.passes import Place

ALIGNMENT = 64
"""Columns; the widest vectors have 64 bytes."""


def down(value: int, step: int) -> int:
    """The largest multiple of ``step`` up to ``value``."""
    return value // step * step


def up(value: int, step: int) -> int:
    """The smallest multiple of ``step`` from ``value`` on."""
    return -(-value // step) * step


def extended(core: Region, size: Size, halo: int, inner: int = 0) -> Region:
    """``core`` with ``halo`` pixels on each side, clipped at an image of ``size``, and aligned in x.

    ``inner``: how far beyond ``core`` the result of the first of several passes over it is still needed.
    """
    left = down(max(0, core.left - halo), ALIGNMENT)
    right = min(size.width, max(core.right + halo, up(core.right + inner, ALIGNMENT)))
    top, bottom = max(0, core.top - halo), min(size.height, core.bottom + halo)
    return Region(left, top, right - left, bottom - top)


@dataclass(frozen=True, slots=True)
class Grid:
    """An image of ``size`` cut into tiles of ``tile``, row by row from the upper left; those at the ends are smaller.

    Every pixel lies in exactly one tile. A tile's width is a multiple of ``ALIGNMENT``, or that of the image or more.
    """

    size: Size
    tile: Size

    def __post_init__(self) -> None:
        if min(*self.size, *self.tile) < 1:
            raise ValueError(f"neither images nor tiles are empty: {self.size}, {self.tile}")
        if self.tile.width % ALIGNMENT and self.tile.width < self.size.width:
            raise ValueError(f"tiles are a multiple of {ALIGNMENT} pixels wide, not {self.tile.width}")

    @classmethod
    def of(cls, size: Size, tile: Size) -> Grid:
        """With a width that is allowed: rounded up, and neither side longer than the image's."""
        width = size.width if tile.width >= size.width else min(size.width, up(tile.width, ALIGNMENT))
        return cls(size, Size(width, min(size.height, tile.height)))

    @property
    def columns(self) -> int:
        """Tiles in a row."""
        return -(-self.size.width // self.tile.width)

    @property
    def rows(self) -> int:
        """Rows of tiles."""
        return -(-self.size.height // self.tile.height)

    @property
    def tiles(self) -> int:
        """All of them."""
        return self.columns * self.rows

    def core(self, number: int) -> Region:
        """The pixels of a tile."""
        if not 0 <= number < self.tiles:
            raise IndexError(f"there are {self.tiles} tiles, and none of number {number}")
        row, column = divmod(number, self.columns)
        return self._cell(row, column)

    def _cell(self, row: int, column: int) -> Region:
        left, top = column * self.tile.width, row * self.tile.height
        width, height = min(self.tile.width, self.size.width - left), min(self.tile.height, self.size.height - top)
        return Region(left, top, width, height)

    def place(self, number: int, halo: int = 0, inner: int = 0) -> Place:
        """Where a tile lies, with the halo around it."""
        core = self.core(number)
        return Place(self.size, core, extended(core, self.size, halo, inner), number, self.columns)

    def parts(self, region: Region) -> Iterator[tuple[int, Region]]:
        """The tiles that ``region`` touches, and what of it lies in each; together they are all of it."""
        for row in range(region.top // self.tile.height, -(-region.bottom // self.tile.height)):
            for column in range(region.left // self.tile.width, -(-region.right // self.tile.width)):
                cell = self._cell(row, column)
                left, top = max(cell.left, region.left), max(cell.top, region.top)
                right, bottom = min(cell.right, region.right), min(cell.bottom, region.bottom)
                yield row * self.columns + column, Region(left, top, right - left, bottom - top)

    def bands(self, count: int) -> tuple[range, ...]:
        """The tiles in ``count`` bands of whole rows, as equal as rows allow; with few rows some bands are empty."""
        edges = [self.rows * index // count * self.columns for index in range(count + 1)]
        return tuple(range(first, last) for first, last in itertools.pairwise(edges))


def share(tile: Size, halo: int) -> float:
    """How much is computed twice for tiles with that halo: (1 + 2H/T)² - 1, of 1."""
    return (1 + 2 * halo / tile.width) * (1 + 2 * halo / tile.height) - 1


def whole_units(least: int, unit: int, length: int, *, aligned: bool) -> int:
    """The shortest side of a tile from ``least`` on that is whole units and, where ``aligned``, allowed in x."""
    step = math.lcm(unit, ALIGNMENT) if aligned else unit
    return min(length, up(max(1, least), step))
