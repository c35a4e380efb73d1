"""Results that are written by regions hold the pixels, for our readers and for those of others; or nothing is there."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pyvips
import tifffile
import zarr
from region_tools import picture, raster_of, read_all, shuffled, write_all

from pixelmill.errors import (
    InvalidParameter,
    MissingExtra,
    NotApplicable,
    ObjectExists,
    PixelmillError,
    RunError,
    StorageFull,
    UnknownOperation,
)
from pixelmill.images import region_bands_writer, tile_codecs
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Size
from pixelmill.images.pyramids import Pyramid, halved, level_sizes
from pixelmill.images.region_grid import Grid
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_writers import create_regions
from pixelmill.images.regions import Raster, Region

BIG_COG = {"cog": True, "big": "always"}
LAYOUTS: list[dict[str, Any]] = [{}, {"pyramid": True}, {"cog": True}, {"big": "always"}, BIG_COG]
KINDS = list(itertools.product(["u1", "u2", "f4"], [1, 3, 4]))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("compression", ["none", "deflate", "lzw", "zstd"])
def test_a_tiff_holds_the_pixels_in_every_kind_and_layout(
    tmp_path: Path, compression: str, layout: dict[str, Any]
) -> None:
    path = tmp_path / "out.tif"
    for number, (dtype, channels) in enumerate(KINDS):
        pixels = picture(150 + 17 * number, 200 - 19 * number, channels, dtype)
        options = {"compression": compression, "tile": 64, **layout}
        write_all(create_regions(path, raster_of(pixels), options=options), pixels, order=shuffled)
        assert np.array_equal(read_all(open_regions(path)), pixels)
        with tifffile.TiffFile(path) as file:
            assert file.is_bigtiff == (layout.get("big") == "always")
            assert np.array_equal(file.pages[0].asarray(), pixels)
            levels = level_sizes(raster_of(pixels).size, 64) if "pyramid" in layout or "cog" in layout else [0]
            assert len(file.pages) == len(levels)
        # The libtiff of libvips' wheel, and that of OpenCV, have no Zstandard.
        if compression != "zstd":
            others = pyvips.Image.new_from_file(str(path), revalidate=True).numpy()
            assert np.array_equal(others.reshape(pixels.shape), pixels)
            assert np.array_equal(decode(path.read_bytes()).pixels, pixels)
    assert names(tmp_path) == ["out.tif"]


@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_of_jpeg_are_read_alike_by_all(tmp_path: Path, channels: int) -> None:
    path, pixels = tmp_path / "out.tif", picture(333, 222, channels)
    options = {"compression": "jpeg", "quality": 95, "tile": 64, "pyramid": True}
    write_all(create_regions(path, raster_of(pixels), options=options), pixels)
    found = read_all(open_regions(path))
    assert np.array_equal(found, decode(path.read_bytes()).pixels)
    assert np.array_equal(found, pyvips.Image.new_from_file(str(path)).numpy().reshape(pixels.shape))
    assert np.abs(found.astype(int) - pixels).mean() < 12


def test_copies_of_a_cloud_optimized_tiff_stand_before_the_picture_and_tables_in_front(tmp_path: Path) -> None:
    path, pixels = tmp_path / "out.tif", picture(500, 300)
    write_all(create_regions(path, raster_of(pixels), options={"cog": True, "tile": 64}), pixels, order=shuffled)
    with tifffile.TiffFile(path) as file:
        assert [page.shape[:2] for page in file.pages] == [(300, 500), (150, 250), (75, 125), (38, 63)]
        first = [page.dataoffsets[0] for page in file.pages]
        assert first == sorted(first, reverse=True)
        assert all(list(page.dataoffsets) == sorted(page.dataoffsets) for page in file.pages)
        assert max(page.offset for page in file.pages) < min(first)


def test_a_profile_is_kept_with_its_samples(tmp_path: Path, assets: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    path, pixels = tmp_path / "out.tif", picture(100, 80)
    write_all(create_regions(path, raster_of(pixels, profile), options={"tile": 64}), pixels)
    with tifffile.TiffFile(path) as file:
        assert file.pages.first.iccprofile == profile


# -- pyramids ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["u1", "u2"])
@pytest.mark.parametrize("shape", [(64, 96), (65, 33), (1, 1), (1, 7), (7, 1, 3), (301, 77, 3)], ids=str)
def test_half_a_picture_is_the_rounded_mean_of_four(dtype: str, shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape).astype(dtype)
    odd = ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0))[: len(shape)]
    whole = np.pad(pixels, odd, mode="edge").astype(int)
    total = whole[::2, ::2] + whole[1::2, ::2] + whole[::2, 1::2] + whole[1::2, 1::2]
    assert np.array_equal(halved(pixels), (total + 2) >> 2)


def test_clear_pixels_give_no_color_to_half_a_picture() -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (200, 100, 50, 255)
    assert halved(pixels).tolist() == [[[200, 100, 50, 64]]]


@pytest.mark.parametrize("most", [0, 1 << 30], ids=["scratch file", "memory"])
def test_a_pyramid_is_the_same_in_memory_and_in_a_scratch_file(tmp_path: Path, most: int) -> None:
    pixels = picture(1000, 700)
    raster, sizes = raster_of(pixels), level_sizes(Size(1000, 700), 1)
    levels = [np.zeros((size.height, size.width, 3), np.uint8) for size in sizes]

    def emit(level: int, number: int, tile: Any) -> None:
        place = Grid(sizes[level], Size(32, 32)).place(number)
        place.of(levels[level], Region(0, 0, *sizes[level]))[...] = tile

    pyramid, grid = Pyramid(raster, 32, sizes, emit, tmp_path, most=most), Grid(raster.size, Size(32, 32))
    for number in shuffled(len(grid)):
        pyramid.feed(0, number, grid.place(number).of(pixels, Region(0, 0, *raster.size)))
    pyramid.close()
    expected = pixels
    for level in levels[1:]:
        expected = halved(expected)
        assert np.array_equal(level, expected)


# -- bands -------------------------------------------------------------------------------------------------------------

PNG_OPTIONS: list[dict[str, Any]] = [{"compression": 0}, {"filter": "none"}, {}]
PNGS = list(itertools.product(KINDS, PNG_OPTIONS))
JPEGS = list(itertools.product(["u1", "u2"], [1, 3, 4], ["420", "422", "444"]))


@pytest.fixture
def low_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many bands of few rows, as wide pictures have them."""
    monkeypatch.setattr(region_bands_writer, "_BAND_BYTES", 1000)
    monkeypatch.setattr(region_bands_writer, "_LEAST_ROWS", 1)


