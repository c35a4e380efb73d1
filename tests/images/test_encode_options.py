"""Every option of an encoder has its effect, as independent readers see it; defaults write what they always wrote."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pil

from pixelmill.errors import InvalidParameter, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.encoders import OPTIONS, options_for
from pixelmill.images.image import Image


def opened(data: bytes) -> Pil.Image:
    return Pil.open(io.BytesIO(data))


@pytest.mark.parametrize("progressive", [False, True])
def test_optimized_jpeg_is_smaller_and_nearly_the_same(photo: bytes, progressive: bool) -> None:
    image = decode(photo)
    plain = encode(image, "jpeg")
    small = encode(image, "jpeg", {"optimize": True, "progressive": progressive})
    assert len(small) < len(plain)
    assert bool(opened(small).info.get("progressive")) is progressive
    assert np.abs(np.asarray(opened(small)).astype(int) - np.asarray(opened(plain))).mean() < 1


@settings(max_examples=40, deadline=None)
@given(
    pixels=st.sampled_from([(), (3,), (4,)]).flatmap(
        lambda tail: hnp.arrays(np.uint8, (11, 9, *tail), elements=st.sampled_from([0, 80, 255]))
    ),
    dither=st.booleans(),
)
def test_a_palette_that_is_large_enough_loses_nothing(pixels: Any, dither: bool) -> None:
    body = encode(Image(pixels), "png", {"colors": 256, "dither": dither})
    picture = opened(body)
    assert picture.mode == "P"
    want = pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)
    assert np.array_equal(np.asarray(picture.convert("RGBA"))[..., : want.shape[2]], want)


@pytest.mark.parametrize("colors", [2, 3, 16, 17, 200, 256])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_small_palette_holds_no_more_colors_than_asked(pictures: Any, colors: int, alpha: bool) -> None:
    rgb = pictures.draw(90, 60)
    pixels = np.dstack([rgb, rgb[..., 1]]) if alpha else rgb
    body = encode(Image(pixels), "png", {"colors": colors})
    seen = np.asarray(opened(body).convert("RGBA")).reshape(-1, 4)
    assert 2 <= len(np.unique(seen, axis=0)) <= colors
    bits = body[24]  # IHDR, ISO/IEC 15948, 11.2.2
    assert bits == (1 if colors == 2 else 2 if colors <= 4 else 4 if colors <= 16 else 8) or alpha
    assert colors > 17 or len(body) < len(encode(Image(pixels), "png"))


def test_dither_of_a_palette_mixes_colors() -> None:
    ramp = np.dstack([np.tile(np.arange(256, dtype=np.uint8), (64, 1))] * 3)
    mixed, flat = (
        np.asarray(opened(encode(Image(ramp), "png", {"colors": 4, "dither": on})).convert("L")).astype(int)
        for on in (True, False)
    )
    assert (np.abs(np.diff(mixed, axis=1)) > 0).mean() > (np.abs(np.diff(flat, axis=1)) > 0).mean()
    smooth = [np.abs(a.reshape(8, 8, 32, 8).mean(axis=(1, 3)) - ramp[::8, ::8, 0]).mean() for a in (mixed, flat)]
    assert smooth[0] < smooth[1]


def test_a_palette_takes_deep_pixels_and_a_profile() -> None:
    deep = (np.arange(64, dtype=np.uint16).reshape(8, 8) * 1024)[..., np.newaxis].repeat(3, axis=2)
    assert opened(encode(Image(deep), "png", {"colors": 256})).mode == "P"
    body = encode(Image(deep, icc=b"\0" * 200), "png", {"colors": 8, "compression": 9})
    assert opened(body).info["icc_profile"] == b"\0" * 200


def test_png_rows_without_filters_give_back_every_bit(pictures: Any) -> None:
    pixels = pictures.draw(60, 40)
    plain, bare = encode(Image(pixels), "png"), encode(Image(pixels), "png", {"filter": "none"})
    assert np.array_equal(np.asarray(opened(bare)), pixels)
    assert plain != bare


def test_webps_transparency_has_its_own_quality() -> None:
    random = np.random.default_rng(5)
    pixels = np.full((128, 128, 4), 90, np.uint8)
    pixels[..., 3] = random.integers(0, 256, (128, 128))
    exact, rough = (encode(Image(pixels), "webp", {"alpha_quality": quality}) for quality in (100, 5))
    assert np.array_equal(np.asarray(opened(exact))[..., 3], pixels[..., 3])
    assert not np.array_equal(np.asarray(opened(rough))[..., 3], pixels[..., 3])
    assert len(rough) < len(exact)


@pytest.mark.parametrize(("name", "code"), [("420", (1, 1)), ("422", (1, 0)), ("444", (0, 0))])
def test_avifs_subsampling_is_as_asked(pictures: Any, name: str, code: tuple[int, int]) -> None:
    body = encode(Image(pictures.draw(64, 64)), "avif", {"subsampling": name})
    at = body.index(b"av1C") + 4  # AV1-ISOBMFF, 2.3.3: chroma_subsampling_x and _y in the third byte
    assert ((body[at + 2] >> 3) & 1, (body[at + 2] >> 2) & 1) == code
    assert opened(body).size == (64, 64)


def test_gray_avif_takes_any_subsampling() -> None:
    gray = np.full((20, 30), 77, np.uint8)
    assert encode(Image(gray), "avif", {"subsampling": "444"}) == encode(Image(gray), "avif")


@pytest.mark.parametrize(("name", "tag"), [("none", 1), ("lzw", 5), ("deflate", 8), ("packbits", 32_773)])
@pytest.mark.parametrize("predictor", ["horizontal", "none"])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_tiff_is_packed_as_asked(pictures: Any, name: str, tag: int, predictor: str, kind: Any) -> None:
    pixels = pictures.draw(50, 30).astype(kind) / (255 if kind is np.float32 else 1)
    pixels = pixels.astype(kind)
    body = encode(Image(pixels), "tiff", {"compression": name, "predictor": predictor})
    assert tags(body)[259] == tag
    if name in ("lzw", "deflate"):
        assert (tags(body).get(317, 1) == 1) == (predictor == "none")
    again = decode(body).pixels
    assert again.dtype == kind
    assert np.array_equal(again, pixels)


def tags(body: bytes) -> dict[int, int]:
    """The short values of a little-endian TIFF's first directory."""
    (at,) = struct.unpack_from("<I", body, 4)
    (count,) = struct.unpack_from("<H", body, at)
    entries = (struct.unpack_from("<HHIH", body, at + 2 + 12 * index) for index in range(count))
    return {tag: value for tag, _, _, value in entries}


