"""Color, filters, edges and morphology, compared with the library calls that they stand for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from skimage import filters

from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.table import operation_named

Pixels = NDArray[Any]
FULL: dict[Any, float] = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65_535.0, np.dtype(np.float32): 1.0}


@pytest.fixture(scope="module")
def rgb(photo: bytes) -> Pixels:
    whole: Pixels = decode(photo).pixels
    return np.ascontiguousarray(whole[40:241, 200:401])


def apply(name: str, pixels: Pixels, **arguments: Any) -> Pixels:
    return operation_named(name)(**arguments).apply(Image(pixels)).image.pixels


def gray(pixels: Pixels) -> Pixels:
    luma: Pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    return luma


def depths(pixels: Pixels) -> list[Pixels]:
    """Gray and RGB at every depth; 16 bits with samples that 8 bits have not."""
    fine = pixels.astype(np.uint16) * 257 + np.arange(pixels.size, dtype=np.uint16).reshape(pixels.shape) % 100
    deep = np.maximum(fine, pixels.astype(np.uint16) * 256)
    colors = [pixels, deep, (deep / 65_535).astype(np.float32)]
    return [*colors, *[gray(color) for color in colors]]


def fitted(samples: Pixels, dtype: Any) -> Pixels:
    clipped = np.clip(samples, 0, FULL[np.dtype(dtype)])
    return (clipped if dtype == np.float32 else np.rint(clipped)).astype(dtype)


# -- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 4, 50])
def test_box_is_blur(radius: int, rgb: Pixels) -> None:
    side = 2 * radius + 1
    for pixels in depths(rgb):
        expected = cv2.blur(pixels, (side, side))
        assert np.array_equal(apply("box", pixels, radius=radius), fitted(expected, pixels.dtype))


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_median_is_median_at_every_depth(radius: int, rgb: Pixels) -> None:
    for pixels in depths(rgb[:60, :80]):
        result = apply("median", pixels, radius=radius)
        if pixels.dtype == np.uint8 or radius <= 2:
            assert np.array_equal(result, cv2.medianBlur(pixels, 2 * radius + 1))
        footprint = np.ones((2 * radius + 1, 2 * radius + 1, 1)[: pixels.ndim])
        expected: Pixels = filters.median(pixels, footprint, mode="nearest")  # type: ignore[no-untyped-call]  # it has no types
        assert np.array_equal(result, expected)


@pytest.mark.parametrize(("color", "space"), [(0.1, 3.0), (0.4, 0.5)])
def test_bilateral_is_bilateral(color: float, space: float, rgb: Pixels) -> None:
    for pixels in depths(rgb):
        result = apply("bilateral", pixels, sigma_color=color, sigma_space=space)
        if pixels.dtype == np.uint16:
            floats = cv2.bilateralFilter((pixels / 65_535).astype(np.float32), 0, color, space)
            assert np.abs(result - floats.astype(np.float64) * 65_535).max() <= 1
        else:
            full = FULL[pixels.dtype]
            assert np.array_equal(result, fitted(cv2.bilateralFilter(pixels, 0, color * full, space), pixels.dtype))


def test_unsharp_is_the_weighted_sum_with_a_blur(rgb: Pixels) -> None:
    for pixels in depths(rgb):
        blurred = cv2.GaussianBlur(pixels, (0, 0), 1.5)
        expected = fitted(cv2.addWeighted(pixels, 1.8, blurred, -0.8, 0), pixels.dtype)
        assert np.array_equal(apply("unsharp", pixels, sigma=1.5, amount=0.8), expected)
        small = np.abs(pixels.astype(np.float64) - blurred) < 0.1 * FULL[pixels.dtype]
        assert 0 < small.sum() < small.size
        expected[small] = pixels[small]
        assert np.array_equal(apply("unsharp", pixels, sigma=1.5, amount=0.8, threshold=0.1), expected)


def test_emboss_is_filter2d_with_its_kernel(rgb: Pixels) -> None:
    kernels = {
        "top-left": [[-2, -1, 0], [-1, 1, 1], [0, 1, 2]],
        "top": [[-1, -1, -1], [0, 1, 0], [1, 1, 1]],
        "right": [[1, 0, -1], [1, 1, -1], [1, 0, -1]],
    }
    for pixels in depths(rgb):
        for light, kernel in kernels.items():
            expected = fitted(cv2.filter2D(pixels, -1, np.array(kernel, np.float32)), pixels.dtype)
            assert np.array_equal(apply("emboss", pixels, light=light), expected)


@pytest.mark.parametrize("side", [3, 5, 7, 9])
def test_convolve_is_filter2d(side: int, rgb: Pixels) -> None:
    weights = np.random.default_rng(side).normal(0, 1, (side, side)) + 0.3
    kernel = weights.ravel().tolist()
    for pixels in depths(rgb):
        expected = cv2.filter2D(pixels, -1, weights.astype(np.float32))
        assert np.array_equal(apply("convolve", pixels, kernel=kernel), fitted(expected, pixels.dtype))
        even = (weights / weights.sum()).astype(np.float32)
        expected = cv2.filter2D(pixels, -1, even, delta=0.25 * FULL[pixels.dtype])
        result = apply("convolve", pixels, kernel=kernel, normalize=True, offset=0.25)
        assert np.array_equal(result, fitted(expected, pixels.dtype))


def test_denoise_is_non_local_means(rgb: Pixels) -> None:
    part = rgb[:70, :90]
    color = cv2.fastNlMeansDenoisingColored(np.ascontiguousarray(part[..., ::-1]), None, 6, 4, 5, 9)
    assert np.array_equal(apply("denoise", part, strength=6, color_strength=4, patch=2, search=4), color[..., ::-1])
    flat = cv2.fastNlMeansDenoising(gray(part), None, 6, 5, 9)
    assert np.array_equal(apply("denoise", gray(part), strength=6, patch=2, search=4), flat)
    for deep in (depths(part)[1], gray(depths(part)[1])):
        expected = cv2.fastNlMeansDenoising(deep, [6 * 257.0], None, 5, 9, cv2.NORM_L1)
        assert np.array_equal(apply("denoise", deep, strength=6, patch=2, search=4), expected)
        floats = apply("denoise", (deep / 65_535).astype(np.float32), strength=6, patch=2, search=4)
        assert np.abs(floats * 65_535.0 - expected).max() < 0.1


@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 3])
def test_denoise_takes_noise_away(depth: str, channels: int) -> None:
    rng = np.random.default_rng(3)
    shape = (60, 60) if channels == 1 else (60, 60, 3)
    noisy = np.clip(120 + rng.normal(0, 6, shape), 0, 255)
    full = FULL[np.dtype(depth)]
    result = apply("denoise", (noisy / 255 * full).astype(depth), strength=8.0, color_strength=8.0)
    assert float(np.std(result / full * 255)) < 0.5 * float(np.std(noisy))


# -- edges ----------------------------------------------------------------------------------------------------------


def length(x: Pixels, y: Pixels) -> Pixels:
    """``cv2.magnitude`` but for its last bit, which depends on the thread."""
    root: Pixels = np.sqrt(x * x + y * y)
    assert np.allclose(root, cv2.magnitude(x, y), rtol=1e-6)
    return root


@pytest.mark.parametrize("size", [3, 5, 7])
@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_sobel_is_sobel(size: int, scale: float, rgb: Pixels) -> None:
    for pixels in depths(rgb):
        x = cv2.Sobel(pixels, cv2.CV_32F, 1, 0, ksize=size)
        y = cv2.Sobel(pixels, cv2.CV_32F, 0, 1, ksize=size)
        for direction, expected in {"x": np.abs(x), "y": np.abs(y), "both": length(x, y)}.items():
            result = apply("sobel", pixels, direction=direction, aperture=size, scale=scale)
            assert np.array_equal(result, fitted(expected * np.float32(scale), pixels.dtype)), direction


def test_scharr_is_scharr(rgb: Pixels) -> None:
    for pixels in depths(rgb):
        x, y = cv2.Scharr(pixels, cv2.CV_32F, 1, 0), cv2.Scharr(pixels, cv2.CV_32F, 0, 1)
        for direction, expected in {"x": np.abs(x), "y": np.abs(y), "both": length(x, y)}.items():
            result = apply("scharr", pixels, direction=direction)
            assert np.array_equal(result, fitted(expected / np.float32(16), pixels.dtype)), direction


def test_a_full_step_is_white_after_scharr_and_where_it_lies() -> None:
    pixels = np.zeros((9, 10), np.uint8)
    pixels[:, 5:] = 255
    result = apply("scharr", pixels)
    assert np.array_equal(result, np.tile(np.array([0, 0, 0, 0, 255, 255, 0, 0, 0, 0], np.uint8), (9, 1)))
    assert not apply("scharr", pixels, direction="y").any()


@pytest.mark.parametrize("size", [1, 3, 5, 7])
def test_laplacian_is_laplacian(size: int, rgb: Pixels) -> None:
    for pixels in depths(rgb):
        expected = np.abs(cv2.Laplacian(pixels, cv2.CV_32F, ksize=size)) * np.float32(0.25)
        assert np.array_equal(apply("laplacian", pixels, aperture=size, scale=0.25), fitted(expected, pixels.dtype))


# -- morphology -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("radius", "shape", "iterations"), [(1, "rect", 1), (2, "ellipse", 3), (4, "cross", 1)])
def test_morphology_is_morphology(radius: int, shape: str, iterations: int, rgb: Pixels) -> None:
    code = {"rect": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS, "ellipse": cv2.MORPH_ELLIPSE}[shape]
    element = cv2.getStructuringElement(code, (2 * radius + 1, 2 * radius + 1))
    arguments = {"radius": radius, "shape": shape, "iterations": iterations}
    for pixels in depths(rgb):
        eroded = cv2.erode(pixels, element, iterations=iterations)
        dilated = cv2.dilate(pixels, element, iterations=iterations)
        calls = {
            "erode": eroded,
            "dilate": dilated,
            "opening": cv2.dilate(eroded, element, iterations=iterations),
            "closing": cv2.erode(dilated, element, iterations=iterations),
            "morph_gradient": dilated - eroded,
        }
        for name, expected in calls.items():
            assert np.array_equal(apply(name, pixels, **arguments), expected), (name, pixels.dtype)


@pytest.mark.parametrize(
    "name", ["sobel", "scharr", "laplacian", "erode", "dilate", "opening", "closing", "morph_gradient"]
)
@pytest.mark.parametrize("arguments", [{}, {"radius": 3, "iterations": 2, "shape": "ellipse"}, {"aperture": 7}])
def test_the_halo_makes_a_tile_exact(name: str, arguments: dict[str, Any], rgb: Pixels) -> None:
    model = operation_named(name)
    subject = model(**{key: value for key, value in arguments.items() if key in model.model_fields})
    halo = subject.facts().halo
    whole = subject.apply(Image(rgb)).image.pixels
    top, left, side = 60, 64, 50
    cut = rgb[top - halo : top + side + halo, left - halo : left + side + halo]
    tile = subject.apply(Image(np.ascontiguousarray(cut))).image.pixels[halo : halo + side, halo : halo + side]
    assert np.array_equal(tile, whole[top : top + side, left : left + side])
