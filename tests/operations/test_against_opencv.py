"""Operations that promise to be OpenCV's to the bit, compared with the direct calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.table import operation_named

Pixels = NDArray[Any]


@pytest.fixture(scope="module")
def rgb(photo: bytes) -> Pixels:
    whole: Pixels = decode(photo).pixels
    return np.ascontiguousarray(whole[40:341, 200:501])


def apply(name: str, pixels: Pixels, **arguments: Any) -> Pixels:
    return operation_named(name)(**arguments).apply(Image(pixels)).image.pixels


def gray(pixels: Pixels) -> Pixels:
    luma: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return luma


def depths(pixels: Pixels) -> list[Pixels]:
    return [pixels, pixels.astype(np.uint16) * 257, (pixels / 255).astype(np.float32)]


CALLS: list[tuple[str, dict[str, Any], Callable[[Pixels], Pixels]]] = [
    *[
        (
            "resize",
            {"width": 100, "height": 70, "fit": "fill", "interpolation": name},
            lambda x, m=mode: cv2.resize(x, (100, 70), interpolation=m),
        )
        for name, mode in {
            "nearest": cv2.INTER_NEAREST_EXACT,
            "linear": cv2.INTER_LINEAR_EXACT,
            "area": cv2.INTER_AREA,
        }.items()
    ],
    ("rotate", {"angle": 90}, lambda x: cv2.rotate(x, cv2.ROTATE_90_CLOCKWISE)),
    ("rotate", {"angle": -90}, np.rot90),
    ("rotate", {"angle": 180}, lambda x: np.rot90(x, 2)),
    ("flip", {"direction": "horizontal"}, lambda x: cv2.flip(x, 1)),
    ("flip", {"direction": "vertical"}, lambda x: cv2.flip(x, 0)),
    ("flip", {"direction": "both"}, lambda x: cv2.flip(x, -1)),
    ("crop", {"x": 3, "y": 5, "width": 70, "height": 40}, lambda x: x[5:45, 3:73]),
    ("grayscale", {}, gray),
    ("gaussian", {"sigma": 1.5}, lambda x: cv2.GaussianBlur(x, (0, 0), 1.5)),
]


@pytest.mark.parametrize(("name", "arguments", "call"), CALLS, ids=[f"{c[0]}-{list(c[1].values())}" for c in CALLS])
def test_the_operation_is_the_call(
    name: str, arguments: dict[str, Any], call: Callable[[Pixels], Pixels], rgb: Pixels
) -> None:
    for pixels in depths(rgb):
        for kind in (pixels, gray(pixels)):
            if name == "grayscale" and kind.ndim == 2:
                continue
            result, expected = apply(name, kind, **arguments), call(kind)
            if name == "grayscale" and kind.dtype == np.float32:  # which OpenCV rounds by where a pixel lies
                assert np.allclose(result, expected, rtol=0, atol=1e-6)
            else:
                assert np.array_equal(result, expected), (kind.dtype, kind.shape)


def test_an_angle_between_is_a_cubic_warp_around_the_center(rgb: Pixels) -> None:
    height, width = rgb.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -30, 1)
    expected = cv2.warpAffine(rgb, matrix, (width, height), flags=cv2.INTER_CUBIC, borderValue=(255, 0, 0))
    assert np.array_equal(apply("rotate", rgb, angle=30, expand=False, background="ff0000"), expected)


def test_a_positive_angle_turns_clockwise(rgb: Pixels) -> None:
    turned = apply("rotate", rgb, angle=89.999, expand=False).astype(float)
    exact = apply("rotate", rgb, angle=90).astype(float)
    height, width = exact.shape[:2]
    assert np.abs(turned[1 : height - 1, 1 : width - 1] - exact[1 : height - 1, 1 : width - 1]).mean() < 3


@pytest.mark.parametrize("amount", [0.0, 0.5, 1.0, 4.0])
def test_sharpen_is_filter2d_with_its_kernel(amount: float, rgb: Pixels) -> None:
    a = amount
    kernel = np.array([[0, -a, 0], [-a, 1 + 4 * a, -a], [0, -a, 0]], np.float32)
    for pixels in depths(rgb)[:2]:
        assert np.array_equal(apply("sharpen", pixels, amount=amount), cv2.filter2D(pixels, -1, kernel))


@pytest.mark.parametrize(
    "arguments", [(100, 200, 3, False), (20, 60, 3, True), (500, 900, 5, False), (5e3, 9e3, 7, True)]
)
def test_canny_is_canny_of_luma(arguments: tuple[float, float, int, bool], rgb: Pixels) -> None:
    low, high, aperture, l2 = arguments
    expected = cv2.Canny(gray(rgb), low, high, apertureSize=aperture, L2gradient=l2)
    assert 0 < np.count_nonzero(expected) < expected.size
    assert np.array_equal(apply("canny", rgb, low=low, high=high, aperture=aperture, l2=l2), expected)
    assert np.array_equal(
        apply("canny", rgb.astype(np.uint16) * 257, low=low, high=high, aperture=aperture, l2=l2), expected
    )


def seed_a_sketch(bgr: Pixels) -> Pixels:
    """The first predecessor's chain, as it was written: from BGR."""
    luma = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    kernel = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])
    sharp = cv2.filter2D(luma, -1, kernel)
    inverted = 255 - sharp
    blur = cv2.GaussianBlur(inverted, (21, 21), 0)
    drawn = cv2.divide(sharp, 255 - blur, scale=256)
    equalized: Pixels = cv2.equalizeHist(drawn)
    return equalized