@pytest.mark.usefixtures("low_bands")
def test_a_png_by_bands_holds_the_pixels_of_one_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.png"
    for (dtype, channels), options in PNGS:
        pixels = picture(97, 131, channels, dtype)
        write_all(create_regions(path, raster_of(pixels), options=options), pixels, threads=3)
        expected = decode(encode(Image(pixels), "png", options)).pixels
        assert np.array_equal(decode(path.read_bytes()).pixels, expected)


@pytest.mark.usefixtures("low_bands")
def test_a_jpeg_by_bands_holds_the_pixels_of_one_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.jpg"
    for dtype, channels, sampling in JPEGS:
        pixels, options = picture(97, 333, channels, dtype), {"subsampling": sampling}
        write_all(create_regions(path, raster_of(pixels), options=options), pixels, threads=3)
        expected = decode(encode(Image(pixels), "jpeg", options)).pixels
        assert np.array_equal(decode(path.read_bytes()).pixels, expected)


def test_bands_that_come_too_early_are_not_piled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(region_bands_writer, "MAX_EARLY_BYTES", 5000)
    pixels = np.random.default_rng(0).integers(0, 256, (640, 400), np.uint8)
    monkeypatch.setattr(region_bands_writer, "_BAND_BYTES", 1000)
    writer = create_regions(tmp_path / "out.png", raster_of(pixels))
    with pytest.raises(RunError, match="before their turn"):
        writer.write(Region(0, 64, 400, 64), pixels[64:128])
    writer.abort()
    assert not names(tmp_path)


# -- trees -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_a_zarr_array_is_read_by_its_own_library(tmp_path: Path, version: int, compression: str) -> None:
    for dtype, channels in KINDS:
        pixels = picture(150, 200, channels, dtype)
        options = {"version": version, "compression": compression, "tile": 64}
        write_all(create_regions(tmp_path / "out.zarr", raster_of(pixels), options=options), pixels, order=shuffled)
        array = zarr.open_array(tmp_path / "out.zarr", mode="r")
        assert array.dtype == pixels.dtype
        assert np.array_equal(np.asarray(array[:]), pixels)
    assert names(tmp_path) == ["out.zarr"]


