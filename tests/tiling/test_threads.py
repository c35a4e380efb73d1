"""The runner over threads gives what the passes give of the whole image, whatever the tiles."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tiling.synthetic import MIXED, cropped, halved, leveled, numbered, program_of, reach, turned, watched, whole

from pixelmill.images.image import Image, Size
from pixelmill.images.region_memory import MemoryReader, MemoryWriter
from pixelmill.images.regions import Raster
from pixelmill.operations.passes import Pass
from pixelmill.tiling.compiler import ANY, Wishes
from pixelmill.tiling.scratch import Scratch
from pixelmill.tiling.threads import run_tiled

KINDS = ("reach", "mixed", "leveled", "watched", "turned", "halved")


@st.composite
def chains(draw: st.DrawFn) -> tuple[list[Pass], Size]:
    """Passes over an image of a size; moves know the size that arrives."""
    size = first = Size(draw(st.integers(1, 330)), draw(st.integers(1, 150)))
    passes: list[Pass] = []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=6)):
        if kind == "reach":
            passes.append(reach(draw(st.integers(0, 5))))
        elif kind == "mixed":
            passes.append(MIXED)
        elif kind == "leveled":
            passes.append(leveled())
        elif kind == "watched":
            passes.append(watched(draw(st.integers(0, 3))))
        else:
            move = turned(size) if kind == "turned" else halved(size)
            passes.append(move)
            size = move.size
    return passes, first


@settings(max_examples=60, deadline=None)
@given(
    chains(),
    st.integers(1, 100),
    st.integers(1, 3),
    st.sampled_from((0, 10**9)),
    st.integers(0, 2**32 - 1),
    st.booleans(),
)
def test_tiles_give_what_the_whole_gives(
    chain: tuple[list[Pass], Size], tile: int, workers: int, in_memory: int, seed: int, color: bool
) -> None:
    passes, size = chain
    shape = (size.height, size.width, 3) if color else (size.height, size.width)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, np.uint8)
    expected, found = whole(passes, pixels)
    done, data = tiled(passes, pixels, Wishes(workers=workers, tile=tile), Scratch(memory_bytes=in_memory))
    assert np.array_equal(done, expected)
    assert data == found


def tiled(
    passes: list[Pass], pixels: Any, wishes: Wishes, scratch: Scratch | None = None
) -> tuple[Any, list[dict[str, Any]]]:
    reader = MemoryReader(Image(pixels))
    program = program_of(passes, reader.raster, wishes)
    assert program.result is not None
    writer = MemoryWriter(program.result, wishes.unit)
    data = run_tiled(program, reader, writer, scratch=scratch)
    return writer.image.pixels, [found.data for found in data]


@settings(max_examples=30, deadline=None)
@given(st.booleans(), st.integers(0, 4), st.integers(0, 4), st.integers(1, 80), st.integers(1, 300), st.integers(1, 90))
def test_a_finish_sees_the_tiles_that_were_looked_at(
    keeps: bool, before: int, behind: int, tile: int, width: int, height: int
) -> None:
    """By tile, with maps before and behind it: the same as without those behind, and these over the whole."""
    pixels = np.random.default_rng(7).integers(0, 256, (height, width), np.uint8)
    survey = numbered(0, keeps=keeps)
    alone, _ = tiled([reach(before), survey], pixels, Wishes(workers=2, tile=tile))
    both, data = tiled([reach(before), survey, reach(behind)], pixels, Wishes(workers=2, tile=tile))
    assert np.array_equal(both, whole([reach(behind)], alone)[0])
    assert len(data) == 1


def test_the_default_tiles_give_what_the_whole_gives() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (1500, 4500), np.uint8)
    passes: list[Pass] = [reach(2), MIXED, leveled(), reach(1), turned(Size(4500, 1500)), reach(1)]
    done, data = tiled(passes, pixels, Wishes(workers=2))
    expected, found = whole(passes, pixels)
    assert np.array_equal(done, expected)
    assert data == found


def test_a_raster_of_16_bits_and_units_of_a_writer() -> None:
    pixels = np.random.default_rng(1).integers(0, 65536, (333, 700), np.uint16)
    passes: list[Pass] = [reach(3), halved(Size(700, 333))]
    done, _ = tiled(passes, pixels, Wishes(workers=2, tile=50, unit=Size(96, 32)))
    assert np.array_equal(done, whole(passes, pixels)[0])


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 90), st.integers(1, 300), st.integers(1, 90), st.integers(0, 2**32 - 1), st.sampled_from((40, 256))
)
def test_what_is_cut_out_is_known_only_when_it_was_found(
    tile: int, width: int, height: int, seed: int, most: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, most, (height, width), np.uint8)
    size = Size(width, height)
    passes: list[Pass] = [reach(2), cropped(size), reach(1), leveled()]
    reader = MemoryReader(Image(pixels))
    program = program_of(passes, reader.raster, Wishes(workers=2, tile=tile))
    assert program.open is not None
    made: list[MemoryWriter] = []

    def writer(raster: Raster) -> MemoryWriter:
        made.append(MemoryWriter(raster, ANY))
        return made[-1]

    data = run_tiled(program, reader, writer)
    expected, found = whole(passes, pixels)
    (only,) = made
    assert np.array_equal(only.image.pixels, expected)
    assert [item.data for item in data] == found


@pytest.mark.parametrize("unit", [Size(1, 1), Size(256, 256), Size(700, 8)])
def test_regions_that_are_written_are_whole_units(unit: Size) -> None:
    program = program_of([reach(1)], Raster(Size(700, 900), 1, np.dtype(np.uint8)), Wishes(tile=100, unit=unit))
    grid = program.stages[-1].grid
    for number in range(grid.tiles):
        core = grid.core(number)
        assert core.left % unit.width == core.top % unit.height == 0
        assert core.width % unit.width == 0 or core.right == 700
        assert core.height % unit.height == 0 or core.bottom == 900
