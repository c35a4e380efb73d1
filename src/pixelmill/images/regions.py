"""Images that are larger than memory: rectangles of them, and the contracts of what reads and writes these.

Readers and writers of formats live beside this module; runners over tiles know only what is here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size


class Region(NamedTuple):
    """A rectangle of an image, in pixels; ``left`` and ``top`` count from 0."""

    left: int
    top: int
    width: int
    height: int

    @property
    def right(self) -> int:
        """The first column behind it."""
        return self.left + self.width

    @property
    def bottom(self) -> int:
        """The first row below it."""
        return self.top + self.height

    @property
    def pixels(self) -> int:
        """Width times height."""
        return self.width * self.height

    def grown(self, halo: int, size: Size) -> Region:
        """With ``halo`` pixels more on each side, as far as an image of ``size`` reaches."""
        left, top = max(0, self.left - halo), max(0, self.top - halo)
        right, bottom = min(size.width, self.right + halo), min(size.height, self.bottom + halo)
        return Region(left, top, right - left, bottom - top)

    def overlap(self, other: Region) -> Region:
        """What lies in both; of no width or height where nothing does."""
        left, top = max(self.left, other.left), max(self.top, other.top)
        right, bottom = min(self.right, other.right), min(self.bottom, other.bottom)
        return Region(left, top, max(0, right - left), max(0, bottom - top))

    def of(self, pixels: NDArray[Any], place: Region) -> NDArray[Any]:
        """The view of this region in ``pixels``, which are those of ``place``."""
        left, top = self.left - place.left, self.top - place.top
        return pixels[top : top + self.height, left : left + self.width]


@dataclass(frozen=True, slots=True)
class Raster:
    """What pixels of an image are: their number and kind. ``channels`` is 1 (gray), 3 (RGB) or 4 (RGBA)."""

    size: Size
    channels: int
    dtype: np.dtype[Any]
    icc: bytes | None = None

    @property
    def bytes(self) -> int:
        """Of all samples, as they lie in memory."""
        return self.size.pixels * self.channels * self.dtype.itemsize

    def shape(self, region: Region) -> tuple[int, ...]:
        """The shape of the array of a region: ``H×W`` or ``H×W×C``."""
        plane = (region.height, region.width)
        return plane if self.channels == 1 else (*plane, self.channels)


class RegionReader(Protocol):
    """An image of which rectangles are read. ``read`` may be called by several threads at once."""

    @property
    def raster(self) -> Raster:
        """Size, channels and depth; orientation applied."""
        ...

    @property
    def unit(self) -> Size:
        """What is decoded at once: a tile, or as many rows as a strip has. Reads along its grid are the cheapest."""
        ...

    @property
    def in_order(self) -> bool:
        """True: only bands from top to bottom are cheap; for what lies above, decoding starts anew."""
        ...

    def read(self, region: Region) -> NDArray[Any]:
        """Its pixels, an array of the caller's own.

        Raises :class:`CorruptImage` where a tile can't be decoded, :class:`StorageError` where it can't be had.
        """
        ...

    def close(self) -> None:
        """Give files and memory back. Harmless when repeated."""
        ...


class RegionWriter(Protocol):
    """A result that is written by rectangles, beside its name; it has its name when it is whole.

    Regions come each once, along the grid of ``unit`` (a region is one or more whole units, cut at the image's right
    and lower edges). ``write`` may be called by several threads at once, in any order.
    """

    @property
    def unit(self) -> Size:
        """The grid of what is encoded at once."""
        ...

    @property
    def in_order(self) -> bool:
        """True: regions must come row by row from the top; a writer holds what comes early, within a bound."""
        ...

    def write(self, region: Region, pixels: NDArray[Any]) -> None:
        """Encode and store a region; ``pixels`` are not kept.

        Raises :class:`StorageError` where it can't be stored (a full disk).
        """
        ...

    def finish(self) -> None:
        """Make the result whole, and give it its name."""
        ...

    def abort(self) -> None:
        """Take back what was written. Harmless when repeated, and after ``finish``."""
        ...
