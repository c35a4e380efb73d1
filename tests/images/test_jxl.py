"""JPEG XL: the header as libjxl reads it, pixels as they were, color in sRGB; broken files are refused by name."""

from __future__ import annotations

import io
import subprocess
import sys
from typing import Any

import imagecodecs
import jxl_bits
import numpy as np
import pylibjxl
import pytest
from damage import flipped, must_decode_or_be_refused
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageCms

from pixelmill.errors import CorruptImage, InputError, InvalidParameter, LimitExceeded, UnsupportedFormat
from pixelmill.images import profiles
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.orientation import upright
from pixelmill.images.probe import probe
from pixelmill.images.profiles import ColorSpace

KINDS = ["rgb", "lossy", "gray", "rgba", "gray alpha", "deep", "deep alpha", "box", "profile", "one", "row", "column"]


def lossless(pixels: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, numthreads=1))


def lossy(pixels: NDArray[Any], distance: float) -> bytes:
    return bytes(imagecodecs.jpegxl_encode(pixels, distance=distance, numthreads=1))


def boxed(codestream: bytes, parts: int = 1) -> bytes:
    """The codestream in boxes, behind an EXIF block that says another orientation."""

    def box(kind: bytes, body: bytes) -> bytes:
        return (8 + len(body)).to_bytes(4, "big") + kind + body

    head = b"\0\0\0\x0cJXL \r\n\x87\n" + box(b"ftyp", b"jxl \0\0\0\0jxl ")
    if parts == 1:
        return head + box(b"jxlc", codestream)
    step = -(-len(codestream) // parts)
    pieces = [codestream[at : at + step] for at in range(0, len(codestream), step)]
    last = len(pieces) - 1
    numbered = ((n | (n == last) << 31).to_bytes(4, "big") + piece for n, piece in enumerate(pieces))
    return head + b"".join(box(b"jxlp", piece) for piece in numbered)


@pytest.fixture(scope="session")
def p3() -> bytes:
    profile = profiles.profile_of(ColorSpace(primaries=profiles.P3))
    assert profile is not None
    return profile


@pytest.fixture(scope="session")
def files(pictures: Any, p3: bytes) -> dict[str, bytes]:
    rgb = pictures.draw(48, 40)
    gray, alpha = rgb[..., 0], rgb[..., 1:2]
    deep = rgb.astype(np.uint16) * 257 + 3
    return {
        "rgb": lossless(rgb),
        "lossy": lossy(rgb, 1.0),
        "gray": lossless(np.ascontiguousarray(gray)),
        "rgba": lossless(np.dstack([rgb, alpha])),
        "gray alpha": lossless(np.dstack([gray, alpha])),
        "deep": lossless(deep),
        "deep alpha": lossless(np.dstack([deep, deep[..., :1]])),
        "box": boxed(lossless(rgb)),
        "profile": pylibjxl.encode(rgb, lossless=True, icc=p3),
        "one": lossless(rgb[:1, :1].copy()),
        "row": lossless(rgb[:1].copy()),
        "column": lossless(rgb[:, :1].copy()),
    }


@pytest.mark.parametrize("kind", ["rgb", "gray", "rgba", "one", "row", "column", "box"])
def test_lossless_pixels_are_what_they_were(pictures: Any, files: dict[str, bytes], kind: str) -> None:
    rgb = pictures.draw(48, 40)
    wanted = {
        "gray": rgb[..., 0],
        "rgba": np.dstack([rgb, rgb[..., 1]]),
        "one": rgb[:1, :1],
        "row": rgb[:1],
        "column": rgb[:, :1],
    }.get(kind, rgb)
    image = decode(files[kind])
    assert image.pixels.dtype == np.uint8
    assert np.array_equal(image.pixels, wanted)
    assert image.icc is None


def test_gray_with_alpha_becomes_rgba(pictures: Any, files: dict[str, bytes]) -> None:
    rgb = pictures.draw(48, 40)
    assert np.array_equal(decode(files["gray alpha"]).pixels, rgb[..., (0, 0, 0, 1)])


@pytest.mark.parametrize("kind", ["deep", "deep alpha"])
def test_16_bits_stay_16_bits_with_the_color_space_that_the_file_names(
    pictures: Any, files: dict[str, bytes], kind: str
) -> None:
    deep = pictures.draw(48, 40).astype(np.uint16) * 257 + 3
    image = decode(files[kind])
    assert image.pixels.dtype == np.uint16
    assert np.array_equal(image.pixels[..., :3], deep)
    # The encoder that wrote it takes samples of 16 bits for linear light, and says so.
    assert image.icc == profiles.profile_of(ColorSpace(transfer=profiles.LINEAR))


@pytest.mark.parametrize("depth", [10, 12])
def test_samples_of_uneven_depth_fill_16_bits(depth: int) -> None:
    most = (1 << depth) - 1
    raw = np.array([[0, most // 3, most]], np.uint16)
    data = imagecodecs.jpegxl_encode(raw, lossless=True, bitspersample=depth)
    assert probe(data).depth == depth
    assert decode(data).pixels.tolist() == [[0, 21_845, 65_535]]


def test_float_samples_stay_float(pictures: Any) -> None:
    light = pictures.draw(16, 16).astype(np.float32) / 255
    image = decode(lossless(light))
    assert image.pixels.dtype == np.float32
    assert np.array_equal(image.pixels, light)


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_says_what_the_library_says(files: dict[str, bytes], kind: str) -> None:
    told, info = pylibjxl.probe(files[kind]), probe(files[kind])
    assert info.size == info.stored_size == (told["width"], told["height"])
    assert info.depth == told["bits_per_sample"]
    assert info.has_alpha == told["has_alpha"]
    assert (info.mode == "gray") == (told["channels"] == 1)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 700), height=st.integers(1, 700))
def test_every_size_is_read_as_the_library_reads_it(width: int, height: int) -> None:
    data = bytes(imagecodecs.jpegxl_encode(np.zeros((height, width), np.uint8), lossless=True, effort=1))
    assert probe(data).size == (width, height)


@pytest.mark.parametrize("turn", range(1, 9))
def test_the_orientation_of_the_codestream_is_applied_once(pictures: Any, turn: int) -> None:
    rgb = pictures.draw(48, 40)
    data = jxl_bits.reheaded(lossless(rgb), orientation=turn)
    info, image = probe(data), decode(data)
    assert np.array_equal(image.pixels, upright(rgb, turn))
    assert (info.size, info.orientation) == (image.size, 1)


@pytest.mark.parametrize("parts", [1, 2, 30])
def test_a_codestream_in_boxes_is_put_together(pictures: Any, parts: int) -> None:
    rgb = pictures.draw(48, 40)
    data = boxed(lossless(rgb), parts)
    assert probe(data).size == Size(48, 40)
    assert np.array_equal(decode(data).pixels, rgb)


def test_an_embedded_profile_is_brought_to_srgb(pictures: Any, files: dict[str, bytes], p3: bytes) -> None:
    rgb = pictures.draw(48, 40)
    assert probe(files["profile"]).has_icc
    wanted = ImageCms.profileToProfile(
        Pil.fromarray(rgb),
        ImageCms.ImageCmsProfile(io.BytesIO(p3)),
        ImageCms.createProfile("sRGB"),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    pixels = decode(files["profile"]).pixels
    assert np.abs(pixels.astype(int) - np.asarray(wanted)).max() <= 1
    assert not np.array_equal(pixels, rgb)


def test_a_color_space_that_is_named_is_brought_to_srgb_like_the_same_profile(
    pictures: Any, files: dict[str, bytes]
) -> None:
    data = jxl_bits.reheaded(lossless(pictures.draw(48, 40)), color=jxl_bits.P3)
    assert probe(data).has_icc
    assert np.array_equal(decode(data).pixels, decode(files["profile"]).pixels)


def test_a_profile_over_color_coded_as_the_eye_sees_it_leaves_linear_light(
    pictures: Any, p3: bytes, files: dict[str, bytes]
) -> None:
    rgb = pictures.draw(48, 40)
    tagged = pylibjxl.encode(rgb, lossless=True, icc=p3)
    codestream = tagged[tagged.index(b"jxlc") + 4 :]
    profile = jxl_bits.coded_profile(codestream, pylibjxl.encode(rgb, lossless=True))
    seen = lossy(rgb, 0.1)
    data = jxl_bits.reheaded(seen, xyb=True, color=((0, 1), (1, 1), (0, 2)), behind=profile)
    again = decode(data).pixels.astype(int)
    assert np.abs(again - decode(seen).pixels).mean() < 3  # 8 bits of linear light are coarse where it is dark


def test_color_that_was_multiplied_by_alpha_is_divided_again() -> None:
    pixels = np.array([[[64, 0, 128, 128], [0, 0, 0, 0], [9, 8, 7, 255]]], np.uint8)
    data = jxl_bits.reheaded(lossless(pixels), alpha=True, associated=True)
    assert decode(data).pixels.tolist() == [[[128, 0, 255, 128], [0, 0, 0, 0], [9, 8, 7, 255]]]


def test_of_an_animation_the_first_frame_comes(pictures: Any) -> None:
    first = pictures.draw(48, 40)
    data = lossless(np.stack([np.roll(first, 5 * n, axis=1) for n in range(4)]))
    assert np.array_equal(decode(data).pixels, first)
    assert probe(data).size == Size(48, 40)


def test_channels_beside_color_are_refused_by_name(pictures: Any) -> None:
    planes = np.ascontiguousarray(np.moveaxis(pictures.draw(48, 40), 2, 0))
    data = imagecodecs.jpegxl_encode(planes, lossless=True, planar=True, photometric="gray")
    with pytest.raises(UnsupportedFormat, match="channels"):
        decode(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_never_half_a_picture(files: dict[str, bytes], kind: str) -> None:
    data = files[kind]
    decode(data)
    for cut in sorted({*range(0, len(data), max(1, len(data) // 60)), *range(min(60, len(data))), len(data) - 1}):
        with pytest.raises(InputError):
            decode(data[:cut])


@settings(max_examples=400, deadline=None)
@given(kind=st.sampled_from(KINDS), data=st.data())
def test_flipped_bits_give_a_picture_or_a_named_error(files: dict[str, bytes], kind: str, data: st.DataObject) -> None:
    whole = files[kind]
    places = st.one_of(st.integers(0, min(60, len(whole) - 1)), st.integers(0, len(whole) - 1))
    must_decode_or_be_refused(flipped(data, whole, places))


@settings(max_examples=200, deadline=None)
@given(head=st.sampled_from([b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n", boxed(b"\xff\x0a")[:-2]]), tail=st.binary())
def test_noise_is_refused(head: bytes, tail: bytes) -> None:
    try:
        image = decode(head + tail, limits=Limits(max_pixels=10_000))
    except InputError:
        return
    assert image.size.pixels <= 10_000


def test_sizes_are_checked_before_pixels_are_made(pictures: Any) -> None:
    size = jxl_bits.bits(((0x0AFF, 16), (0, 1), (3, 2), (999_999_999, 30), (1, 3)))
    bomb = jxl_bits.bits((size, (1, 1), (1, 1)))
    with pytest.raises(LimitExceeded, match="1,000,000,000"):
        decode(bomb[0].to_bytes(16, "little"))


def test_a_header_of_endless_boxes_ends() -> None:
    with pytest.raises(CorruptImage):
        probe(b"\0\0\0\x0cJXL \r\n\x87\n" + b"\0\0\0\x08free" * 100_000)


def test_higher_quality_is_nearer_and_larger(pictures: Any) -> None:
    rgb = pictures.draw(120, 90)
    files = [encode(Image(rgb), "jxl", {"quality": quality}) for quality in (10, 60, 100)]
    errors = [np.abs(decode(data).pixels.astype(int) - rgb).mean() for data in files]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1
    assert [len(data) for data in files] == sorted(len(data) for data in files)


def test_a_distance_stands_in_place_of_quality(pictures: Any) -> None:
    image = Image(pictures.draw(120, 90))
    assert encode(image, "jxl", {"quality": 20, "distance": 1}) == encode(image, "jxl", {"quality": 90})
    assert encode(image, "jxl", {"distance": 5}) != encode(image, "jxl")


@pytest.mark.parametrize("effort", [1, 4, 7])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_lossless_gives_back_every_bit_even_below_full_transparency(pictures: Any, effort: int, channels: int) -> None:
    rgb = pictures.draw(61, 47)
    pixels = {1: rgb[..., 0], 3: rgb, 4: np.dstack([rgb, np.where(rgb[..., 1] > 99, rgb[..., 1], 0)])}[channels]
    data = encode(Image(np.ascontiguousarray(pixels)), "jxl", {"lossless": True, "effort": effort})
    assert np.array_equal(decode(data).pixels, pixels)


def test_deep_samples_and_profiles_become_8_bits_of_srgb(pictures: Any, p3: bytes) -> None:
    rgb = pictures.draw(48, 40)
    data = encode(Image(rgb.astype(np.uint16) * 257, icc=p3), "jxl", {"lossless": True})
    image = decode(data)
    assert not probe(data).has_icc
    assert image.pixels.dtype == np.uint8
    assert not np.array_equal(image.pixels, rgb)
    assert np.array_equal(decode(encode(Image(rgb.astype(np.uint16) * 257), "jxl", {"lossless": True})).pixels, rgb)


@pytest.mark.parametrize(
    "options", [{"quality": 0}, {"quality": 101}, {"effort": 0}, {"effort": 10}, {"distance": 16}, {"speed": 3}]
)
def test_bad_options_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match=next(iter(options))):
        encode(Image(np.zeros((1, 1), np.uint8)), "jxl", options)


def test_the_library_prints_nothing_and_names_missing_memory(pictures: Any) -> None:
    script = """
import resource, sys
from pixelmill.errors import InputError, OutOfMemory
from pixelmill.images.decode import decode
data = sys.stdin.buffer.read()
for cut in range(0, len(data), 97):
    try:
        decode(data[:cut])
    except InputError:
        pass
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 20_000_000, used + 20_000_000))
try:
    decode(data)
except OutOfMemory as error:
    print(error.type)
"""
    data = lossless(np.zeros((1_500, 1_500, 3), np.uint8))
    done = subprocess.run([sys.executable, "-c", script], input=data, capture_output=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == (b"out-of-memory", b"")