@pytest.mark.parametrize("shape", [(301, 301), (64, 97), (1, 40), (33, 1), (1, 1)])
def test_sketch_full_is_the_first_predecessors_to_the_bit(shape: tuple[int, int], rgb: Pixels) -> None:
    part = np.ascontiguousarray(rgb[: shape[0], : shape[1]])
    drawn = seed_a_sketch(np.ascontiguousarray(part[..., ::-1]))
    expected = cv2.fastNlMeansDenoising(drawn, None, h=75, templateWindowSize=7, searchWindowSize=21)
    assert np.array_equal(apply("sketch", part), expected)
    assert np.array_equal(apply("sketch", part, denoise="none"), drawn)


def test_sketch_fast_looks_like_sketch_full(rgb: Pixels) -> None:
    full = apply("sketch", rgb).astype(float)
    assert psnr(apply("sketch", rgb, denoise="fast"), full) > 18
    assert psnr(apply("sketch", rgb, denoise="none"), full) < 14  # so the line above can tell


def psnr(left: Pixels, right: Pixels) -> float:
    return float(10 * np.log10(255**2 / np.mean((left.astype(float) - right.astype(float)) ** 2)))


CURVES: list[tuple[str, dict[str, float], Callable[[Pixels], Pixels]]] = [
    ("brightness", {"amount": 0.25}, lambda x: x + 0.25),
    ("contrast", {"factor": 1.5}, lambda x: (x - 0.5) * 1.5 + 0.5),
    ("gamma", {"gamma": 2.2}, lambda x: x ** (1 / 2.2)),
    ("invert", {}, lambda x: 1 - x),
]


@pytest.mark.parametrize(("name", "arguments", "curve"), CURVES, ids=[c[0] for c in CURVES])
def test_pointwise_operations_are_their_rounded_curves(
    name: str, arguments: dict[str, float], curve: Callable[[Pixels], Pixels], rgb: Pixels
) -> None:
    for pixels in depths(rgb)[:2]:
        full = np.iinfo(pixels.dtype).max
        expected = np.rint(np.clip(curve(pixels.astype(np.float64) / full), 0, 1) * full).astype(pixels.dtype)
        assert np.array_equal(apply(name, pixels, **arguments), expected)
    floats = depths(rgb)[2]
    expected = np.clip(curve(floats.astype(np.float64)), 0, 1).astype(np.float32)
    assert np.array_equal(apply(name, floats, **arguments), expected)
