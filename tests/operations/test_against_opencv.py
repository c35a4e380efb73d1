"""Operations are the OpenCV calls that they stand for, to the bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import operation_named
from pixelmill.pipelines.spec import Pipeline

SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])


@pytest.fixture(scope="module")
def rgb(photo_path: Path) -> NDArray[Any]:
    return np.ascontiguousarray(decode(photo_path.read_bytes()).pixels[:301, :403])


def operation(text: str) -> Operation:
    return Pipeline.parse(text).operations[0]


@pytest.mark.parametrize(
    ("text", "direct"),
    [
        ("gaussian:2", lambda p: cv2.GaussianBlur(p, (0, 0), 2)),
        ("gaussian:0.7", lambda p: cv2.GaussianBlur(p, (0, 0), 0.7)),
        ("sharpen", lambda p: cv2.filter2D(p, -1, SHARPEN)),
        ("canny:100,200", lambda p: cv2.Canny(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), 100, 200)),
        (
            "canny:900,2000,aperture=5,l2=true",
            lambda p: cv2.Canny(cv2.cvtColor(p, cv2.COLOR_RGB2GRAY), 900, 2000, apertureSize=5, L2gradient=True),
        ),
        ("grayscale", lambda p: cv2.cvtColor(p, cv2.COLOR_RGB2GRAY)),
        ("flip", lambda p: p[:, ::-1]),
        ("flip:vertical", lambda p: p[::-1]),
        ("flip:both", lambda p: p[::-1, ::-1]),
        ("rotate:90", lambda p: np.rot90(p, -1)),
        ("rotate:-90", lambda p: np.rot90(p, 1)),
        ("rotate:180", lambda p: np.rot90(p, 2)),
        ("rotate:270", lambda p: np.rot90(p, -3)),
        ("rotate:360", lambda p: p),
        ("crop:11,7,100,50", lambda p: p[7:57, 11:111]),
        ("invert", lambda p: 255 - p),
        ("brightness:0.2", lambda p: np.clip(p.astype(int) + 51, 0, 255)),
        ("contrast:1", lambda p: p),
        ("gamma:1", lambda p: p),
        (
            "gamma:2.2",
            lambda p: cv2.LUT(p, np.rint((np.arange(256) / 255) ** (1 / 2.2) * 255).astype(np.uint8)),
        ),
        ("resize:100,60,fit=fill,interpolation=area", lambda p: cv2.resize(p, (100, 60), interpolation=cv2.INTER_AREA)),
        (
            "resize:100,60,fit=fill,interpolation=nearest",
            lambda p: cv2.resize(p, (100, 60), interpolation=cv2.INTER_NEAREST),
        ),
        (
            "resize:100,60,fit=fill,interpolation=linear",
            lambda p: cv2.resize(p, (100, 60), interpolation=cv2.INTER_LINEAR),
        ),
        (
            "resize:500,600,fit=fill,interpolation=cubic",
            lambda p: cv2.resize(p, (500, 600), interpolation=cv2.INTER_CUBIC),
        ),
        (
            "resize:500,600,fit=fill,interpolation=lanczos",
            lambda p: cv2.resize(p, (500, 600), interpolation=cv2.INTER_LANCZOS4),
        ),
    ],
)
def test_an_operation_is_its_opencv_call(
    text: str, direct: Callable[[NDArray[Any]], NDArray[Any]], rgb: NDArray[Any]
) -> None:
    assert np.array_equal(operation(text).apply(Image(rgb)).image.pixels, direct(rgb))


def seed_a(bgr: NDArray[Any]) -> NDArray[Any]:
    """The chain that `sketch` is defined by, on OpenCV's own channel order."""
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    sharp = cv2.filter2D(gray, -1, SHARPEN)
    blur = cv2.GaussianBlur(255 - sharp, (21, 21), 0)
    equalized = cv2.equalizeHist(cv2.divide(sharp, 255 - blur, scale=256))
    denoised: NDArray[Any] = cv2.fastNlMeansDenoising(equalized, None, 75, 7, 21)
    return denoised


def test_a_full_sketch_is_seed_as_chain_bit_for_bit(photo: bytes) -> None:
    rgb: NDArray[np.uint8] = np.array(decode(photo).pixels[100:340, 200:501], np.uint8)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    sketch = operation_named("sketch")()
    assert np.array_equal(sketch.apply(Image(rgb)).image.pixels, seed_a(bgr))
    opaque = np.dstack([rgb, np.full(rgb.shape[:2], 77, np.uint8)])
    assert np.array_equal(sketch.apply(Image(opaque)).image.pixels, seed_a(bgr)), "alpha is left out"


def test_a_full_sketch_of_a_whole_pipeline_is_the_same(photo: bytes) -> None:
    bgr = np.ascontiguousarray(decode(photo).pixels[:150, :201, ::-1])
    small = cv2.imencode(".png", bgr)[1].tobytes()
    pixels = Pipeline.parse("sketch/format:png").run(small).image.pixels
    assert np.array_equal(pixels, seed_a(bgr))


def test_a_fast_sketch_is_closer_to_the_full_one_than_no_denoising(photo: bytes) -> None:
    rgb: NDArray[np.uint8] = np.array(decode(photo).pixels[100:301, 200:501], np.uint8)
    full, fast, none = (
        operation(f"sketch:denoise={how}").apply(Image(rgb)).image.pixels.astype(float)
        for how in ("full", "fast", "none")
    )
    assert np.mean((fast - full) ** 2) * 4 < np.mean((none - full) ** 2)


def test_a_warp_by_ninety_degrees_on_a_square_is_the_exact_turn(rgb: NDArray[Any]) -> None:
    square = np.ascontiguousarray(rgb[:200, :200])
    exact = operation("rotate:90").apply(Image(square)).image.pixels
    kept = operation("rotate:90,expand=false").apply(Image(square)).image.pixels
    near = operation("rotate:89.9999999").apply(Image(square)).image.pixels
    assert np.array_equal(exact, kept)
    assert np.abs(near.astype(int) - exact).max() <= 2


def test_a_turned_picture_is_clockwise_centered_and_framed_by_the_background() -> None:
    white = Image(np.full((50, 100, 3), 255, np.uint8))
    turned = operation("rotate:45,background=ff0000").apply(white).image.pixels
    assert turned.shape == (107, 107, 3)
    assert (turned[0, 0] == (255, 0, 0)).all()
    assert (turned[53, 53] == 255).all()
    assert np.abs(turned.astype(int) - turned[::-1, ::-1]).max() <= 1, "a half turn maps it onto itself"
    half = Image(np.concatenate([np.zeros((51, 50, 1), np.uint8), np.full((51, 51, 1), 255, np.uint8)], axis=1)[..., 0])
    clockwise = operation("rotate:45,background=808080").apply(half).image.pixels
    height, width = clockwise.shape
    assert clockwise[height * 3 // 4 - 5, width * 3 // 4 - 5] == 255, "the right side went down"


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_a_transparent_background_does_not_darken_the_rim(dtype: Any) -> None:
    white = 255 if dtype == np.uint8 else 1.0
    image = Image(np.full((60, 60, 4), white, dtype))
    turned = operation("rotate:30,background=00000000").apply(image).image.pixels
    seen = turned[turned[..., 3] > white * 0.02]
    assert (turned[..., 3] == 0).any()
    assert seen[:, :3].min() >= white * 0.98