def test_deep_zoom_has_every_level_down_to_one_pixel(tmp_path: Path) -> None:
    pixels = picture(300, 200)
    writer = create_regions(tmp_path / "out.dzi", raster_of(pixels), options={"tiles": "png", "tile": 64})
    write_all(writer, pixels, order=shuffled)
    assert names(tmp_path) == ["out.dzi", "out.html", "out_files"]
    assert 'TileSize="64"><Size Width="300" Height="200"/>' in (tmp_path / "out.dzi").read_text()
    expected = pixels
    for level in range(9, -1, -1):
        grid = Grid(Size(expected.shape[1], expected.shape[0]), Size(64, 64))
        folder = tmp_path / "out_files" / str(level)
        assert len(names(folder)) == len(grid)
        for number in range(len(grid)):
            row, column = divmod(number, grid.across)
            tile = decode((folder / f"{column}_{row}.png").read_bytes()).pixels
            assert np.array_equal(tile, grid.place(number).of(expected, Region(0, 0, *grid.size)))
        expected = halved(expected)
    assert expected.shape == (1, 1, 3)
    # The same names as libvips gives.
    theirs = pyvips.Image.new_from_array(pixels)
    theirs.dzsave(str(tmp_path / "theirs"), tile_size=64, overlap=0, suffix=".png")
    ours = {str(path.relative_to(tmp_path / "out_files")) for path in (tmp_path / "out_files").rglob("*.png")}
    assert ours == {str(p.relative_to(tmp_path / "theirs_files")) for p in (tmp_path / "theirs_files").rglob("*.png")}


# -- whole or not at all -----------------------------------------------------------------------------------------------

NAMES = ["out.tif", "out.png", "out.jpg", "out.dzi", "out.zarr"]


@pytest.mark.parametrize("name", NAMES)
def test_nothing_has_the_name_before_the_end_and_nothing_is_left_after_an_abort(tmp_path: Path, name: str) -> None:
    pixels = picture(600, 600)
    writer = create_regions(tmp_path / name, raster_of(pixels))
    first = Grid(raster_of(pixels).size, writer.unit).place(0)
    writer.write(first, first.of(pixels, Region(0, 0, 600, 600)))
    assert not [found for found in names(tmp_path) if not found.startswith(".")]
    writer.abort()
    writer.abort()
    assert not names(tmp_path)


