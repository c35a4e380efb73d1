"""``format:auto`` keeps what was drawn, packs what was photographed, and never takes the larger file."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from pixelmill.errors import NotApplicable
from pixelmill.images.auto import SMALL, Look, choose, encode_auto, look_at, quality_of
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.encoders import SAFE, AutoOptions
from pixelmill.images.formats import FORMATS, sniff
from pixelmill.images.image import Image, Size


def chart(width: int = 480, height: int = 300) -> Any:
    """Bars with soft edges, as a browser draws them."""
    picture = Pil.new("RGB", (width * 4, height * 4), "white")
    draw = ImageDraw.Draw(picture)
    for index in range(10):
        left, top = (20 + index * 45) * 4, (20 + (index * 97) % 200) * 4
        draw.rectangle([left, top, left + 120, height * 4 - 80], fill=(index * 25, 90, 255 - index * 20))
    return np.array(picture.resize((width, height), Pil.Resampling.LANCZOS))


def screenshot(width: int = 900, height: int = 700) -> Any:
    picture = Pil.new("RGB", (width, height), "#f4f4f6")
    draw = ImageDraw.Draw(picture)
    for line in range(30):
        text = "The quick brown fox jumps over the lazy dog. 0123456789"
        draw.text((30, 10 + line * 22), text, fill="#222222", font=ImageFont.load_default(16))
    return np.array(picture)


def photograph(width: int = 480, height: int = 320, seed: int = 3) -> Any:
    """Soft shapes with the noise of a camera."""
    random = np.random.default_rng(seed)
    soft = cv2.resize(random.integers(20, 235, (12, 16, 3), np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    noise = random.normal(0, 4, (height, width, 1))
    return np.clip(soft + noise, 0, 255).astype(np.uint8)


def auto(**options: Any) -> AutoOptions:
    return AutoOptions.model_validate(options)


DRAWINGS = {"chart": chart, "screenshot": screenshot, "large chart": lambda: chart(1600, 1000)}
PHOTOGRAPHS = {"small": photograph, "large": lambda: photograph(1200, 900)}


@pytest.mark.parametrize("name", DRAWINGS)
@pytest.mark.parametrize("accept", [("jpeg", "png", "webp"), ("jpeg", "png"), ("avif", "webp", "jpeg")])
def test_drawings_stay_as_they_are(name: str, accept: tuple[str, ...]) -> None:
    pixels = DRAWINGS[name]()
    chosen = encode_auto(Image(pixels), auto(accept=accept))
    with Pil.open(io.BytesIO(chosen.body)) as picture:
        assert np.array_equal(np.array(picture.convert("RGB")), pixels)
    assert len(chosen.body) < len(encode(Image(pixels), "jpeg"))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("accept", [("jpeg", "png", "webp"), ("jpeg", "png"), ("jpeg", "webp", "avif"), ("jpeg",)])
def test_photographs_get_a_lossy_format_that_is_no_larger_than_jpeg(name: str, accept: tuple[str, ...]) -> None:
    image = Image(PHOTOGRAPHS[name]())
    chosen = encode_auto(image, auto(accept=accept))
    assert chosen.format in set(accept) - {"png"}
    assert len(chosen.body) <= len(encode(image, "jpeg", {"quality": 80}))
    assert sniff(chosen.body) is FORMATS[chosen.format]


def test_real_photographs_are_never_larger_and_look_the_same(assets: Path) -> None:
    for path in sorted((assets / "photos").glob("*.jpg")):
        image = decode(path.read_bytes())
        side = max(image.size)
        pixels = cv2.resize(image.pixels, None, fx=400 / side, fy=400 / side, interpolation=cv2.INTER_AREA)
        chosen = encode_auto(Image(pixels), auto())
        fixed = encode(Image(pixels), "jpeg", {"quality": 80})
        assert len(chosen.body) <= len(fixed), path.name
        assert psnr(chosen.body, pixels) > psnr(fixed, pixels) - 2.5, path.name


def psnr(body: bytes, pixels: Any) -> float:
    again: Any = decode(body).pixels
    if again.ndim != pixels.ndim:
        again = again[..., 0] if again.ndim == 3 else np.dstack([again] * 3)
    return float(cv2.PSNR(again, pixels))


@settings(max_examples=40, deadline=None)
@given(
    pixels=hnp.arrays(np.uint8, st.one_of(hnp.array_shapes(min_dims=2, max_dims=2, max_side=20), st.just((9, 7, 4)))),
    accept=st.lists(st.sampled_from(["jpeg", "png", "webp", "avif", "gif"]), min_size=1, max_size=5),
)
def test_any_pixels_get_an_accepted_format(pixels: Any, accept: list[Any]) -> None:
    chosen = encode_auto(Image(pixels), auto(accept=accept))
    assert chosen.format in accept
    assert sniff(chosen.body) is FORMATS[chosen.format]


@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_deep_pixels_get_8_bits(kind: Any) -> None:
    full = {np.uint16: 257, np.float32: 1 / 255}[kind]
    deep = (chart().astype(np.float64) * full).astype(kind)
    assert encode_auto(Image(deep), auto()) == encode_auto(Image(chart()), auto())


def test_transparency_is_kept_unless_only_jpeg_is_taken() -> None:
    alpha = np.tile(np.linspace(0, 255, 480).astype(np.uint8), (320, 1))
    image = Image(np.dstack([photograph(), alpha]))
    for accept in (None, ["jpeg", "png"], ["webp"], ["jpeg", "avif"]):
        chosen = encode_auto(image, auto(accept=accept))
        assert chosen.format != "jpeg"
        assert decode(chosen.body).pixels[..., 3].min() < 10
    red = encode_auto(image, auto(accept=["jpeg"], background="f00"))
    assert red.format == "jpeg"
    assert decode(red.body).pixels[0, 0, 0] > 240


def test_an_alpha_channel_that_is_opaque_changes_nothing() -> None:
    opaque = np.dstack([photograph(), np.full((320, 480), 255, np.uint8)])
    assert encode_auto(Image(opaque), auto()) == encode_auto(Image(photograph()), auto())


def test_few_colors_become_a_palette() -> None:
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[:, ::3] = 200, 30, 30
    chosen = encode_auto(Image(stripes), auto(accept=["png", "jpeg"]))
    with Pil.open(io.BytesIO(chosen.body)) as picture:
        assert picture.mode == "P"
        assert np.array_equal(np.array(picture.convert("RGB")), stripes)


def test_looking_is_bounded_and_sees_all_of_a_picture() -> None:
    assert look_at(Image(photograph(3000, 2000))).drawn is False
    half = np.vstack([np.full((1000, 1200, 3), 255, np.uint8), photograph(1200, 1000)])
    assert look_at(Image(half)).drawn is False
    for shape in ((1, 1), (1, 1, 3), (5000, 1, 3), (1, 5000, 4)):
        assert look_at(Image(np.zeros(shape, np.uint8))).size == Size(shape[1], shape[0])


SIDES = st.integers(1, 20_000)
LOOKS = st.builds(
    Look, st.builds(Size, SIDES, SIDES), st.booleans(), st.booleans(), st.booleans(), st.booleans(), st.integers(1, 3)
)


@given(LOOKS, st.lists(st.sampled_from(["jpeg", "png", "webp", "avif", "gif"]), min_size=1))
def test_choosing_gives_what_is_accepted_and_can_hold_it(look: Look, accept: list[Any]) -> None:
    options = auto(accept=accept)
    candidates = choose(look, options)
    names = [candidate.format for candidate in candidates]
    assert names
    assert set(names) <= set(options.accepted)
    holds = [name for name in options.accepted if FORMATS[name].max_side >= max(look.size)]
    assert not holds or set(names) <= set(holds)
    if look.transparent and {"png", "webp", "avif"} & set(holds):
        assert "jpeg" not in names
    if look.frames > 1 and {"webp", "gif", "png"} & set(holds):
        assert len(names) == 1
        assert names == ["webp"] or "webp" not in holds
    if not look.small:
        assert len(names) <= 4


def test_too_large_for_all_that_is_accepted_says_so() -> None:
    with pytest.raises(NotApplicable, match="webp holds at most"):
        encode_auto(Image(np.zeros((1, 20_000), np.uint8)), auto(accept=["webp"]))
    assert encode_auto(Image(np.zeros((1, 20_000), np.uint8)), auto()).format in ("jpeg", "png")


def test_the_one_scale_of_quality_rises_and_ends_where_jpegs_does() -> None:
    for name in ("webp", "avif", "jpeg"):
        scale = [quality_of(name, quality) for quality in range(1, 101)]
        assert scale == sorted(scale)
        assert scale[-1] == 100
        assert scale[0] >= 1
    small = [len(encode_auto(Image(photograph()), auto(quality=quality)).body) for quality in (30, 60, 90)]
    assert small == sorted(set(small))


def test_the_safe_set_and_the_bound_are_as_told() -> None:
    assert auto().accepted == SAFE == ("jpeg", "png", "webp")
    assert Look(Size(512, 512)).small
    assert not Look(Size(513, 512)).small
    assert SMALL == 512 * 512
