"""Resize: which size comes out, what the picture keeps, and how well it is sampled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pixelmill.images.image import Image, Need, Size
from pixelmill.images.scales import scaled
from pixelmill.operations.resample import resample
from pixelmill.operations.resize import Resize


@pytest.mark.parametrize(
    ("parameters", "size", "expected"),
    [
        ({"width": 300}, (1200, 800), (300, 200)),
        ({"height": 200}, (1200, 800), (300, 200)),
        ({"width": 256, "height": 256}, (1200, 800), (256, 171)),
        ({"width": 256, "height": 256, "fit": "outside"}, (1200, 800), (384, 256)),
        ({"width": 256, "height": 256, "fit": "contain"}, (1200, 800), (256, 256)),
        ({"width": 256, "height": 256, "fit": "cover"}, (1200, 800), (256, 256)),
        ({"width": 256, "height": 256, "fit": "fill"}, (1200, 800), (256, 256)),
        ({"width": 256, "fit": "fill"}, (1200, 800), (256, 171)),
        ({"width": 256, "fit": "contain"}, (1200, 800), (256, 171)),
        ({"width": 2400}, (1200, 800), (1200, 800)),
        ({"width": 2400, "enlarge": True}, (1200, 800), (2400, 1600)),
        ({"width": 2400, "height": 900, "fit": "fill"}, (1200, 800), (2400, 900)),
        ({"width": 2400, "height": 900, "fit": "contain"}, (1200, 800), (2400, 900)),
        ({"width": 2400, "height": 400, "fit": "cover"}, (1200, 800), (1200, 400)),
        ({"width": 2400, "height": 900, "fit": "cover"}, (1200, 800), (1200, 800)),
        ({"width": 2400, "height": 900, "fit": "cover", "enlarge": True}, (1200, 800), (2400, 900)),
        ({"width": 1, "height": 1}, (10_000, 3), (1, 1)),
        ({"width": 10}, (10_000, 3), (10, 1)),
    ],
)
def test_each_fit_gives_the_size_it_says(
    parameters: dict[str, Any], size: tuple[int, int], expected: tuple[int, int]
) -> None:
    assert Resize(**parameters).size(Size(*size)) == expected


SIDES = st.none() | st.integers(1, 400)


@given(
    SIDES, SIDES, st.sampled_from(["inside", "contain", "cover", "fill", "outside"]), st.booleans(),
    st.integers(1, 60), st.integers(1, 60),
)  # fmt: skip
def test_boxes_are_kept(
    width: int | None,
    height: int | None,
    fit: Any,
    enlarge: bool,
    own_width: int,
    own_height: int,
) -> None:
    if width is None and height is None:
        return
    operation = Resize(width=width, height=height, fit=fit, enlarge=enlarge)
    own = Size(own_width, own_height)
    result = operation.size(own)
    assert min(result) >= 1
    image = Image(np.zeros((own.height, own.width), np.uint8))
    assert operation.apply(image).image.size == result
    if width is not None and height is not None:
        box = Size(width, height)
        if fit in {"inside", "cover"}:
            assert result.width <= box.width
            assert result.height <= box.height
        if fit in {"contain", "fill"} or (fit == "cover" and enlarge):
            assert result == box
        if fit == "outside" and enlarge:
            assert result.width >= box.width
            assert result.height >= box.height
    if not enlarge and fit in {"inside", "outside", "cover"}:
        assert result.width <= own.width
        assert result.height <= own.height


def test_contain_pads_evenly_with_the_background_and_cover_cuts_evenly() -> None:
    pixels = np.zeros((100, 200, 3), np.uint8)
    pixels[:, :100] = 255
    padded = Resize(width=100, height=100, fit="contain", background="#00ff00").apply(Image(pixels)).image.pixels
    assert (padded[:25] == (0, 255, 0)).all()
    assert (padded[75:] == (0, 255, 0)).all()
    assert padded[25:75, :48].min() >= 252
    cut = Resize(width=100, height=100, fit="cover").apply(Image(pixels)).image.pixels
    assert cut[:, :48].min() >= 252
    assert cut[:, 52:].max() <= 3


@pytest.mark.parametrize("interpolation", ["auto", "nearest", "linear", "cubic", "area", "lanczos"])
@pytest.mark.parametrize("target", [(20, 20), (64, 64), (90, 150)])
def test_invisible_colors_do_not_bleed(interpolation: Any, target: tuple[int, int]) -> None:
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[...] = (0, 255, 0, 0)  # a green that nobody sees
    pixels[16:48, 16:48] = (255, 0, 0, 255)
    operation = Resize(width=target[0], height=target[1], fit="fill", interpolation=interpolation)
    result = operation.apply(Image(pixels)).image.pixels
    seen = result[..., 3] > 8
    assert seen.any()
    assert result[seen][:, 1].max() <= 8
    if interpolation != "nearest" or target == (64, 64):
        assert result[seen][:, 0].min() >= 247


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("target", [(7, 5), (40, 30), (101, 67), (150, 100)])
def test_a_plain_picture_stays_plain(dtype: Any, target: tuple[int, int]) -> None:
    value = 0.75 if dtype == np.float32 else np.iinfo(dtype).max * 3 // 4
    plain = np.full((67, 101, 3), value, dtype)
    result = Resize(width=target[0], height=target[1], fit="fill").apply(Image(plain)).image.pixels
    slack = 1e-4 if dtype == np.float32 else np.iinfo(dtype).max / 255
    assert np.abs(result.astype(float) - value).max() <= slack


def lanczos(pixels: NDArray[Any], size: Size) -> NDArray[np.float64]:
    """The reference: antialiased Lanczos-3 in float64, one axis after the other, straight from its definition."""
    values = pixels.astype(np.float64)
    for axis, target in ((0, size.height), (1, size.width)):
        own = values.shape[axis]
        scale = max(own / target, 1.0)
        centers = (np.arange(target) + 0.5) * own / target - 0.5
        offsets = (np.arange(own)[None, :] - centers[:, None]) / scale
        weights = np.where(np.abs(offsets) < 3, np.sinc(offsets) * np.sinc(offsets / 3), 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
        values = np.moveaxis(np.tensordot(weights, values, axes=(1, axis)), 0, axis)
    return np.clip(values, 0, 255)


def psnr(result: NDArray[Any], truth: NDArray[np.float64]) -> float:
    return float(10 * np.log10(255**2 / np.mean((result.astype(np.float64) - truth) ** 2)))


PHOTOS = ["rocket.jpg", "astronaut.png", "coffee.png", "chelsea.png"]


@pytest.fixture(scope="module")
def photographs(photo_path: Path) -> dict[str, NDArray[Any]]:
    return {
        name: np.asarray(Pillow.open(photo_path.parent / name).convert("L"), dtype=np.uint8).copy() for name in PHOTOS
    }


@pytest.mark.parametrize(
    "target", [(256, 256), (250, 170), (230, 150), (180, 120), (128, 85), (64, 64), (400, 250), (333, 21)]
)
def test_auto_is_at_least_as_close_to_lanczos_as_pillows_bicubic(
    target: tuple[int, int], photographs: dict[str, NDArray[Any]]
) -> None:
    size = Size(*target)
    ours, pillows = [], []
    for pixels in photographs.values():
        truth = lanczos(pixels, size)
        ours.append(psnr(resample(pixels, size, Size(*pixels.shape[::-1])), truth))
        bicubic = Pillow.fromarray(pixels).resize(target, Pillow.Resampling.BICUBIC)
        pillows.append(psnr(np.asarray(bicubic), truth))
    assert np.mean(ours) >= np.mean(pillows)
    assert min(np.subtract(ours, pillows)) > -1.0, list(zip(PHOTOS, ours, pillows, strict=True))


@pytest.mark.parametrize(("dtype", "channels"), [(np.uint16, 1), (np.float32, 1), (np.uint8, 3)])
def test_every_depth_is_sampled_alike(dtype: Any, channels: int, photographs: dict[str, NDArray[Any]]) -> None:
    pixels = photographs["coffee.png"]
    size = Size(150, 99)
    expected = resample(pixels, size, Size(*pixels.shape[::-1])).astype(float)
    deep: NDArray[Any] = pixels.astype(dtype) * {np.uint16: 257, np.float32: np.float32(1 / 255), np.uint8: 1}[dtype]
    if channels == 3:
        deep = np.dstack([deep] * 3)
    result = Resize(width=150, height=99, fit="fill").apply(Image(deep.astype(dtype))).image.pixels
    levels = result.astype(float) / {np.uint16: 257, np.float32: 1 / 255, np.uint8: 1}[dtype]
    difference = np.abs((levels if channels == 1 else levels[..., 0]) - expected)
    assert difference.mean() < 1  # rounding to 8 bits after each step
    assert difference.max() <= 7


@pytest.mark.parametrize("mirrored", [(False, False), (True, False), (False, True), (True, True)])
def test_a_reduced_decode_is_mapped_by_what_it_covers_wherever_its_part_pixels_lie(
    mirrored: tuple[bool, bool], photographs: dict[str, NDArray[Any]]
) -> None:
    whole = photographs["astronaut.png"][:399, :397]
    full = Size(397, 399)
    eighth = scaled(full, 4)
    padded = cv2.copyMakeBorder(whole, 0, 1, 0, 1, cv2.BORDER_REPLICATE)
    half = cv2.resize(padded, eighth, interpolation=cv2.INTER_AREA)
    truth = lanczos(whole, Size(100, 100))
    left, top = mirrored
    turned = np.ascontiguousarray(half[:: -1 if top else 1, :: -1 if left else 1])
    result = resample(turned, Size(100, 100), full, mirrored=mirrored)[:: -1 if top else 1, :: -1 if left else 1]
    wrong = resample(half, Size(100, 100), eighth)
    assert psnr(result, truth) > psnr(wrong, truth) + 1
    assert psnr(result, truth) > 33


def test_need_leaves_room_above_the_target_and_explicit_interpolation_needs_every_pixel() -> None:
    size = Size(4000, 3000)
    assert Resize(width=256, height=256, fit="fill").need(Need(), size) == Need(least=Size(320, 320))
    assert Resize(width=3900).need(Need(), size) == Need()
    assert Resize(width=256, interpolation="area").need(Need(color=False), size) == Need(color=False)
    assert Resize(width=100, height=100, fit="cover").need(Need(), size).least == Size(167, 125)
