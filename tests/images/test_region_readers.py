"""Regions of a file are those of the whole picture, whatever its format, tiles, color and orientation.

Hostile files end in an error that names the tile, in bounded time and memory.
"""

from __future__ import annotations

import io
import itertools
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageCms
from region_tools import picture, read_all

from pixelmill.errors import (
    CorruptImage,
    InputError,
    LimitExceeded,
    MissingExtra,
    NotApplicable,
    ObjectNotFound,
    PixelmillError,
    UnsupportedFormat,
)
from pixelmill.images import tile_codecs
from pixelmill.images.block_cache import BlockCache
from pixelmill.images.byte_sources import BytesSource, FetchedSource
from pixelmill.images.decode import decode
from pixelmill.images.image import Image, Need, Size
from pixelmill.images.limits import RegionLimits
from pixelmill.images.orientation import stored_region, upright
from pixelmill.images.region_readers import open_regions
from pixelmill.images.region_rows import RowsReader, ScratchReader
from pixelmill.images.region_tiff import TiffReader
from pixelmill.images.regions import Region


def same_as_whole(data: bytes, *, keep_icc: bool = False, **options: Any) -> type:
    """Whole and some regions, against ``decode``; gives the reader's class."""
    expected = decode(data, Need(icc=keep_icc))
    reader = open_regions(data, keep_icc=keep_icc, **options)
    width, height = reader.raster.size
    assert reader.raster.size == expected.size
    assert (reader.raster.channels, reader.raster.dtype) == (expected.channels, expected.pixels.dtype)
    assert reader.raster.icc == expected.icc
    whole = Region(0, 0, width, height)
    rng = np.random.default_rng(len(data))
    for _ in range(4):
        left, top = int(rng.integers(width)), int(rng.integers(height))
        part = Region(left, top, int(rng.integers(1, width - left + 1)), int(rng.integers(1, height - top + 1)))
        found = reader.read(part)
        assert np.array_equal(found, part.of(expected.pixels, whole))
        assert found.flags.writeable
    assert np.array_equal(read_all(reader), expected.pixels)
    return type(reader)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    """By tifffile, which writes more kinds than we do."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


# -- TIFF --------------------------------------------------------------------------------------------------------------

LAYOUTS: list[dict[str, Any]] = [
    {"rowsperstrip": 7},
    {"rowsperstrip": 1000},
    {"tile": (32, 48)},
    {"tile": (256, 256)},
    {"tile": (32, 48), "bigtiff": True},
    {"rowsperstrip": 7, "byteorder": ">"},
    {"tile": (32, 48), "byteorder": ">"},
    {"tile": (32, 48), "byteorder": ">", "bigtiff": True},
]
PACKINGS: list[dict[str, Any]] = [
    {},
    {"compression": "zlib"},
    {"compression": "zlib", "predictor": True},
    {"compression": "lzw", "predictor": True},
    {"compression": "packbits"},
]


@pytest.mark.parametrize("packing", PACKINGS, ids=str)
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_tiffs_of_every_layout_packing_and_depth(layout: dict[str, Any], packing: dict[str, Any]) -> None:
    for dtype, channels in itertools.product(["u1", "u2", "f4"], [1, 3, 4]):
        color: dict[str, Any] = {"photometric": "minisblack" if channels == 1 else "rgb"}
        if channels == 4:
            color["extrasamples"] = ["unassalpha"]
        pixels = picture(131, 97, channels, dtype)
        data = tiff(pixels, **layout, **packing, **color)
        assert same_as_whole(data) is TiffReader
        assert np.array_equal(read_all(open_regions(data)), pixels)


@pytest.mark.parametrize("packing", [{}, {"compression": "zlib", "predictor": True}], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS[:4], ids=str)
def test_tiffs_of_unusual_color(layout: dict[str, Any], packing: dict[str, Any]) -> None:
    rng = np.random.default_rng(0)
    gray, color = picture(131, 97, 1), picture(131, 97, 3)
    planes = np.ascontiguousarray(np.moveaxis(color, 2, 0))
    deep_planes = np.ascontiguousarray(np.moveaxis(picture(131, 97, 3, "u2"), 2, 0))
    alpha = picture(131, 97, 4)
    table = rng.integers(0, 65_536, (3, 256), np.uint16)
    files = [
        tiff(gray, photometric="miniswhite", **layout, **packing),
        tiff(picture(131, 97, 1, "u2"), photometric="miniswhite", **layout, **packing),
        tiff(gray, photometric="palette", colormap=table, **layout, **packing),
        tiff(planes, photometric="rgb", planarconfig="separate", **layout, **packing),
        tiff(deep_planes, photometric="rgb", planarconfig="separate", **layout, **packing),
        tiff(alpha, photometric="rgb", extrasamples=["assocalpha"], **layout, **packing),
        tiff(alpha, photometric="rgb", extrasamples=["unspecified"], **layout, **packing),
        tiff(picture(131, 97, 4, "u2"), photometric="rgb", extrasamples=["assocalpha"], **layout, **packing),
        tiff(alpha, photometric="separated", **layout, **packing),
        tiff(np.dstack((gray, gray)), photometric="minisblack", extrasamples=["unassalpha"], **layout, **packing),
    ]
    if not packing:
        files.append(tiff(gray > 127, photometric="minisblack", **layout))
    for data in files:
        same_as_whole(data)


@pytest.mark.parametrize("tile", [None, (64, 64)])
@pytest.mark.parametrize("photometric", ["ycbcr", "rgb", "minisblack"])
def test_tiffs_of_jpeg(tile: tuple[int, int] | None, photometric: str) -> None:
    pixels = picture(131, 97, 1 if photometric == "minisblack" else 3)
    where: dict[str, Any] = {"tile": tile} if tile else {"rowsperstrip": 16}
    same_as_whole(tiff(pixels, photometric=photometric, compression="jpeg", **where))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_is_read_upright(orientation: int) -> None:
    for options in ({"tile": (32, 48)}, {"rowsperstrip": 9}, {"rowsperstrip": 9, "compression": "zlib"}):
        extra = [(274, "H", 1, orientation, True)]
        same_as_whole(tiff(picture(131, 97), photometric="rgb", extratags=extra, **options))


@pytest.mark.parametrize("keep_icc", [False, True])
@pytest.mark.parametrize("dtype", ["u1", "u2"])
def test_profiles_are_treated_as_in_whole_images(assets: Path, dtype: str, keep_icc: bool) -> None:
    found = [path for path in sorted(assets.rglob("*.tif*")) if "icc" in path.name.lower()]
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profiles = [srgb, b"broken"]
    for path in found:
        same_as_whole(path.read_bytes(), keep_icc=keep_icc)
    for profile in profiles:
        same_as_whole(tiff(picture(90, 70, 3, dtype), photometric="rgb", tile=(32, 32), iccprofile=profile))


def test_every_tiff_of_the_assets_is_read_as_whole_or_refused_as_whole(assets: Path) -> None:
    read = 0
    for path in sorted(assets.rglob("*.tif*")):
        data = path.read_bytes()
        try:
            decode(data)
        except InputError:
            with pytest.raises(InputError):
                read_all(open_regions(data))
            continue
        assert same_as_whole(data) is TiffReader, path
        read += 1
    assert read > 20


def test_pages_and_levels_are_counted_apart() -> None:
    buffer = io.BytesIO()
    first, second = picture(200, 160, seed=1), picture(120, 90, seed=2)
    with tifffile.TiffWriter(buffer) as file:
        file.write(first, photometric="rgb", tile=(64, 64))
        file.write(first[::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
        file.write(first[::4, ::4], photometric="rgb", tile=(64, 64), subfiletype=1)
        file.write(second, photometric="rgb", tile=(64, 64))
    data = buffer.getvalue()
    assert np.array_equal(read_all(open_regions(data)), first)
    assert np.array_equal(read_all(open_regions(data, level=1)), first[::2, ::2])
    assert np.array_equal(read_all(open_regions(data, level=2)), first[::4, ::4])
    assert np.array_equal(read_all(open_regions(data, page=1)), second)
    for page, level in ((2, 0), (0, 3), (1, 1)):
        with pytest.raises(NotApplicable):
            open_regions(data, page=page, level=level)


def test_levels_in_sub_directories_are_found() -> None:
    buffer, pixels = io.BytesIO(), picture(200, 160)
    with tifffile.TiffWriter(buffer, bigtiff=True) as file:
        file.write(pixels, photometric="rgb", tile=(64, 64), subifds=2)
        file.write(pixels[::2, ::2], photometric="rgb", tile=(64, 64), subfiletype=1)
        file.write(pixels[::4, ::4], photometric="rgb", tile=(64, 64), subfiletype=1)
    assert np.array_equal(read_all(open_regions(buffer.getvalue(), level=2)), pixels[::4, ::4])


@given(
    stored=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    turn=st.integers(1, 8),
    corners=st.tuples(*[st.floats(0, 1)] * 4),
)
@settings(max_examples=200, deadline=None)
def test_a_region_of_the_upright_picture_lies_where_it_is_stored(
    stored: tuple[int, int], turn: int, corners: tuple[float, float, float, float]
) -> None:
    pixels = np.arange(stored[0] * stored[1], dtype=np.uint16).reshape(stored[1], stored[0])
    whole = upright(pixels, turn)
    width, height = whole.shape[1], whole.shape[0]
    left, top = int(corners[0] * (width - 1)), int(corners[1] * (height - 1))
    part = Region(left, top, 1 + int(corners[2] * (width - left - 1)), 1 + int(corners[3] * (height - top - 1)))
    place = stored_region(part, Size(*stored), turn)
    found = upright(pixels[place.top : place.bottom, place.left : place.right], turn)
    assert np.array_equal(found, part.of(whole, Region(0, 0, width, height)))


def test_threads_read_at_once(tmp_path: Path) -> None:
    pixels = picture(600, 500)
    for options in ({"compression": "zlib", "tile": (64, 64)}, {"tile": (64, 64)}, {"rowsperstrip": 5}):
        (tmp_path / "in.tif").write_bytes(tiff(pixels, photometric="rgb", **options))
        reader = open_regions(tmp_path / "in.tif", cache_bytes=50_000)
        parts = [Region(x, y, 150, 120) for x in range(0, 450, 30) for y in range(0, 380, 30)]
        with ThreadPoolExecutor(4) as pool:
            for part, found in zip(parts, pool.map(reader.read, parts), strict=True):
                assert np.array_equal(found, part.of(pixels, Region(0, 0, 600, 500)))
        reader.close()


def test_without_the_extra_common_tiles_are_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    files = [
        tiff(picture(131, 97), photometric="rgb", tile=(64, 64), compression=name, predictor=True)
        for name in ("zlib", "lzw")
    ]
    files.append(tiff(picture(131, 97, 1, "f4"), tile=(64, 64), compression="zlib", predictor=3))
    monkeypatch.setattr(tile_codecs, "library", lambda: None)
    for data in files:
        same_as_whole(data)


# -- rows --------------------------------------------------------------------------------------------------------------


def png(pixels: NDArray[Any], mode: str | None = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image = Pil.fromarray(pixels)
    (image.convert(mode) if mode else image).save(buffer, "PNG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA"])
def test_a_png_in_rows_is_the_whole_png(mode: str) -> None:
    pixels = picture(173, 301)
    assert same_as_whole(png(pixels, mode), cache_bytes=0) is RowsReader
    if mode in ("L", "RGB", "P"):
        same_as_whole(
            png(pixels, mode, transparency=0 if mode != "RGB" else tuple(pixels[5, 5].tolist())), cache_bytes=0
        )
    if mode == "P":
        same_as_whole(png(pixels, mode, bits=4), cache_bytes=0)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_deep_png_in_rows_is_the_whole_png(channels: int) -> None:
    import cv2

    done, body = cv2.imencode(".png", picture(173, 301, channels, "u2"))
    assert done
    assert same_as_whole(body.tobytes(), cache_bytes=0) is RowsReader


@pytest.mark.parametrize(
    "options", [{}, {"subsampling": 0}, {"restart_marker_rows": 1}, {"progressive": True}], ids=str
)
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_jpeg_in_rows_is_the_whole_jpeg(mode: str, options: dict[str, Any]) -> None:
    buffer = io.BytesIO()
    Pil.fromarray(picture(173, 301)).convert(mode).save(buffer, "JPEG", **options)
    assert same_as_whole(buffer.getvalue(), cache_bytes=0) is RowsReader


@pytest.mark.parametrize("orientation", range(2, 9))
def test_a_turned_picture_in_rows_goes_by_way_of_a_scratch_file(orientation: int) -> None:
    for fmt in ("JPEG", "PNG"):
        exif = Pil.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Pil.fromarray(picture(173, 301)).save(buffer, fmt, exif=exif)
        assert same_as_whole(buffer.getvalue(), cache_bytes=0) is ScratchReader


def test_every_png_and_jpeg_of_the_assets_is_read_in_rows_as_whole(assets: Path) -> None:
    classes = []
    for path in sorted(assets.rglob("*")):
        if path.suffix.lower() not in (".png", ".jpg", ".jpeg") or path.stat().st_size > 300_000:
            continue
        data = path.read_bytes()
        try:
            decode(data)
        except LimitExceeded:
            continue  # frames count in whole images alone
        except InputError as error:
            with pytest.raises(type(error)):
                read_all(open_regions(data, cache_bytes=0))
            continue
        classes.append(same_as_whole(data, cache_bytes=0))
    assert classes.count(RowsReader) > 100


def test_rows_above_are_decoded_anew_and_rows_that_are_kept_are_not() -> None:
    begun = 0
    pixels = picture(100, 640, 1)

    def bands() -> Any:
        nonlocal begun
        begun += 1
        yield from np.split(pixels, 10)

    reader = RowsReader(bands, open_regions(Image(pixels)).raster, lambda: None, keep_bytes=100 * 192)
    whole = Region(0, 0, 100, 640)
    for top in range(0, 600, 40):
        part = Region(10, top, 50, 40)
        assert np.array_equal(reader.read(part), part.of(pixels, whole))
        part = Region(0, max(0, top - 40), 100, 40)  # what was read just before
        assert np.array_equal(reader.read(part), part.of(pixels, whole))
    assert begun == 1
    assert np.array_equal(reader.read(Region(0, 0, 100, 1)), pixels[:1])
    assert begun == 2


def test_small_and_other_formats_are_decoded_whole(photo: bytes) -> None:
    for fmt in ("WEBP", "GIF", "BMP"):
        buffer = io.BytesIO()
        Pil.fromarray(picture(60, 50)).save(buffer, fmt)
        same_as_whole(buffer.getvalue())
    same_as_whole(photo)


def test_without_the_extra_a_large_jpeg_names_it(monkeypatch: pytest.MonkeyPatch, photo: bytes) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("pixelmill.images.extras.importlib.import_module", missing)
    with pytest.raises(MissingExtra, match=r"pip install 'pixelmill\[tiles\]'"):
        read_all(open_regions(photo, cache_bytes=0))


# -- hostile files -----------------------------------------------------------------------------------------------------


def tags_at(data: bytes) -> dict[int, int]:
    """Places of the entries of a small little-endian TIFF's first directory."""
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    return {struct.unpack_from("<H", data, at + 2 + 12 * n)[0]: at + 2 + 12 * n for n in range(count)}


