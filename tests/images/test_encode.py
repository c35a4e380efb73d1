"""What is written can be read again, holds what the format can hold, and carries no metadata but the profile."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pil
from PIL import ImageCms

from pixelmill.errors import InvalidParameter, NotApplicable, UnknownOperation
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.encoders import OPTIONS, JpegOptions, PngOptions, WebpOptions, options_for
from pixelmill.images.formats import FORMATS, WRITTEN, sniff
from pixelmill.images.image import Image
from pixelmill.images.samples import flatten, to_uint8, to_uint16

shapes = st.one_of(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(1, 24), st.integers(1, 24), st.sampled_from([3, 4])),
)


def opened(data: bytes) -> Pil.Image:
    return Pil.open(io.BytesIO(data))


@settings(max_examples=60, deadline=None)
@given(pixels=st.sampled_from([np.uint8, np.uint16]).flatmap(lambda kind: hnp.arrays(kind, shapes)))
def test_png_gives_back_every_bit(pixels: Any) -> None:
    for compression in (0, 3):
        again = decode(encode(Image(pixels), "png", {"compression": compression})).pixels
        assert again.dtype == pixels.dtype
        assert np.array_equal(again, pixels)


@settings(max_examples=30, deadline=None)
@given(pixels=hnp.arrays(np.uint8, shapes))
def test_lossless_webp_gives_back_every_bit(pixels: Any) -> None:
    again = decode(encode(Image(pixels), "webp", WebpOptions(lossless=True, effort=0))).pixels
    want = np.dstack([pixels] * 3) if pixels.ndim == 2 else pixels
    if again.shape[2] == 3 and want.shape[2] == 4:
        assert (want[..., 3] == 255).all()  # libwebp drops alpha where all is opaque
        want = want[..., :3]
    assert np.array_equal(again, want)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "444"}, {"subsampling": 422}])
@pytest.mark.parametrize("gray", [False, True])
def test_jpeg_is_near_what_was_written(pictures: Any, gray: bool, options: dict[str, Any]) -> None:
    rgb = pictures.draw(120, 90)
    pixels = np.ascontiguousarray(rgb[..., 0]) if gray else rgb
    data = encode(Image(pixels), "jpg", {"quality": 95, **options})
    picture = opened(data)
    assert picture.mode == ("L" if gray else "RGB")
    assert bool(picture.info.get("progressive")) == options.get("progressive", False)
    assert np.abs(np.asarray(picture).astype(int) - pixels).mean() < 3


@pytest.mark.parametrize(("name", "factors"), [("420", (2, 2)), ("422", (2, 1)), ("444", (1, 1))])
@pytest.mark.parametrize("progressive", [False, True])
def test_subsampling_is_as_asked(pictures: Any, name: str, factors: tuple[int, int], progressive: bool) -> None:
    data = encode(Image(pictures.draw(64, 64)), "jpeg", {"subsampling": name, "progressive": progressive})
    assert opened(data).layer[0][1:3] == factors  # type: ignore[attr-defined] # of JPEG files alone


@pytest.mark.parametrize("fmt", ["jpeg", "webp"])
def test_lower_quality_is_smaller(photo: bytes, fmt: str) -> None:
    image = decode(photo)
    lengths = [len(encode(image, fmt, {"quality": quality})) for quality in (20, 50, 80, 95)]
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1] / 3


@pytest.mark.parametrize("fmt", sorted(WRITTEN))
@pytest.mark.parametrize("shape", [(40, 30), (40, 30, 3), (40, 30, 4), (1, 1), (1, 1, 3), (1, 1, 4), (3, 17, 3)])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_every_image_can_be_written_in_every_format(fmt: str, shape: tuple[int, ...], kind: Any) -> None:
    full = {np.uint8: 255, np.uint16: 65535, np.float32: 1.0}[kind]
    pixels = np.full(shape, full, dtype=kind)
    data = encode(Image(pixels), fmt)
    assert sniff(data) is FORMATS[fmt]
    again = decode(data)
    assert again.pixels.shape[:2] == shape[:2]
    assert again.pixels.min() >= {"uint8": 254, "uint16": 65534, "float32": 1.0}[again.pixels.dtype.name]


def test_strided_pixels_are_written_as_they_look(pictures: Any) -> None:
    rgb = pictures.draw(60, 40)
    view = rgb[::2, ::-1]
    for fmt, options in (("png", {}), ("webp", {"lossless": True})):
        assert np.array_equal(decode(encode(Image(view), fmt, options)).pixels, view)
    same = encode(Image(np.ascontiguousarray(view)), "jpeg")
    assert encode(Image(view), "jpeg") == same


def test_writing_leaves_the_pixels_alone(pictures: Any) -> None:
    rgba = np.dstack([pictures.draw(30, 20), pictures.draw(30, 20)[..., 0]])
    before = rgba.copy()
    for fmt in WRITTEN:
        encode(Image(rgba), fmt)
    assert np.array_equal(rgba, before)


def test_alpha_is_laid_over_the_background_in_jpeg() -> None:
    clear = np.zeros((16, 16, 4), np.uint8)
    assert decode(encode(Image(clear), "jpeg")).pixels.min() >= 254
    red = decode(encode(Image(clear), "jpeg", {"background": "#f00", "subsampling": "444"})).pixels
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 2


@given(rgba=hnp.arrays(np.uint8, (3, 3, 4)), background=st.tuples(*[st.integers(0, 255)] * 3))
def test_flattening_rounds_to_the_nearest(rgba: Any, background: tuple[int, int, int]) -> None:
    alpha = rgba[..., 3:] / 255
    exact = rgba[..., :3] * alpha + np.array(background) * (1 - alpha)
    assert np.abs(flatten(rgba, background) - exact).max() <= 0.5 + 1e-9


def test_depths_are_rounded_to_the_nearest() -> None:
    every = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(to_uint8(every), np.rint(every / 257).astype(np.uint8))
    bytes_ = np.arange(256, dtype=np.uint8)
    assert np.array_equal(to_uint8(to_uint16(bytes_)), bytes_)
    floats = np.array([-1, 0, 0.5, 1, 2, np.nan, np.inf, -np.inf], np.float32)
    assert to_uint8(floats).tolist() == [0, 0, 128, 255, 255, 0, 255, 0]
    assert to_uint16(floats).tolist() == [0, 0, 32768, 65535, 65535, 0, 65535, 0]


@pytest.mark.parametrize("fmt", sorted(name for name, target in WRITTEN.items() if target.icc))
def test_a_profile_is_embedded_and_nothing_else(pictures: Any, fmt: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = opened(encode(Image(pictures.draw(30, 20), icc=profile), fmt))
    assert picture.info["icc_profile"] == profile
    picture = opened(encode(Image(pictures.draw(30, 20)), fmt))
    assert "icc_profile" not in picture.info
    assert fmt == "tiff" or not picture.getexif()  # the tags of a TIFF are its EXIF
    assert not {"xmp", "comment", "exif", "photoshop"} & set(picture.info)


def test_a_profile_of_many_segments_is_whole_again(pictures: Any) -> None:
    profile = bytes(range(256)) * 1_000
    assert opened(encode(Image(pictures.draw(8, 8), icc=profile), "jpeg")).info["icc_profile"] == profile
    assert decode(encode(Image(pictures.draw(8, 8), icc=profile), "jpeg")).channels == 3


@pytest.mark.parametrize(("fmt", "side"), [("jpeg", 65_501), ("webp", 16_384)])
def test_a_format_that_can_not_hold_the_size_says_so(fmt: str, side: int) -> None:
    with pytest.raises(NotApplicable, match=f"{side - 1:,}"):
        encode(Image(np.zeros((1, side), np.uint8)), fmt)
    assert encode(Image(np.zeros((1, side - 1), np.uint8)), fmt)


def test_an_unknown_format_is_refused() -> None:
    with pytest.raises(UnknownOperation, match="'tga'"):
        encode(Image(np.zeros((1, 1), np.uint8)), "tga")
    with pytest.raises(UnknownOperation, match="qoi is read, not written"):
        encode(Image(np.zeros((1, 1), np.uint8)), "qoi")


@pytest.mark.parametrize(
    ("fmt", "options", "parameter"),
    [
        ("jpeg", {"quality": 0}, "quality"),
        ("jpeg", {"quality": 101}, "quality"),
        ("jpeg", {"compression": 3}, "compression"),
        ("jpeg", {"subsampling": "411"}, "subsampling"),
        ("jpeg", {"background": "white"}, "background"),
        ("png", {"quality": 80}, "quality"),
        ("webp", {"effort": 7}, "effort"),
    ],
)
def test_bad_options_name_the_parameter_and_what_is_allowed(fmt: str, options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(InvalidParameter, match=parameter) as caught:
        encode(Image(np.zeros((1, 1), np.uint8)), fmt, options)
    assert caught.value.context["parameter"] == parameter
    assert caught.value.context["allowed"]


def test_options_of_another_format_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="PngOptions"):
        options_for("jpeg", PngOptions())


def test_every_format_has_options_with_docs_and_defaults() -> None:
    assert set(OPTIONS) == set(WRITTEN)
    for model in OPTIONS.values():
        assert model() == model()
        assert all(field.description for field in model.model_fields.values())
    assert next(iter(JpegOptions.model_fields)) == next(iter(WebpOptions.model_fields)) == "quality"
    assert JpegOptions(background="#FFF") == JpegOptions()
