"""HEIC: pixels as libheif gives them, turned once, color in sRGB; broken files are refused by name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from typing import Any

import numpy as np
import pillow_heif
import pytest
from damage import flipped, must_decode_or_be_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageCms

from pixelmill.errors import CorruptImage, InputError, LimitExceeded
from pixelmill.images import profiles
from pixelmill.images.decode import decode
from pixelmill.images.image import Size
from pixelmill.images.limits import Limits
from pixelmill.images.orientation import upright
from pixelmill.images.probe import probe
from pixelmill.images.profiles import ColorSpace

EXACT: dict[str, Any] = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
KINDS = ["photo", "exact", "gray", "rgba", "deep", "deep gray", "grid", "turned", "one", "row", "column"]


def heic(pixels: NDArray[Any], **options: Any) -> bytes:
    deep = pixels.dtype == np.uint16
    bands = {2: "L", 3: "RGB"}[pixels.ndim] if pixels.ndim == 2 or pixels.shape[2] == 3 else "RGBA"
    mode = ("I;16" if bands == "L" else f"{bands};16") if deep else bands
    buffer = io.BytesIO()
    data = np.ascontiguousarray(pixels).tobytes()
    pillow_heif.encode(mode, (pixels.shape[1], pixels.shape[0]), data, buffer, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def files(pictures: Any) -> dict[str, bytes]:
    rgb = pictures.draw(64, 40)
    deep = rgb.astype(np.uint16) * 257
    exif = Pil.Exif()
    exif[0x0112] = 6
    return {
        "photo": heic(rgb, quality=80),
        "exact": heic(rgb, **EXACT),
        "gray": heic(rgb[..., 0], quality=-1),
        "rgba": heic(np.dstack([rgb, rgb[..., 1]]), **EXACT),
        "deep": heic(deep, **EXACT),
        "deep gray": heic(deep[..., 0], quality=-1),
        "grid": heic(np.tile(rgb, (8, 8, 1)), tile_size=256),
        "turned": heic(rgb, exif=exif.tobytes()),
        "one": heic(rgb[:1, :1]),
        "row": heic(rgb[:1]),
        "column": heic(rgb[:, :1]),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_of_the_library(files: dict[str, bytes], kind: str) -> None:
    wanted = np.asarray(pillow_heif.open_heif(files[kind]).to_pillow())
    pixels: NDArray[Any] = decode(files[kind]).pixels
    if pixels.dtype == np.uint16:
        # 10 bits, which the library rounds down to 8, or moves up to 16 and leaves the last 6 empty.
        most = 3 if wanted.dtype == np.uint8 else 64
        assert np.abs((pixels >> 8 if most == 3 else pixels).astype(int) - wanted).max() <= most
    else:
        assert np.array_equal(pixels, wanted)
    info = probe(files[kind])
    assert info.size == Size(pixels.shape[1], pixels.shape[0])
    assert (info.orientation, info.frames, info.bytes) == (1, 1, len(files[kind]))


def test_lossless_pixels_are_what_they_were(pictures: Any, files: dict[str, bytes]) -> None:
    rgb = pictures.draw(64, 40)
    assert np.array_equal(decode(files["exact"]).pixels, rgb)
    assert np.array_equal(decode(files["rgba"]).pixels, np.dstack([rgb, rgb[..., 1]]))
    gray = decode(files["gray"]).pixels
    assert gray.ndim == 2
    assert np.array_equal(gray, rgb[..., 0])
    assert probe(files["rgba"]).has_alpha
    assert probe(files["gray"]).mode == "gray"


@pytest.mark.parametrize("kind", ["deep", "deep gray"])
def test_10_bits_fill_16(pictures: Any, files: dict[str, bytes], kind: str) -> None:
    deep = pictures.draw(64, 40).astype(np.uint16) * 257
    image = decode(files[kind])
    wanted = deep if kind == "deep" else deep[..., 0]
    assert probe(files[kind]).depth == 10
    assert image.pixels.dtype == np.uint16
    assert np.abs(image.pixels.astype(int) - wanted).max() <= 65_535 / 1_023
    assert image.icc is None
    white = decode(heic(np.full((8, 8, 3), 65_535, np.uint16), **EXACT)).pixels
    assert white.min() == 65_535


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_once(pictures: Any, turn: int) -> None:
    rgb = pictures.draw(64, 40)
    exif = Pil.Exif()
    exif[0x0112] = turn
    data = heic(rgb, exif=exif.tobytes(), **EXACT)
    image = decode(data)
    assert np.array_equal(image.pixels, upright(rgb, turn))
    assert probe(data).size == image.size


@pytest.mark.parametrize("how", ["embedded", "named"])
def test_another_color_space_is_brought_to_srgb(pictures: Any, how: str) -> None:
    rgb = pictures.draw(64, 40)
    p3 = profiles.profile_of(ColorSpace(primaries=profiles.P3))
    assert p3 is not None
    named = {"color_primaries": 12, "transfer_characteristics": 13, "full_range_flag": 1}
    data = heic(rgb, **EXACT, **({"icc_profile": p3} if how == "embedded" else named))
    assert probe(data).has_icc
    wanted = ImageCms.profileToProfile(
        Pil.fromarray(rgb),
        ImageCms.ImageCmsProfile(io.BytesIO(p3)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    pixels = decode(data).pixels
    assert np.abs(pixels.astype(int) - np.asarray(wanted)).max() <= 1
    assert not np.array_equal(pixels, rgb)


def test_deep_samples_keep_their_color_space(pictures: Any) -> None:
    deep = pictures.draw(64, 40).astype(np.uint16) * 257
    data = heic(deep, **EXACT, color_primaries=9, transfer_characteristics=16, full_range_flag=1)
    assert decode(data).icc == profiles.profile_of(ColorSpace(primaries=profiles.BT2020, transfer=16))


@pytest.mark.parametrize("transfer", [1, 2, 6])
def test_the_curve_of_television_is_taken_as_srgb(pictures: Any, transfer: int) -> None:
    rgb = pictures.draw(64, 40)
    data = heic(rgb, **EXACT, color_primaries=1, transfer_characteristics=transfer, full_range_flag=1)
    assert np.array_equal(decode(data).pixels, rgb)


def test_all_pictures_of_a_file_count(pictures: Any) -> None:
    rgb = pictures.draw(64, 40)
    several = pillow_heif.from_pillow(Pil.fromarray(rgb))
    several.add_from_pillow(Pil.fromarray(rgb[::-1].copy()))
    buffer = io.BytesIO()
    several.save(buffer, **EXACT)
    data = buffer.getvalue()
    assert probe(data).frames == 2
    assert np.array_equal(decode(data).pixels, rgb)
    with pytest.raises(LimitExceeded, match="all frames"):
        probe(data, Limits(max_pixels=64 * 40))


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_never_half_a_picture(files: dict[str, bytes], kind: str) -> None:
    data = files[kind]
    decode(data)
    for cut in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(60), len(data) - 1}):
        with pytest.raises(InputError):
            decode(data[:cut])


def test_a_tile_that_lies_beyond_the_end_is_missed_even_if_no_box_tells(files: dict[str, bytes]) -> None:
    data = bytearray(files["grid"])
    start = data.index(b"mdat") - 4
    struct.pack_into(">I", data, start, 0)  # the last box runs to the end, wherever that is
    decode(bytes(data))
    for cut in range(start + 9, len(data), 211):
        with pytest.raises(CorruptImage, match="ends before"):
            decode(bytes(data[:cut]))


@settings(max_examples=300, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_flipped_bits_give_a_picture_or_a_named_error(files: dict[str, bytes], kind: str, data: st.DataObject) -> None:
    whole = files[kind]
    places = st.one_of(st.integers(0, 400), st.integers(0, len(whole) - 1))
    must_decode_or_be_refused(flipped(data, whole, places))


@settings(max_examples=200, deadline=None)
@given(tail=st.binary(max_size=300))
def test_noise_is_refused(tail: bytes) -> None:
    with pytest.raises(InputError):
        decode(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + tail)


def test_sizes_are_checked_before_pixels_are_made(files: dict[str, bytes]) -> None:
    bomb = bytearray(files["grid"])
    struct.pack_into(">II", bomb, bomb.index(struct.pack(">II", 512, 320)), 16_000, 16_000)
    with pytest.raises(LimitExceeded):
        decode(bytes(bomb))
    with pytest.raises(CorruptImage):
        decode(bytes(bomb), limits=Limits(max_pixels=300_000_000))


def test_a_small_cut_out_of_a_huge_picture_is_refused(files: dict[str, bytes]) -> None:
    bomb = bytearray(files["photo"])
    assert b"clap" in bomb
    struct.pack_into(">II", bomb, bomb.index(b"ispe") + 8, 16_000, 16_000)
    with pytest.raises(CorruptImage, match="cut out of 256,000,000"):
        probe(bytes(bomb))


def test_the_library_prints_nothing_and_names_missing_memory(files: dict[str, bytes]) -> None:
    script = """
import resource, sys
from pixelmill.errors import InputError, OutOfMemory
from pixelmill.images.decode import decode
both = sys.stdin.buffer.read()
length = int.from_bytes(both[:4], "big")
data, small = both[4 + length :], both[4 : 4 + length]
for at in range(0, len(small), 17):
    broken = bytearray(small)
    broken[at] ^= 255
    try:
        decode(bytes(broken))
    except InputError:
        pass
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))
try:
    decode(data)
except OutOfMemory as error:
    print(error.type)
"""
    small, large = files["photo"], heic(np.zeros((2_500, 2_500, 3), np.uint8), quality=10)
    data = len(small).to_bytes(4, "big") + small + large
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (b"out-of-memory", b"")