def with_value(data: bytes, tag: int, value: int, number: int = 0) -> bytes:
    """One number of a tag changed, in its entry or in the list that it names."""
    place = tags_at(data)[tag]
    kind, count, at = struct.unpack_from("<HII", data, place + 2)
    size = {3: 2, 4: 4}[kind]
    start = place + 8 if size * count <= 4 else at
    changed = bytearray(data)
    struct.pack_into("<H" if size == 2 else "<I", changed, start + size * number, value)
    return bytes(changed)


GOOD = tiff(picture(200, 150), photometric="rgb", tile=(64, 64), compression="zlib")


@pytest.mark.parametrize(
    ("data", "error", "says"),
    [
        (with_value(GOOD, 324, 2**31, 5), CorruptImage, "the tile in column 1 of row 1 lies outside"),
        (with_value(GOOD, 325, 2**31, 5), CorruptImage, "the tile in column 1 of row 1 lies outside"),
        (with_value(GOOD, 325, 0, 5), CorruptImage, "column 1 of row 1 was never written"),
        (with_value(GOOD, 256, 20_000), CorruptImage, "tiles or strips make its picture"),
        (with_value(GOOD, 256, 0), CorruptImage, "the size 0×150"),
        (with_value(GOOD, 322, 0), CorruptImage, "tiles are of the size 0×64"),
        (with_value(GOOD, 322, 65_520), CorruptImage, "tiles or strips make its picture"),
        (with_value(GOOD, 259, 34_712), UnsupportedFormat, "compression 34712"),
        (GOOD[: len(GOOD) // 2], CorruptImage, "lies outside|ends before"),
        (GOOD[:7], CorruptImage, "header"),
        (b"II*\0\0\0\0\0", CorruptImage, "names no directory"),
        (b"II+\0\x08\0\0\0" + bytes(8), CorruptImage, "names no directory"),
    ],
    ids=range(12),
)
def test_a_lying_tiff_is_refused_when_it_is_opened(data: bytes, error: type[PixelmillError], says: str) -> None:
    with pytest.raises(error, match=says):
        open_regions(data)


def test_a_tile_that_can_not_be_unpacked_is_named_and_the_others_are_read() -> None:
    (start,) = struct.unpack_from("<I", GOOD, struct.unpack_from("<I", GOOD, tags_at(GOOD)[324] + 8)[0] + 4 * 6)
    for replaced in (b"\xff" * 60, b"\x78\x9c" + b"\0" * 58):
        reader = open_regions(GOOD[:start] + replaced + GOOD[start + 60 :])
        assert np.array_equal(reader.read(Region(0, 0, 128, 128)), picture(200, 150)[:128, :128])
        with pytest.raises(CorruptImage, match="the tile in column 2 of row 1"):
            reader.read(Region(100, 100, 50, 20))
        reader.close()


def test_a_jpeg_tile_that_can_not_be_unpacked_is_named() -> None:
    good = tiff(picture(200, 150), photometric="ycbcr", tile=(64, 64), compression="jpeg")
    (start,) = struct.unpack_from("<I", good, struct.unpack_from("<I", good, tags_at(good)[324] + 8)[0] + 4 * 6)
    reader = open_regions(good[:start] + b"\0" * 40 + good[start + 40 :])
    with pytest.raises(CorruptImage, match="column 2 of row 1"):
        reader.read(Region(130, 70, 5, 5))


def test_directories_in_a_circle_end() -> None:
    (at,) = struct.unpack_from("<I", GOOD, 4)
    (count,) = struct.unpack_from("<H", GOOD, at)
    circle = bytearray(GOOD)
    struct.pack_into("<I", circle, at + 2 + 12 * count, at)
    with pytest.raises(NotApplicable):
        open_regions(bytes(circle), page=1)
    with pytest.raises(NotApplicable):
        open_regions(bytes(circle), level=1)


BOMB = """
import resource, sys, time
from pathlib import Path
from pixelmill.errors import PixelmillError
from pixelmill.images.region_readers import open_regions
from pixelmill.images.regions import Region
for name in sys.argv[1:]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        reader = open_regions(Path(name))
        reader.read(Region(0, 0, 10, 10))
        said = "read"
    except PixelmillError as error:
        said = error.type
    print(said, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_bombs_within_a_tile_take_no_more_memory_than_the_tile(tmp_path: Path) -> None:
    import zlib

    zeros = zlib.compress(bytes(400 << 20), 9)  # 400 kB that would be 400 MB
    small = tiff(np.zeros((64, 64), np.uint8), tile=(64, 64), compression="zlib")
    place = len(small) + len(small) % 2
    bomb = small.ljust(place, b"\0") + zeros
    bomb = with_value(with_value(bomb, 324, place), 325, len(zeros))
    (tmp_path / "bomb.tif").write_bytes(bomb)
    huge = tiff(np.zeros((16, 16), np.uint8), tile=(16, 16), compression="zlib")
    for tag in (256, 257, 322, 323):
        huge = with_value(huge, tag, 65_520)
    (tmp_path / "huge.tif").write_bytes(huge)
    ran = subprocess.run(
        [sys.executable, "-c", BOMB, str(tmp_path / "bomb.tif"), str(tmp_path / "huge.tif")],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert ran.returncode == 0, ran.stderr
    (first, grown), (second, more) = (line.split() for line in ran.stdout.splitlines())
    assert first == CorruptImage.type
    assert second == LimitExceeded.type
    assert int(grown) < 60_000  # kB: libraries that are loaded, not 400 MB
    assert int(more) < 60_000


@given(place=st.integers(0, 400), value=st.integers(0, 255), more=st.integers(0, 2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_changed_bytes_of_a_header_end_in_an_error_of_ours_or_in_pixels(place: int, value: int, more: int) -> None:
    (at,) = struct.unpack_from("<I", GOOD, 4)
    spots = [*range(16), *range(at, min(len(GOOD), at + 385))]
    broken = bytearray(GOOD)
    broken[spots[place % len(spots)]] = value
    broken[spots[more % len(spots)]] ^= more >> 16 & 0xFF
    try:
        reader = open_regions(bytes(broken), RegionLimits(max_unit_bytes=50_000_000, max_pixels=100_000_000))
        width, height = reader.raster.size
        reader.read(Region(0, 0, min(300, width), min(300, height)))
        reader.close()
    except PixelmillError:
        pass


def test_a_picture_or_tile_beyond_the_limits_is_refused() -> None:
    for limits in (RegionLimits(max_pixels=29_999), RegionLimits(max_side=199), RegionLimits(max_unit_bytes=12_287)):
        with pytest.raises(LimitExceeded):
            open_regions(GOOD, limits)
    assert read_all(open_regions(GOOD, RegionLimits(30_000, 200, 12_288))).shape == (150, 200, 3)


def test_a_progressive_jpeg_whose_coefficients_would_fill_the_memory_is_refused() -> None:
    buffer = io.BytesIO()
    Pil.fromarray(picture(200, 150)).save(buffer, "JPEG", progressive=True)
    with pytest.raises(LimitExceeded, match="progressive JPEG"):
        open_regions(buffer.getvalue(), RegionLimits(max_unit_bytes=170_000), cache_bytes=0)


def test_what_is_no_image_or_not_there_is_said(tmp_path: Path) -> None:
    (tmp_path / "text.tif").write_text("no image at all")
    with pytest.raises(UnsupportedFormat):
        open_regions(tmp_path / "text.tif")
    with pytest.raises(ObjectNotFound):
        open_regions(tmp_path / "absent.tif")
    (tmp_path / "empty.tif").write_bytes(b"")
    with pytest.raises(InputError):
        open_regions(tmp_path / "empty.tif")


@pytest.mark.parametrize("fmt", ["PNG", "JPEG"])
def test_a_cut_picture_in_rows_is_refused_where_it_ends(fmt: str) -> None:
    buffer = io.BytesIO()
    Pil.fromarray(picture(400, 600)).save(buffer, fmt)
    data = buffer.getvalue()
    for share in (0.3, 0.9, 0.999):
        with pytest.raises(CorruptImage):
            read_all(open_regions(data[: int(len(data) * share)], cache_bytes=0))


# -- sources and the cache ---------------------------------------------------------------------------------------------


def test_small_reads_of_a_fetched_source_share_blocks_and_long_ones_are_one_request() -> None:
    data = np.random.default_rng(0).bytes(5 << 20)
    asked: list[tuple[int, int]] = []

    def fetch(start: int, length: int) -> bytes:
        asked.append((start, length))
        return data[start : start + length]

    source = FetchedSource(fetch, len(data))
    for start in range(0, 3000, 100):
        assert source.read_at(start, 100) == data[start : start + 100]
    assert asked == [(0, 1 << 20)]
    assert source.read_at((1 << 20) - 50, 100) == data[(1 << 20) - 50 : (1 << 20) + 50]
    assert len(asked) == 2
    assert source.read_at(1234, 3 << 20) == data[1234 : 1234 + (3 << 20)]
    assert asked[2:] == [(1234, 3 << 20)]
    with pytest.raises(CorruptImage):
        source.read_at(len(data) - 10, 11)


def test_a_cache_holds_no_more_than_its_bound_and_makes_a_value_once() -> None:
    made: list[int] = []

    def make(key: int) -> bytes:
        made.append(key)
        return bytes(10)

    cache: BlockCache[bytes] = BlockCache(35, len)
    for key in (1, 2, 3, 1, 4, 1, 2):
        cache.get(key, lambda key=key: make(key))  # type: ignore[misc]
        assert cache.bytes <= 35
    assert made == [1, 2, 3, 4, 2]
    assert cache.get("large", lambda: bytes(100)) == bytes(100)
    assert cache.bytes <= 35
    with pytest.raises(ZeroDivisionError):
        cache.get("broken", lambda: bytes(1 // 0))
    assert cache.get("broken", lambda: b"again") == b"again"


def test_bytes_are_a_source_too() -> None:
    assert BytesSource(b"abcdef").read_at(2, 3) == b"cde"
    with pytest.raises(CorruptImage):
        BytesSource(b"abcdef").read_at(4, 3)
