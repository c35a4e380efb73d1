"""The grid of a writer: which units a region is made of, and whether all of them have come. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Iterator

from pixelmill.errors import NotApplicable, RunError
from pixelmill.images.image import Size
from pixelmill.images.regions import Region

MAX_UNITS = 8_000_000
"""Tiles of a picture: 128 MB of places. A million rows, one a strip, are below, and 1,000,000 pixels a side in 512."""


class Grid:
    """The units of a picture, numbered row by row."""

    def __init__(self, size: Size, unit: Size) -> None:
        self.size, self.unit = size, unit
        self.across, self.down = -(-size.width // unit.width), -(-size.height // unit.height)

    def __len__(self) -> int:
        return self.across * self.down

    def place(self, number: int) -> Region:
        """The region of a unit, cut at the picture's edges."""
        row, column = divmod(number, self.across)
        left, top = column * self.unit.width, row * self.unit.height
        return Region(
            left, top, min(self.unit.width, self.size.width - left), min(self.unit.height, self.size.height - top)
        )

    def units(self, region: Region) -> Iterator[tuple[int, Region]]:
        """Number and region of each unit in a region; raises :class:`ValueError` for one that cuts units."""
        for start, end, step, most in (
            (region.left, region.right, self.unit.width, self.size.width),
            (region.top, region.bottom, self.unit.height, self.size.height),
        ):
            if start % step or not start < end <= most or (end % step and end != most):
                raise ValueError(f"{region} does not lie along the grid of {self.unit} in a picture of {self.size}")
        for row in range(region.top // self.unit.height, -(-region.bottom // self.unit.height)):
            for column in range(region.left // self.unit.width, -(-region.right // self.unit.width)):
                number = row * self.across + column
                yield number, self.place(number)


def check_count(grid: Grid) -> None:
    """Raise :class:`NotApplicable` for more units than readers take."""
    if len(grid) > MAX_UNITS:
        raise NotApplicable(
            f"The result would have {len(grid):,} tiles; the limit is {MAX_UNITS:,}. Use larger tiles.",
            operation="format",
            parameter="tile",
            maximum=MAX_UNITS,
        )


def check_whole(written: int, wanted: int) -> None:
    """Raise :class:`RunError` unless all pixels (or units) of a result were written, once."""
    if written != wanted:
        raise RunError(f"The result is not whole: {written:,} of {wanted:,} parts of it were written. Run it again.")
