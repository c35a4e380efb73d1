"""AVIF, GIF, BMP, ICO, QOI and JPEG 2000: read as Pillow reads them, written as asked, refused by name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from damage import flipped, must_decode_or_be_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pil
from PIL import ImageCms, ImageOps

from pixelmill.errors import CorruptImage, InputError, InvalidParameter, LimitExceeded, UnsupportedFormat
from pixelmill.images import pillow_header
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe

KINDS = ["avif", "gif", "bmp", "bmp-rle", "ico", "ico-bmp", "qoi", "jp2", "j2k"]


def qoi(pixels: Any) -> bytes:
    """QOI of nothing but whole pixels, by its specification."""
    height, width, channels = pixels.shape
    tag = b"\xfe" if channels == 3 else b"\xff"
    body = b"".join(tag + bytes(pixel) for pixel in pixels.reshape(-1, channels))
    return b"qoif" + struct.pack(">IIBB", width, height, channels, 0) + body + bytes(7) + b"\1"


def run_length_bmp(width: int, height: int, body: bytes) -> bytes:
    """A BMP of 8 bits, run-length coded, with two colors in its palette."""
    palette = bytes([10, 20, 30, 0, 200, 100, 50, 0])
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 2, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + header + palette + body


@pytest.fixture(scope="session")
def more(pictures: Any) -> dict[str, bytes]:
    """A small file of each kind."""
    rgb = pictures.draw(48, 40)
    picture = Pil.fromarray(rgb)
    return {
        "avif": pictures.write(rgb, "avif", speed=9),
        "gif": pictures.write(rgb, "gif"),
        "bmp": pictures.write(rgb, "bmp"),
        "bmp-rle": run_length_bmp(48, 40, (b"\x18\x01\x18\x00\0\0" * 40) + b"\0\1"),
        "ico": pictures.write(picture, "ico", sizes=[(16, 16), (48, 40)]),
        "ico-bmp": pictures.write(picture, "ico", sizes=[(48, 40)], bitmap_format="bmp"),
        "qoi": qoi(rgb),
        "jp2": pictures.write(rgb, "jpeg2000"),
        "j2k": pictures.write(rgb, "jpeg2000", no_jp2=True),
    }


def same(data: bytes, within: int = 0) -> None:
    """The decoded pixels are Pillow's, turned upright, and the probe told their size."""
    image = decode(data)
    with Pil.open(io.BytesIO(data)) as opened:
        wanted = ImageOps.exif_transpose(opened).convert({1: "L", 3: "RGB", 4: "RGBA"}[image.channels])
    assert image.icc is None
    assert image.pixels.flags.c_contiguous
    difference = np.abs(image.pixels.astype(int) - np.asarray(wanted))
    assert difference.max() <= within
    info = probe(data)
    assert info.size == image.size
    assert info.bytes == len(data)
    assert info.has_alpha == image.has_alpha


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_is_read_as_pillow_reads_it(more: dict[str, bytes], kind: str) -> None:
    same(more[kind])


@pytest.mark.parametrize(
    ("fmt", "modes"),
    [
        ("avif", ["L", "RGB", "RGBA", "LA", "P"]),
        ("gif", ["1", "L", "P", "RGB", "RGBA", "LA"]),
        ("bmp", ["1", "L", "P", "RGB", "RGBA"]),
        ("ico", ["1", "L", "RGB", "RGBA"]),
        ("jpeg2000", ["L", "LA", "RGB", "RGBA"]),
    ],
)
def test_every_mode_is_read_as_pillow_reads_it(pictures: Any, fmt: str, modes: list[str]) -> None:
    rgb = pictures.draw(33, 21)
    rgba = Pil.fromarray(np.dstack([rgb, np.where(rgb[..., 0] > 99, 255, 0).astype(np.uint8)]))
    for mode in modes:
        same(pictures.write(rgba.convert(mode), fmt))


def test_a_gray_picture_stays_gray(pictures: Any) -> None:
    gray = np.ascontiguousarray(pictures.draw(30, 20)[..., 0])
    for fmt in ("bmp", "jpeg2000"):
        image = decode(pictures.write(gray, fmt))
        assert image.channels == 1
        assert np.array_equal(image.pixels, gray)
        assert probe(pictures.write(gray, fmt)).mode == "gray"


