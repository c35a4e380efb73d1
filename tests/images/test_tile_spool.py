"""Spools of tiles: what was appended is found after a kill, what is torn is not, and all together make the result."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.errors import RunError, StorageUnavailable
from pixelmill.images.image import Size
from pixelmill.images.region_options import TileTiffOptions
from pixelmill.images.region_readers import open_regions
from pixelmill.images.regions import Raster, Region
from pixelmill.images.tile_spool import TileSpool, assemble, tiles_done

SIZE = Size(300, 200)
RASTER = Raster(SIZE, 3, np.dtype(np.uint8))
OPTIONS = TileTiffOptions(tile=64)


def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (SIZE.height, SIZE.width, 3), np.uint8)


def fill(path: Path, numbers: range, *, identity: str = "") -> None:
    pixels, spool = picture(), TileSpool(path, RASTER, OPTIONS, identity)
    for number in numbers:
        place = spool.grid.place(number)
        spool.writer().write(place, place.of(pixels, Region(0, 0, *SIZE)))
    spool.close()


def pixels_of(path: Path) -> NDArray[np.uint8]:
    reader = open_regions(path)
    try:
        return reader.read(Region(0, 0, *reader.raster.size))
    finally:
        reader.close()


def test_the_tiles_of_several_spools_make_the_picture(tmp_path: Path) -> None:
    paths = [tmp_path / "0", tmp_path / "1", tmp_path / "absent"]
    fill(paths[0], range(12))
    fill(paths[1], range(10, 20))
    assert tiles_done(paths, RASTER, OPTIONS).all()
    assemble(tmp_path / "out.tif", paths, RASTER, OPTIONS)
    assert np.array_equal(pixels_of(tmp_path / "out.tif"), picture())


@pytest.mark.parametrize("layout", [{"pyramid": True}, {"cog": True}])
def test_copies_of_a_pyramid_are_made_of_the_spools_tiles(tmp_path: Path, layout: dict[str, bool]) -> None:
    fill(tmp_path / "0", range(20))
    options = OPTIONS.model_validate({**OPTIONS.model_dump(), **layout})
    assemble(tmp_path / "out.tif", [tmp_path / "0"], RASTER, options)
    assert np.array_equal(pixels_of(tmp_path / "out.tif"), picture())
    half = open_regions(tmp_path / "out.tif", level=1)
    assert half.raster.size == (150, 100)
    quads = picture().astype(int).reshape(100, 2, 150, 2, 3).sum(axis=(1, 3))
    assert np.array_equal(half.read(Region(0, 0, 150, 100)), (quads + 2) >> 2)
    half.close()


def test_missing_tiles_make_no_result(tmp_path: Path) -> None:
    fill(tmp_path / "0", range(19))
    with pytest.raises(RunError, match=r"1 of 20 tiles are missing"):
        assemble(tmp_path / "out.tif", [tmp_path / "0"], RASTER, OPTIONS)
    assert [path.name for path in tmp_path.iterdir()] == ["0"]


def test_every_torn_tail_is_ignored_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "0"
    fill(path, range(3))
    three = path.stat().st_size
    fill(path, range(4))
    whole = path.read_bytes()
    for cut in {three, three + 1, three + 27, three + 28, three + 29, len(whole) - 1}:
        path.write_bytes(whole[:cut])
        spool = TileSpool(path, RASTER, OPTIONS)
        assert np.flatnonzero(spool.done).tolist() == [0, 1, 2]
        spool.close()
        assert path.stat().st_size == three
    fill(path, range(20))
    assemble(tmp_path / "out.tif", [path], RASTER, OPTIONS)
    assert np.array_equal(pixels_of(tmp_path / "out.tif"), picture())


def test_a_changed_byte_anywhere_in_a_record_ends_the_spool_there(tmp_path: Path) -> None:
    path = tmp_path / "0"
    fill(path, range(1))
    one = path.stat().st_size
    fill(path, range(2))
    whole = bytearray(path.read_bytes())
    for place in (one, one + 5, one + 13, one + 21, one + 25, one + 100, len(whole) - 1):
        broken = bytearray(whole)
        broken[place] ^= 1
        path.write_bytes(broken)
        assert tiles_done([path], RASTER, OPTIONS).sum() == 1


def test_a_spool_that_was_killed_at_its_birth_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "0"
    fill(path, range(1))
    path.write_bytes(path.read_bytes()[:20])
    fill(path, range(20))
    assert tiles_done([path], RASTER, OPTIONS).all()


@pytest.mark.parametrize(
    ("raster", "options", "identity"),
    [
        (Raster(Size(300, 201), 3, np.dtype(np.uint8)), OPTIONS, "a"),
        (Raster(SIZE, 1, np.dtype(np.uint8)), OPTIONS, "a"),
        (Raster(SIZE, 3, np.dtype(np.uint8), b"profile"), OPTIONS, "a"),
        (RASTER, TileTiffOptions(tile=128), "a"),
        (RASTER, TileTiffOptions(tile=64, compression="none"), "a"),
        (RASTER, OPTIONS, "b"),
    ],
)
def test_a_spool_of_anything_else_is_refused(
    tmp_path: Path, raster: Raster, options: TileTiffOptions, identity: str
) -> None:
    fill(tmp_path / "0", range(2), identity="a")
    before = (tmp_path / "0").read_bytes()
    with pytest.raises(RunError, match="Remove it"):
        TileSpool(tmp_path / "0", raster, options, identity)
    with pytest.raises(RunError, match="Remove it"):
        assemble(tmp_path / "out.tif", [tmp_path / "0"], raster, options, identity)
    assert (tmp_path / "0").read_bytes() == before


def test_a_spool_is_open_in_one_process_only(tmp_path: Path) -> None:
    spool = TileSpool(tmp_path / "0", RASTER, OPTIONS)
    with pytest.raises(StorageUnavailable, match="open in another process"):
        TileSpool(tmp_path / "0", RASTER, OPTIONS)
    spool.close()
    TileSpool(tmp_path / "0", RASTER, OPTIONS).close()


def _fill_until_killed(path: Path, begun: Event) -> None:
    fill(path, range(10))
    spool = TileSpool(path, RASTER, OPTIONS)
    begun.set()
    while True:  # the same tile under other numbers, for as long as it takes
        for number in range(10, 20):
            spool.done[number] = False
            spool.append(number, os.urandom(200_000))


def test_what_was_appended_before_kill_9_is_found_and_the_rest_is_made_again(tmp_path: Path) -> None:
    path, context = tmp_path / "0", multiprocessing.get_context("spawn")
    begun = context.Event()
    process = context.Process(target=_fill_until_killed, args=(path, begun))
    process.start()
    assert begun.wait(60)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    done = tiles_done([path], RASTER, OPTIONS)
    assert done[:10].all()
    spool = TileSpool(path, RASTER, OPTIONS)  # its tail is no record, or a whole one
    spool.close()
    assert np.array_equal(tiles_done([path], RASTER, OPTIONS), done)
