"""Tiles: every pixel once, halos clipped at the image, aligned in x."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill.images.image import Size
from pixelmill.images.regions import Region
from pixelmill.tiling.grid import ALIGNMENT, Grid, extended, share

sizes = st.builds(Size, st.integers(1, 700), st.integers(1, 300))
grids = st.builds(Grid.of, sizes, st.builds(Size, st.integers(1, 400), st.integers(1, 120)))


@given(grids)
def test_every_pixel_lies_in_exactly_one_tile(grid: Grid) -> None:
    seen = np.zeros((grid.size.height, grid.size.width), np.uint8)
    for number in range(grid.tiles):
        core = grid.core(number)
        assert core.pixels > 0
        seen[core.top : core.bottom, core.left : core.right] += 1
    assert (seen == 1).all()


@given(grids, st.integers(0, 90), st.integers(0, 90), st.data())
def test_an_extended_tile_holds_its_halo_as_far_as_the_image_reaches_and_is_aligned(
    grid: Grid, halo: int, inner: int, data: st.DataObject
) -> None:
    inner = min(inner, halo)
    place = grid.place(data.draw(st.integers(0, grid.tiles - 1)), halo, inner)
    core, wide, size = place.core, place.extended, grid.size
    assert wide.left <= max(0, core.left - halo)
    assert wide.right >= min(size.width, core.right + halo)
    assert wide.top == max(0, core.top - halo)
    assert wide.bottom == min(size.height, core.bottom + halo)
    assert wide.left >= 0
    assert wide.right <= size.width
    assert wide.left % ALIGNMENT == 0
    # What the first pass must give lies in whole multiples, unless the image ends.
    whole = wide.left + (wide.width // ALIGNMENT) * ALIGNMENT
    assert wide.right == size.width or core.right + inner <= whole


@given(grids, st.data())
def test_the_parts_of_a_region_are_all_of_it_and_lie_in_their_tiles(grid: Grid, data: st.DataObject) -> None:
    left = data.draw(st.integers(0, grid.size.width - 1))
    top = data.draw(st.integers(0, grid.size.height - 1))
    width = data.draw(st.integers(1, grid.size.width - left))
    height = data.draw(st.integers(1, grid.size.height - top))
    region = Region(left, top, width, height)
    parts = list(grid.parts(region))
    assert sum(part.pixels for _, part in parts) == region.pixels
    for number, part in parts:
        core = grid.core(number)
        assert core.left <= part.left
        assert core.top <= part.top
        assert part.right <= min(core.right, region.right)
        assert part.bottom <= min(core.bottom, region.bottom)
    assert [number for number, _ in parts] == sorted(number for number, _ in parts)


@given(grids, st.integers(1, 9))
def test_bands_are_whole_rows_and_all_tiles_in_order(grid: Grid, count: int) -> None:
    bands = grid.bands(count)
    assert len(bands) == count
    assert [number for band in bands for number in band] == list(range(grid.tiles))
    assert all(len(band) % grid.columns == 0 for band in bands)
    rows = [len(band) // grid.columns for band in bands]
    assert max(rows) - min(rows) <= 1


@given(sizes, st.integers(0, 50))
def test_a_tile_as_large_as_the_image_is_the_image(size: Size, halo: int) -> None:
    region = Region(0, 0, *size)
    assert extended(region, size, halo) == region


def test_a_width_that_is_not_aligned_is_refused_unless_it_is_the_images() -> None:
    with pytest.raises(ValueError, match="64"):
        Grid(Size(500, 10), Size(100, 10))
    assert Grid(Size(100, 10), Size(100, 10)).tiles == 1
    assert Grid.of(Size(500, 10), Size(100, 10)).tile == Size(128, 10)


def test_there_is_no_tile_beyond_the_last() -> None:
    with pytest.raises(IndexError, match="4 tiles"):
        Grid(Size(128, 20), Size(64, 10)).core(4)


def test_the_share_that_is_computed_twice() -> None:
    assert share(Size(100, 100), 0) == 0
    assert share(Size(100, 100), 5) == pytest.approx(0.21)