def test_16_bit_gray_jpeg_2000_keeps_every_bit() -> None:
    deep = np.random.default_rng(1).integers(0, 65536, (20, 30), dtype=np.uint16)
    buffer = io.BytesIO()
    Pil.fromarray(deep).save(buffer, "jpeg2000")
    image = decode(buffer.getvalue())
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels, deep)
    assert probe(buffer.getvalue()).depth == 16


def test_a_transparent_color_of_a_gif_is_transparent() -> None:
    indexed = Pil.fromarray(np.array([[0, 1], [1, 2]], np.uint8))
    indexed.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    buffer = io.BytesIO()
    indexed.save(buffer, "gif", transparency=1)
    pixels = decode(buffer.getvalue()).pixels
    assert pixels[..., 3].tolist() == [[255, 0], [0, 255]]
    assert pixels[0, 0].tolist() == [255, 0, 0, 255]


@pytest.mark.parametrize("turn", range(1, 9))
def test_avif_is_turned_upright(pictures: Any, turn: int) -> None:
    exif = Pil.Exif()
    exif[0x0112] = turn
    data = pictures.write(pictures.draw(40, 24), "avif", exif=exif)
    same(data)
    assert decode(data).size == (Size(40, 24) if turn < 5 else Size(24, 40))
    assert probe(data).orientation == turn


