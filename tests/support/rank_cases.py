"""Many small programs on MPI ranks, in one start of them: each compared with the whole on the first rank.

``mpirun -n N python -m mpi4py rank_cases.py SEED COUNT`` prints a line of JSON a case, and fails where one differs.
"""

from __future__ import annotations

import functools
import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
from mpi4py import MPI

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from tests.tiling.synthetic import (
    MIXED,
    cropped,
    halved,
    leveled,
    numbered,
    program_of,
    reach,
    turned,
    watched,
    whole,
)

from pixelmill.images.image import Image, Size
from pixelmill.images.region_memory import MemoryReader
from pixelmill.images.regions import Raster, Region
from pixelmill.operations.passes import Pass
from pixelmill.tiling.compiler import Wishes
from pixelmill.tiling.mpi import Team, Told, run_ranks
from pixelmill.tiling.scratch import Scratch
from pixelmill.tiling.threads import run_tiled

KINDS = ("reach", "mixed", "leveled", "watched", "turned", "halved", "numbered", "cropped")


def chain(dice: random.Random, *, color: bool) -> tuple[list[Pass], Size, bool]:
    """Passes over an image of a size, and whether their result depends on how it is cut."""
    size = first = Size(dice.randint(1, 330), dice.randint(1, 150))
    passes: list[Pass] = []
    cut = False
    for kind in dice.choices(KINDS, k=dice.randint(0, 6)):
        if kind == "reach":
            passes.append(reach(dice.randint(0, 5)))
        elif kind == "mixed":
            passes.append(MIXED)
        elif kind == "leveled":
            passes.append(leveled())
        elif kind == "watched":
            passes.append(watched(dice.randint(0, 3)))
        elif kind == "numbered":
            passes.append(numbered(dice.randint(0, 3), keeps=not color and dice.random() < 0.5))
            cut = True
        elif kind == "cropped":
            passes.append(cropped(size))
            break  # what comes out has a size that nobody knows
        else:
            move = turned(size) if kind == "turned" else halved(size)
            passes.append(move)
            size = move.size
    return passes, first, cut


class Canvas:
    """A :class:`RegionWriter` of some tiles; the others stay black."""

    in_order = False

    def __init__(self, raster: Raster) -> None:
        self.pixels = np.zeros(raster.shape(Region(0, 0, *raster.size)), raster.dtype)
        self.unit = Size(1, 1)

    def write(self, region: Region, pixels: Any) -> None:
        """Copy them in."""
        self.pixels[region.top : region.bottom, region.left : region.right] = pixels

    def finish(self) -> None:
        """It stays as it is."""

    def abort(self) -> None:
        """Nobody looks at it."""


def begin(written: list[Canvas], raster: Raster) -> Canvas:
    """A writer that is remembered."""
    written.append(Canvas(raster))
    return written[-1]


def main(seed: int, count: int) -> None:
    """All cases; each rank draws the same."""
    comm = MPI.COMM_WORLD
    dice = random.Random(seed)
    for case in range(count):
        color = dice.random() < 0.3
        passes, size, cut = chain(dice, color=color)
        shape = (size.height, size.width, 3) if color else (size.height, size.width)
        pixels = np.random.default_rng(dice.randrange(2**32)).integers(0, 256, shape, np.uint8)
        wishes = Wishes(workers=1, tile=dice.randint(1, 100))
        scratch = Scratch(memory_bytes=dice.choice((0, 10**9)))
        reader = MemoryReader(Image(pixels))
        program = program_of(passes, reader.raster, wishes)
        written: list[Canvas] = []
        told: list[Told] = []
        found = run_ranks(
            program, reader, functools.partial(begin, written), Team(comm), scratch=scratch, progress=told.append
        )
        # Each tile was written by one rank, and the others have zeros there.
        parts = comm.gather(written[0].pixels)
        if parts is not None:
            result = np.bitwise_or.reduce(parts)
            if cut:
                alone = run_alone(passes, pixels, wishes)
                assert np.array_equal(result, alone[0]), f"case {case}: {passes}"
                assert [one.data for one in found] == alone[1]
            else:
                expected, data = whole(passes, pixels)
                assert np.array_equal(result, expected), f"case {case}: {passes}"
                assert [one.data for one in found] == data
            assert told[-1].progress.share == 1.0, told[-1]
            line = json.dumps({"case": case, "ranks": comm.size, "pixels": size.pixels})
            print(line, flush=True)  # noqa: T201 -- read by a test


def run_alone(passes: list[Pass], pixels: Any, wishes: Wishes) -> tuple[Any, list[dict[str, Any]]]:
    """The same with threads: for what depends on the grid."""
    reader = MemoryReader(Image(pixels))
    program = program_of(passes, reader.raster, wishes)
    written: list[Canvas] = []
    found = run_tiled(program, reader, functools.partial(begin, written))
    return written[0].pixels, [one.data for one in found]


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