@pytest.mark.parametrize("name", [*NAMES, "cog.tif"])
def test_a_result_that_lacks_a_tile_is_no_result(tmp_path: Path, name: str) -> None:
    pixels = picture(600, 1200)
    options = {"cog": True} if name == "cog.tif" else None
    writer = create_regions(tmp_path / name, raster_of(pixels), options=options)
    first = Grid(raster_of(pixels).size, writer.unit).place(0)
    writer.write(first, first.of(pixels, Region(0, 0, 600, 1200)))
    with pytest.raises(RunError, match="not whole"):
        writer.finish()
    writer.abort()
    assert not names(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_a_result_takes_the_place_of_one_that_is_there_or_leaves_it(tmp_path: Path, name: str) -> None:
    old, new = picture(600, 500, seed=1), picture(300, 200, seed=2)
    write_all(create_regions(tmp_path / name, raster_of(old)), old)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    writer = create_regions(tmp_path / name, raster_of(new), if_absent=True)
    with pytest.raises(ObjectExists, match="Choose another name"):
        write_all(writer, new)
    writer.abort()
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    write_all(create_regions(tmp_path / name, raster_of(new)), new)
    after = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(after) < len(before) or name in ("out.tif", "out.png", "out.jpg")
    assert not [found for found in names(tmp_path) if found.startswith(".")]
    if name in ("out.tif", "out.png"):
        assert np.array_equal(read_all(open_regions(tmp_path / name)), new)


WRITE_ALL = """
import json, resource, sys
from pathlib import Path
import numpy as np
from pixelmill.errors import PixelmillError
from pixelmill.images.region_writers import create_regions
from region_tools import raster_of, write_all
pixels = np.random.default_rng(0).integers(0, 256, (1500, 1500, 3), np.uint8)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))
for name in sys.argv[1:]:
    writer = create_regions(Path(name), raster_of(pixels), options={"cog": True} if name == "cog.tif" else None)
    try:
        write_all(writer, pixels)
    except PixelmillError as error:
        print(json.dumps([name, error.type, error.detail]))
    finally:
        writer.abort()
"""


def test_a_full_disk_half_way_is_an_error_of_its_own(tmp_path: Path) -> None:
    """The limit of a file's size stands for a small disk: the system says both in the same way, at a write."""
    support, wanted = str(Path(__file__).parent.parent / "support"), [*NAMES, "cog.tif"]
    ran = subprocess.run(
        [sys.executable, "-c", WRITE_ALL, *wanted],
        env={**os.environ, "PYTHONPATH": support},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    said = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [(name, kind) for name, kind, _ in said] == [(name, StorageFull.type) for name in wanted]
    assert all("Free some space" in detail for _, _, detail in said)
    assert not names(tmp_path)


def test_a_disk_without_room_leaves_nothing(tmp_path: Path) -> None:
    """A real small file system, where the user may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("only root may mount a file system")
    try:
        pixels = np.random.default_rng(0).integers(0, 256, (2000, 2000, 3), np.uint8)
        for name in NAMES:
            writer = create_regions(disk / name, raster_of(pixels))
            with pytest.raises(StorageFull):
                write_all(writer, pixels)
            writer.abort()
            assert not names(disk)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "raster", "options", "error"),
    [
        ("out.webp", Raster(Size(9, 9), 3, np.dtype("u1")), None, UnknownOperation),
        ("out.tif", Raster(Size(9, 9), 4, np.dtype("u1")), {"compression": "jpeg"}, NotApplicable),
        ("out.tif", Raster(Size(9, 9), 3, np.dtype("u2")), {"compression": "jpeg"}, NotApplicable),
        ("out.tif", Raster(Size(9, 9), 3, np.dtype("u1")), {"tile": 100}, InvalidParameter),
        ("out.tif", Raster(Size(9, 9), 3, np.dtype("u1")), {"tiles": 512}, InvalidParameter),
        ("out.jpg", Raster(Size(65_501, 9), 3, np.dtype("u1")), None, NotApplicable),
        ("out.jpg", Raster(Size(9, 9), 3, np.dtype("u1")), {"progressive": True}, NotApplicable),
        ("out.png", Raster(Size(9, 9), 3, np.dtype("u1")), {"colors": 16}, NotApplicable),
        ("out.tif", Raster(Size(200_000, 200_000), 3, np.dtype("u1")), {"tile": 64}, NotApplicable),
        ("out.dzi", Raster(Size(200_000, 200_000), 3, np.dtype("u1")), {"tile": 64}, NotApplicable),
        ("out.zarr", Raster(Size(200_000, 200_000), 3, np.dtype("u1")), {"tile": 64}, NotApplicable),
    ],
)
def test_what_a_format_cannot_hold_is_said_before_anything_is_written(
    tmp_path: Path, name: str, raster: Raster, options: dict[str, Any] | None, error: type[PixelmillError]
) -> None:
    with pytest.raises(error):
        create_regions(tmp_path / name, raster, options=options)
    assert not names(tmp_path)


@pytest.mark.parametrize(
    ("name", "options"),
    [("out.tif", {"compression": "zstd"}), ("out.tif", {"compression": "lzw"}), ("out.zarr", {"compression": "zstd"})],
    ids=str,
)
def test_without_the_extra_what_needs_it_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(tile_codecs, "library", lambda: None)
    with pytest.raises(MissingExtra, match=r"pip install 'pixelmill\[tiles\]'"):
        create_regions(tmp_path / name, Raster(Size(9, 9), 3, np.dtype("u1")), options=options)
    assert not names(tmp_path)


def test_without_the_extra_deflate_is_that_of_zlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_codecs, "library", lambda: None)
    pixels = picture(300, 200)
    write_all(create_regions(tmp_path / "out.tif", raster_of(pixels), options={"tile": 64}), pixels)
    assert np.array_equal(decode((tmp_path / "out.tif").read_bytes()).pixels, pixels)


def test_a_region_off_the_grid_is_a_mistake_of_the_caller(tmp_path: Path) -> None:
    pixels = picture(600, 600)
    writer = create_regions(tmp_path / "out.tif", raster_of(pixels))
    with pytest.raises(ValueError, match="does not lie along the grid"):
        writer.write(Region(1, 0, 512, 512), pixels[:512, 1:513])
    writer.abort()


def test_a_wide_jpeg_keeps_its_restarts_within_what_the_format_counts(tmp_path: Path) -> None:
    pixels = picture(65_500, 70, 1)
    write_all(create_regions(tmp_path / "out.jpg", raster_of(pixels)), pixels)
    theirs = pyvips.Image.new_from_file(str(tmp_path / "out.jpg"), fail_on="warning").numpy()
    assert np.abs(theirs.astype(int) - pixels).mean() < 5