def test_a_profile_of_an_avif_is_brought_to_srgb(pictures: Any, photo: bytes) -> None:
    with Pil.open(io.BytesIO(photo)) as opened:
        profile = opened.info["icc_profile"]
    data = pictures.write(pictures.draw(40, 24), "avif", icc_profile=profile, quality=95)
    plain = pictures.write(pictures.draw(40, 24), "avif", quality=95)
    assert probe(data).has_icc
    wanted = ImageCms.profileToProfile(
        Pil.fromarray(decode(plain).pixels),
        ImageCms.ImageCmsProfile(io.BytesIO(profile)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    pixels = decode(data).pixels
    assert np.abs(pixels.astype(int) - np.asarray(wanted)).max() <= 1
    assert not np.array_equal(pixels, decode(plain).pixels)


@pytest.mark.parametrize("fmt", ["gif", "avif"])
def test_of_an_animation_the_first_frame_comes_and_all_count(pictures: Any, fmt: str) -> None:
    first = pictures.draw(32, 16)
    frames = [Pil.fromarray(np.roll(first, 5 * n, axis=1)) for n in range(5)]
    data = pictures.write(frames[0], fmt, save_all=True, append_images=frames[1:])
    assert probe(data).frames == 5
    same(data)
    with pytest.raises(LimitExceeded, match="all frames"):
        probe(data, Limits(max_pixels=32 * 16 * 4))


def test_of_an_icon_the_largest_picture_comes(more: dict[str, bytes]) -> None:
    assert decode(more["ico"]).size == probe(more["ico"]).size == Size(48, 40)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused_or_lost_nothing(more: dict[str, bytes], kind: str) -> None:
    data = more[kind]
    whole = decode(data).pixels
    for cut in sorted({*range(0, len(data), 61), *range(max(0, len(data) - 12), len(data))}):
        try:
            image = decode(data[:cut])
        except InputError:
            continue
        assert cut > len(data) - 12, "only an end mark may be missing"
        assert np.array_equal(image.pixels, whole)


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_flipped_bits_give_a_picture_or_a_named_error(more: dict[str, bytes], kind: str, data: st.DataObject) -> None:
    whole = more[kind]
    places = st.one_of(st.integers(0, min(160, len(whole) - 1)), st.integers(0, len(whole) - 1))
    must_decode_or_be_refused(flipped(data, whole, places))


@settings(max_examples=200, deadline=None)
@given(
    head=st.sampled_from(
        [
            b"GIF89a",
            b"BM",
            b"\0\0\1\0",
            b"qoif",
            b"\0\0\0\x1cftypavif",
            b"\0\0\0\x0cjP  \r\n\x87\n",
            b"\xff\x4f\xff\x51",
        ]
    ),
    tail=st.binary(max_size=200),
)
def test_noise_is_refused(head: bytes, tail: bytes) -> None:
    try:
        image = decode(head + tail, limits=Limits(max_pixels=10_000))
    except InputError:
        return
    assert image.size.pixels <= 10_000


def test_sizes_are_checked_before_pixels_are_made(more: dict[str, bytes]) -> None:
    bomb = bytearray(more["bmp"])
    struct.pack_into("<ii", bomb, 18, 16_000, 16_000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(LimitExceeded):
            decode(bytes(bomb))
        with pytest.raises(CorruptImage):
            decode(bytes(bomb), limits=Limits(max_pixels=300_000_000))


def test_what_is_decoded_in_python_is_bounded() -> None:
    for data in (b"qoif" + struct.pack(">IIBB", 5_000, 5_000, 3, 0), run_length_bmp(5_000, 5_000, b"\0\1")):
        with pytest.raises(LimitExceeded, match=f"{pillow_header.MAX_SLOW_PIXELS:,}"):
            probe(data)


def test_a_bitmap_in_an_icon_may_not_explode(more: dict[str, bytes]) -> None:
    bomb = bytearray(more["ico-bmp"])
    (start,) = struct.unpack_from("<I", bomb, 18)
    struct.pack_into("<ii", bomb, start + 4, 60_000, 60_000)
    with pytest.raises(CorruptImage, match="60000×30000"):
        decode(bytes(bomb))


def test_a_gif_of_endless_frames_is_refused() -> None:
    frame = b"\x2c\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0"
    with pytest.raises(LimitExceeded, match="65,536 frames"):
        probe(b"GIF89a\x01\0\x01\0\0\0\0" + frame * 70_000)


def test_kinds_of_bmp_that_are_not_read_are_named(more: dict[str, bytes]) -> None:
    odd = bytearray(more["bmp"])
    struct.pack_into("<H", odd, 28, 7)
    with pytest.raises(UnsupportedFormat, match="depth"):
        decode(bytes(odd))


def test_codecs_print_nothing(more: dict[str, bytes]) -> None:
    script = """
import sys
from pixelmill.errors import InputError
from pixelmill.images.decode import decode
data = sys.stdin.buffer.read()
for cut in range(0, len(data), 97):
    for flip in (0, 255):
        broken = bytearray(data[:-cut] if flip == 0 and cut else data)
        broken[min(cut, len(broken) - 1)] ^= flip
        try:
            decode(bytes(broken))
        except InputError:
            pass
"""
    for kind in ("jp2", "avif", "gif"):
        done = subprocess.run([sys.executable, "-c", script], input=more[kind], capture_output=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_picture_that_does_not_fit_into_memory_is_named(pictures: Any) -> None:
    script = """
import resource, sys
from pixelmill.errors import OutOfMemory
from pixelmill.images.decode import decode
from pixelmill.images.probe import probe
data = sys.stdin.buffer.read()
probe(data)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))
try:
    decode(data)
except OutOfMemory as error:
    print(error.type)
"""
    blank = np.zeros((3_000, 3_000, 3), np.uint8)
    for fmt, options in (("avif", {"speed": 10}), ("bmp", {}), ("gif", {}), ("tiff", {"compression": "tiff_lzw"})):
        data = pictures.write(blank, fmt, **options)
        done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60)
        assert done.stdout.strip() == b"out-of-memory", (fmt, done.stderr)


def test_avif_of_higher_quality_is_nearer(pictures: Any) -> None:
    rgb = pictures.draw(120, 90)
    errors = [
        np.abs(decode(encode(Image(rgb), "avif", {"quality": quality})).pixels.astype(int) - rgb).mean()
        for quality in (20, 60, 95)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 2


def test_an_avif_is_as_good_with_a_profile_as_without(photo: bytes) -> None:
    # Two libraries write them; quality and speed must mean the same to both.
    rgb = np.ascontiguousarray(decode(photo).pixels[:256, :320]).astype(np.uint8)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = [encode(Image(rgb, icc), "avif", {"quality": 65}) for icc in (None, profile)]
    assert len(files[0]) == pytest.approx(len(files[1]) - len(profile), rel=0.05)
    losses = [cv2.PSNR(rgb, decode(file).pixels) for file in files]
    assert losses[0] == pytest.approx(losses[1], abs=0.5)


@pytest.mark.parametrize("fmt", ["avif", "bmp"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 3), (33, 1)])
def test_odd_sizes_come_back(fmt: str, shape: tuple[int, int]) -> None:
    for channels in ((), (3,)):
        pixels = np.full((*shape, *channels), 90, np.uint8)
        again = decode(encode(Image(pixels), fmt)).pixels.astype(int)
        assert again.shape[:2] == shape
        assert np.abs(again - 90).max() <= 3


def test_avif_keeps_alpha(pictures: Any) -> None:
    rgba = np.dstack([pictures.draw(40, 30), pictures.draw(40, 30)[..., 0]])
    again = decode(encode(Image(rgba), "avif", {"quality": 100})).pixels
    assert np.abs(again[..., 3].astype(int) - rgba[..., 3]).max() <= 3


def test_gif_keeps_few_colors_and_holes_exactly() -> None:
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4] = [200, 30, 40, 255]
    pixels[4:] = [10, 220, 30, 255]
    pixels[:, 5:] = 0
    again = decode(encode(Image(pixels), "gif")).pixels
    assert np.array_equal(again[..., 3], pixels[..., 3])
    assert np.array_equal(again[:, :5], pixels[:, :5])


@pytest.mark.parametrize("colors", [2, 16, 256])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_gif_has_as_many_colors_as_asked(pictures: Any, colors: int, channels: int) -> None:
    rgb = pictures.draw(64, 48)
    pixels = {1: rgb[..., 0], 3: rgb, 4: np.dstack([rgb, rgb[..., 1]])}[channels]
    for dither in (False, True):
        again = decode(encode(Image(np.ascontiguousarray(pixels)), "gif", {"colors": colors, "dither": dither})).pixels
        found = np.unique(again.reshape(48 * 64, -1), axis=0)
        assert 2 <= len(found) <= colors
        if channels == 4:
            assert np.array_equal(again[..., 3] == 0, pixels[..., 3] < 128)


def test_bmp_gives_back_every_bit_and_lays_alpha_over_the_background(pictures: Any) -> None:
    rgb = pictures.draw(31, 20)
    for pixels in (rgb, np.ascontiguousarray(rgb[..., 0])):
        assert np.array_equal(decode(encode(Image(pixels), "bmp")).pixels, pixels)
    clear = np.zeros((4, 4, 4), np.uint8)
    assert np.array_equal(decode(encode(Image(clear), "bmp", {"background": "0f0"})).pixels[0, 0], [0, 255, 0])


@pytest.mark.parametrize("fmt", ["gif", "bmp"])
def test_a_format_without_profiles_gets_srgb(photo: bytes, fmt: str) -> None:
    with Pil.open(io.BytesIO(photo)) as opened:
        tagged = Image(np.asarray(opened.resize((64, 48))), icc=opened.info["icc_profile"])
    plain = decode(encode(Image(tagged.pixels), fmt)).pixels
    turned = decode(encode(tagged, fmt)).pixels
    assert turned.astype(int).std() != plain.astype(int).std()


@pytest.mark.parametrize(
    ("fmt", "options"),
    [
        ("avif", {"speed": 11}),
        ("avif", {"quality": 0}),
        ("gif", {"colors": 1}),
        ("gif", {"quality": 3}),
        ("bmp", {"background": "red"}),
    ],
)
def test_bad_options_are_named(fmt: str, options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(options))):
        encode(Image(np.zeros((1, 1), np.uint8)), fmt, options)


def test_variants_match_pillow(assets: Path) -> None:
    paths = [path for path in sorted((assets / "variants").rglob("*")) if path.suffix in {".avif", ".gif", ".bmp"}]
    for path in paths:
        if path.name != "avif__icc_profile.avif":
            same(path.read_bytes())
    assert len(paths) > 10
