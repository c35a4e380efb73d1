"""The tiled form of an operation: the passes over an image that give, tile by tile, what ``apply`` gives of the whole.

A runner (``tiling/``) knows nothing of operations but this. It cuts the image into tiles, hands each pass the pixels
that it asks for, and joins what comes out. All positions are of the image that a pass sees, so that what depends on
where a pixel lies (resampling, dithering, cells of CLAHE) is computed in integers of the whole image.

- :class:`Map`: a tile with a halo in, the tile out. The runner fuses neighboring maps and adds up their halos.
- :class:`Survey`: a sweep that looks at every tile, a conclusion from all looks, and a map that uses it: histograms
  (equalize, Otsu), and what merges over tile borders (Canny, components). The looks must not depend on the order of
  tiles, and what is concluded not on how the image was cut.
- :class:`Move`: the image gets another geometry; says which part of the input a part of the output needs.

The pixels between two passes are an array ``H×W`` or ``H×W×C`` of any ``dtype``; of the last pass, those of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pixelmill.images.image import Size
from pixelmill.images.regions import Region

Array: TypeAlias = NDArray[Any]


class Form(NamedTuple):
    """What pixels arrive: the image's size, the channels (1, 3, 4) and the type of samples."""

    size: Size
    channels: int
    dtype: np.dtype[Any]


class Place(NamedTuple):
    """Where a tile lies. ``pixels`` that are handed over are those of ``extended``; the tile itself is ``core``."""

    size: Size
    core: Region
    extended: Region
    number: int
    """Of the tile, row by row from 0."""

    columns: int
    """Tiles in a row of the grid."""


@dataclass(frozen=True, slots=True)
class Map:
    """``apply(pixels, place)`` gives an array for ``extended``; of it only ``core`` is right, and only that is taken.

    ``halo`` is how far a result looks. ``form`` is what comes out (channels and dtype; None: what comes in).
    ``name`` is shown to people. ``memory_factor``: peak bytes of temporaries, result included, per input byte.
    """

    name: str
    apply: Callable[[Array, Place], Array]
    halo: int = 0
    channels: int | None = None
    dtype: np.dtype[Any] | None = None
    ns_per_pixel: float = 1.0
    memory_factor: float = 2.0


class Look(NamedTuple):
    """What one tile tells: ``told`` goes to the conclusion (pickled between ranks; small), ``kept`` to the finish.

    ``kept`` is an array of the core's height and width, of the type that :attr:`Survey.keeps` names, or None with it:
    then the finish gets the pixels themselves again. The runner keeps it in bounded memory or on disk.
    """

    told: Any
    kept: Array | None = None


@dataclass(frozen=True, slots=True)
class Survey:
    """Two passes: ``look`` at every tile, ``conclude`` once from all looks, ``finish`` every tile.

    ``join`` (None: all looks are held) adds two tellings up where their order does not matter, such as histograms: then
    ``conclude`` gets one of all. Else it gets them in the order of tiles, with the places.

    Where looks are joined and nothing is kept, ``finish`` is fused with what follows: it is called for any region, and
    for some pixels more than once. What it gives of a pixel then depends on that pixel, where it lies, and the
    conclusion. Else it is called for each tile that was looked at, as a whole, with the number it had.
    """

    name: str
    look: Callable[[Array, Place], Look]
    conclude: Callable[[Sequence[tuple[Place | None, Any]]], Any]
    finish: Callable[[Array, Place, Any], Array] | None = None
    join: Callable[[Any, Any], Any] | None = None
    halo: int = 0
    """Of ``look``; ``finish`` sees the core alone."""

    channels: int | None = None
    dtype: np.dtype[Any] | None = None
    data: Callable[[Any], dict[str, Any] | None] | None = None
    """What the operation found, from the conclusion."""

    keeps: np.dtype[Any] | None = None
    """The type of what each look keeps of a pixel; None: none keeps anything."""

    images: bool = True
    """False: the image passes unchanged and there is no ``finish`` (analysis)."""

    then: Callable[[Any], Sequence[Pass]] | None = None
    """In place of ``finish``: the passes that the conclusion asks for, over the very pixels that were looked at.

    So a rectangle is cut out that was found, and whether anything shines through decides how all tiles are filtered.
    They take the survey's place, with what stood before it and what comes behind it; nothing is kept.
    """

    expected: Sequence[Pass] = ()
    """With ``then``: what to plan with before anything is concluded, the most that it may cost."""

    ns_per_pixel: float = 1.0
    memory_factor: float = 2.0

    @property
    def by_tile(self) -> bool:
        """Whether a finish is of a tile that was looked at, and not of any region."""
        return self.join is None or self.keeps is not None


@dataclass(frozen=True, slots=True)
class Move:
    """Another geometry. ``source(region)`` is the part of the input that this part of the output needs.

    ``apply(pixels, source, region)`` gives the pixels of ``region`` exactly.
    """

    name: str
    size: Size
    source: Callable[[Region], Region]
    apply: Callable[[Array, Region, Region], Array]
    channels: int | None = None
    dtype: np.dtype[Any] | None = None
    ns_per_pixel: float = 1.0
    memory_factor: float = 2.0


Pass: TypeAlias = Map | Survey | Move


def summed(one: Any, other: Any) -> Any:
    """A ``join`` of counts."""
    return one + other


def within(core: Array, place: Place) -> Array:
    """An array for ``place.extended`` that holds what was found for its core; zeros elsewhere."""
    if place.core == place.extended:
        return core
    done = np.zeros((place.extended.height, place.extended.width, *core.shape[2:]), core.dtype)
    place.core.of(done, place.extended)[...] = core
    return done