@pytest.mark.parametrize("fmt", ["jpeg", "webp", "avif"])
def test_max_bytes_finds_the_highest_quality_that_fits(photo: bytes, fmt: str) -> None:
    image = decode(photo)
    full = encode(image, fmt)
    assert encode(image, fmt, {"max_bytes": len(full)}) == full
    for part in (0.9, 0.5):
        limit = int(len(full) * part)
        body = encode(image, fmt, {"max_bytes": limit})
        assert len(body) <= limit
        qualities = [q for q in range(1, 100) if encode(image, fmt, {"quality": q}) == body] if fmt == "jpeg" else []
        for quality in qualities[-1:]:
            assert len(encode(image, fmt, {"quality": quality + 1})) > limit


def test_max_bytes_never_raises_the_quality(photo: bytes) -> None:
    image = decode(photo)
    assert encode(image, "jpeg", {"quality": 30, "max_bytes": 10**8}) == encode(image, "jpeg", {"quality": 30})
    low = {"quality": 1, "max_bytes": 100}
    with pytest.raises(NotApplicable):
        encode(image, "jpeg", low)


@pytest.mark.parametrize("fmt", ["jpeg", "webp", "avif"])
def test_an_impossible_max_bytes_says_what_to_do(photo: bytes, fmt: str) -> None:
    with pytest.raises(NotApplicable, match="at quality 1 already") as raised:
        encode(decode(photo), fmt, {"max_bytes": 100})
    assert raised.value.context["maximum"] == 100
    assert raised.value.context["bytes"] > 100


def test_lossless_webp_takes_no_max_bytes() -> None:
    with pytest.raises(InvalidParameter, match="exclude each other"):
        options_for("webp", {"lossless": True, "max_bytes": 5_000})


RANGES: dict[str, list[tuple[str, Any]]] = {
    "jpeg": [("max_bytes", 99)],
    "png": [("colors", 1), ("colors", 257), ("filter", "paeth")],
    "webp": [("alpha_quality", -1), ("alpha_quality", 101), ("max_bytes", 0)],
    "avif": [("subsampling", "411"), ("max_bytes", 10**10)],
    "tiff": [("compression", "zstd"), ("predictor", "float")],
}


@pytest.mark.parametrize(("fmt", "name", "value"), [(fmt, *pair) for fmt, pairs in RANGES.items() for pair in pairs])
def test_what_is_out_of_range_is_refused(fmt: str, name: str, value: Any) -> None:
    assert name in OPTIONS[fmt].model_fields
    with pytest.raises(InvalidParameter, match=name):
        options_for(fmt, {name: value})
