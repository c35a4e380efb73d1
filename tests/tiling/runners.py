"""What runs an operation's passes over tiles, in one form for all: the tests of operations take any of these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from numpy.typing import NDArray
from plain_tiles import run_plain

from pixelmill.images.image import Image, Size
from pixelmill.operations.operation import Operation
from pixelmill.operations.passes import Form
from pixelmill.operations.plain_opencv import without_ipp
from pixelmill.tiling.compiler import Wishes, compiled
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.tiling.program import Part
from pixelmill.tiling.threads import run_tiled

Done: TypeAlias = tuple[NDArray[Any], dict[str, Any] | None]
Runner: TypeAlias = Callable[[Operation, NDArray[Any], int], Done]
"""An operation, pixels and the side of a tile: what comes out, and what was found."""


def plainly(operation: Operation, pixels: NDArray[Any], tile: int) -> Done:
    image = Image(pixels)
    with without_ipp():
        passes = operation.tiled(Form(image.size, image.channels, pixels.dtype))
        return run_plain(pixels, passes, Size(tile, max(16, tile // 2)))


def by_threads(workers: int) -> Runner:
    def run(operation: Operation, pixels: NDArray[Any], tile: int) -> Done:
        reader = MemoryReader(Image(pixels))
        wishes = Wishes(workers=workers, tile=tile)
        program = compiled(reader.raster, [Part(1, operation.name, operation.tiled)], wishes)
        written: list[MemoryWriter] = []

        def opened(raster: Any) -> MemoryWriter:
            written.append(MemoryWriter(raster, wishes.unit))
            return written[-1]

        found = run_tiled(program, reader, opened)
        data: dict[str, Any] | None = None
        for one in found:
            data = {**(data or {}), **one.data}
        return written[-1].image.pixels, data

    return run


RUNNERS: Mapping[str, Runner] = {"plain": plainly, "1 thread": by_threads(1), "2 threads": by_threads(2)}
