"""Every operation over MPI ranks, in one start of them, each case compared with the whole on the first rank.

``mpirun -n N python -m mpi4py rank_operations.py SEED EXAMPLES`` prints a line of JSON an operation.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from mpi4py import MPI
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent.parent.parent))

from rank_cases import Canvas, begin
from tests.tiling.operation_cases import CASES, pictures
from tests.tiling.runners import RUNNERS

from pixelmill.errors import NotApplicable, NotTileable
from pixelmill.images.image import Image
from pixelmill.images.region_memory import MemoryReader
from pixelmill.operations.operation import Operation, Step
from pixelmill.operations.plain_opencv import one_thread, without_ipp
from pixelmill.operations.table import operation_named
from pixelmill.tiling.compiler import Wishes, compiled
from pixelmill.tiling.mpi import Team, run_ranks
from pixelmill.tiling.program import Part

Case = tuple[str, dict[str, Any], NDArray[Any], int]


def drawn(number: int, examples: int) -> list[Case]:
    """Cases of all operations, by hypothesis, the same for the same seed."""
    found: list[Case] = []

    def take(name: str) -> None:
        @seed(number)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(st.data())
        def draw(data: st.DataObject) -> None:
            found.append((name, data.draw(CASES[name]), data.draw(pictures(130)), data.draw(st.integers(24, 100))))

        draw()

    for name in CASES:
        take(name)
    return found


def whole(operation: Operation, pixels: NDArray[Any]) -> Step | None:
    """None where it can't be applied to such an image."""
    try:
        with without_ipp(), one_thread():
            return operation.apply(Image(pixels))
    except NotApplicable:
        return None


def over_ranks(comm: Any, operation: Operation, pixels: NDArray[Any], tile: int) -> tuple[NDArray[Any], Any] | None:
    """The pixels on the first rank, and what was found; None on the others."""
    reader = MemoryReader(Image(pixels))
    wishes = Wishes(workers=1, tile=tile)
    program = compiled(reader.raster, [Part(1, operation.name, operation.tiled)], wishes)
    written: list[Canvas] = []
    found = run_ranks(program, reader, lambda raster: begin(written, raster), Team(comm))
    parts = comm.gather(written[-1].pixels)
    if parts is None:
        return None
    # Each tile was written by one rank, and the others have zeros there: zeros of all bits.
    result = np.bitwise_or.reduce([part.view(np.uint8) for part in parts]).view(parts[0].dtype)
    data: dict[str, Any] | None = None
    for one in found:
        data = {**(data or {}), **one.data}
    return result, data


def main(number: int, examples: int) -> None:
    """All cases."""
    comm = MPI.COMM_WORLD
    counts: dict[str, int] = {}
    for name, arguments, pixels, tile in comm.bcast(drawn(number, examples) if comm.rank == 0 else None):
        operation = operation_named(name)(**arguments)
        expected = whole(operation, pixels)
        if expected is None:
            continue
        try:  # where threads refuse it, so would one rank, and the others wait for it
            RUNNERS["1 thread"](operation, pixels, tile)
        except NotTileable:
            continue
        done = over_ranks(comm, operation, pixels, tile)
        if done is not None:
            what = f"{name} {arguments} {pixels.dtype} {pixels.shape} in tiles of {tile}"
            assert done[0].dtype == expected.image.pixels.dtype, what
            assert np.array_equal(done[0], expected.image.pixels), what
            assert done[1] == (None if expected.data is None else dict(expected.data)), what
            counts[name] = counts.get(name, 0) + 1
    if comm.rank == 0:
        print(json.dumps(counts), flush=True)  # noqa: T201 -- read by a test


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
