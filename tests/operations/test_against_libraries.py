"""Color, filters, edges and morphology, compared with the library calls that they stand for."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from skimage import exposure, filters

from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.arguments import schema
from pixelmill.operations.table import operation_named
from pixelmill.operations.tones import Threshold

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


# -- color ----------------------------------------------------------------------------------------------------------


def colored(rgb: Pixels) -> list[Pixels]:
    return depths(rgb)[:3]


def same(result: Pixels, expected: Pixels) -> bool:
    """To the bit for integers. OpenCV rounds floats by where they lie; operations don't, so that tiles are exact."""
    if result.dtype == np.float32:
        return np.allclose(result, expected, rtol=0, atol=1e-5)
    return np.array_equal(result, expected)


@pytest.mark.parametrize("factor", [0.0, 0.5, 2.5])
def test_saturation_is_a_matrix_around_luma(factor: float, rgb: Pixels) -> None:
    weights = np.array([0.299, 0.587, 0.114])
    for pixels in colored(rgb):
        matrix = factor * np.eye(3) + (1 - factor) * np.tile(weights, (3, 1))
        assert same(apply("saturation", pixels, factor=factor), fitted(cv2.transform(pixels, matrix), pixels.dtype))
    none = apply("saturation", rgb, factor=0.0)
    assert np.abs(none.astype(int) - gray(rgb)[..., None]).max() <= 1
    assert np.array_equal(apply("saturation", gray(rgb), factor=factor), gray(rgb))


def test_hue_turns_red_to_green_to_blue(rgb: Pixels) -> None:
    for pixels in colored(rgb):
        full = FULL[pixels.dtype]
        colors = np.array([[[full, 0, 0], [0, full, 0], [0, 0, full], [full / 2] * 3]]).astype(pixels.dtype)
        turned = apply("hue", colors, angle=120.0)
        assert np.allclose(turned, colors[:, [1, 2, 0, 3]], atol=full * 1e-5)
        floats = (pixels / full).astype(np.float32)
        hsv = cv2.cvtColor(floats, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + 77) % 360
        expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float64) * full
        assert np.abs(apply("hue", pixels, angle=77.0) - expected).max() <= (1e-6 if full == 1 else 0.51)
        back = apply("hue", apply("hue", pixels, angle=77.0), angle=-77.0)
        assert np.abs(back.astype(float) - pixels).max() <= max(3.0, full * 1e-4)


def test_sepia_and_tint_are_matrices_of_colors_and_of_gray(rgb: Pixels) -> None:
    sepia = np.array([[0.393, 0.769, 0.189], [0.349, 0.686, 0.168], [0.272, 0.534, 0.131]])
    tint = np.outer(np.array([0xFF, 0x88, 0x00]) / 255, [0.299, 0.587, 0.114])
    for pixels in depths(rgb):
        color = pixels if pixels.ndim == 3 else cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
        for amount in (1.0, 0.3):
            rest = (1 - amount) * np.eye(3)
            expected = cv2.transform(color, amount * sepia + rest)
            assert same(apply("sepia", pixels, amount=amount), fitted(expected, pixels.dtype))
            expected = cv2.transform(color, amount * tint + rest)
            result = apply("tint", pixels, color="ff8800", amount=amount)
            assert np.allclose(result, fitted(expected, pixels.dtype), atol=FULL[pixels.dtype] * 1e-6)
    white = apply("tint", np.full((2, 2, 3), 255, np.uint8), color="ff8800")
    assert np.array_equal(white, np.full((2, 2, 3), (0xFF, 0x88, 0), np.uint8))


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_posterize_has_as_many_levels(levels: int, rgb: Pixels) -> None:
    for pixels in depths(rgb):
        full = FULL[pixels.dtype]
        parts = np.minimum(np.floor(pixels / full * levels), levels - 1) / (levels - 1) * full
        result = apply("posterize", pixels, levels=levels)
        assert np.allclose(result, fitted(parts, pixels.dtype), atol=1e-6)
        assert len(np.unique(result)) <= levels


def test_autocontrast_is_rescale_intensity(rgb: Pixels) -> None:
    dull = (rgb // 3 + 40).astype(np.uint8)
    for pixels in depths(dull):
        full = FULL[pixels.dtype]
        luma = gray(pixels) if pixels.ndim == 3 else pixels
        low, high = np.percentile(luma, [2, 98], method="inverted_cdf")
        expected: Pixels = exposure.rescale_intensity(  # type: ignore[no-untyped-call]  # it has no types
            pixels.astype(float), (float(low), float(high)), (0, full)
        )
        result = apply("autocontrast", pixels, cutoff=2.0)
        # Of floats, percentiles are levels of 16 bits; the tones are stretched threefold.
        assert np.abs(result - expected).max() <= (1e-4 if full == 1 else 0.51)
        each = apply("autocontrast", pixels, per_channel=True).reshape(pixels.shape[0] * pixels.shape[1], -1)
        slack = 1e-4 if full == 1 else 1e-6
        assert np.all(each.min(axis=0) <= full * slack)
        assert np.allclose(each.max(axis=0), full, rtol=slack)


def test_autocontrast_leaves_flat_images_and_hidden_colors_alone() -> None:
    flat = np.full((5, 6, 3), 77, np.uint8)
    assert np.array_equal(apply("autocontrast", flat), flat)
    hidden = np.zeros((4, 6, 4), np.uint8)
    hidden[:, :3] = (50, 50, 50, 255)
    hidden[:, 1] = (150, 150, 150, 255)
    hidden[:, 4] = (250, 250, 250, 0)
    result = apply("autocontrast", hidden)
    assert np.array_equal(result[0, :3, 0], [0, 255, 0])
    hidden[..., 3] = 0
    assert np.array_equal(apply("autocontrast", hidden), hidden)
    assert np.array_equal(apply("white_balance", hidden), hidden)


def test_white_balance_takes_a_cast_away(rgb: Pixels) -> None:
    for pixels in colored(rgb):
        full = FULL[pixels.dtype]
        cast = fitted(pixels * np.array([0.5, 0.7, 0.9]), pixels.dtype)
        means = apply("white_balance", cast, amount=1.0).mean(axis=(0, 1), dtype=float)
        assert np.ptp(cast.mean(axis=(0, 1), dtype=float)) > 0.05 * full
        assert np.ptp(means) < 0.02 * full
        tops = np.percentile(apply("white_balance", cast, method="white-patch"), 99, axis=(0, 1))
        assert np.ptp(tops) < 0.02 * full
        assert np.array_equal(apply("white_balance", cast, amount=0.0), cast)
        plain = np.mean(cast, axis=(0, 1), dtype=np.float64)
        expected = fitted(cast * (plain.mean() / plain), pixels.dtype)
        assert np.abs(apply("white_balance", cast) - expected.astype(float)).max() <= (1e-5 if full == 1 else 1)


def test_equalize_is_equalize_hist_of_luma(rgb: Pixels) -> None:
    assert np.array_equal(apply("equalize", gray(rgb)), cv2.equalizeHist(gray(rgb)))
    split = cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)
    split[..., 0] = cv2.equalizeHist(np.ascontiguousarray(split[..., 0]))
    assert np.array_equal(apply("equalize", rgb), cv2.cvtColor(split, cv2.COLOR_YCrCb2RGB))
    # 16 bits: the samples that 8 bits have get the same place; those of floats are 16 bits'.
    deep = apply("equalize", gray(rgb).astype(np.uint16) * 257)
    assert np.abs(deep / 257 - cv2.equalizeHist(gray(rgb))).max() <= 0.51
    floats = apply("equalize", (gray(rgb) / 255).astype(np.float32))
    assert np.abs(floats * 65_535 - deep).max() < 0.1
    fine = depths(rgb)[4]
    histogram = np.histogram(apply("equalize", fine), bins=8, range=(0, 65_535))[0]
    assert histogram.max() < 1.5 * histogram.min()
    assert np.array_equal(apply("equalize", np.full((3, 3), 9, np.uint16)), np.full((3, 3), 9))


def test_clahe_is_clahe_of_luma(rgb: Pixels) -> None:
    for pixels in (rgb, depths(rgb)[1]):
        clahe = cv2.createCLAHE(3.0, (4, 4))
        assert np.array_equal(apply("clahe", gray(pixels), clip=3.0, tiles=4), clahe.apply(gray(pixels)))
        split = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)
        split[..., 0] = clahe.apply(np.ascontiguousarray(split[..., 0]))
        assert np.array_equal(apply("clahe", pixels, clip=3.0, tiles=4), cv2.cvtColor(split, cv2.COLOR_YCrCb2RGB))
    luma = gray(depths(rgb)[1])
    floats = apply("clahe", (luma / 65_535).astype(np.float32), clip=3.0, tiles=4)
    assert np.abs(floats * 65_535.0 - cv2.createCLAHE(3.0, (4, 4)).apply(luma)).max() < 0.1


@pytest.mark.parametrize("invert", [False, True])
def test_threshold_is_threshold_of_luma(invert: bool, rgb: Pixels) -> None:
    code = cv2.THRESH_BINARY_INV if invert else cv2.THRESH_BINARY
    for pixels in depths(rgb):
        luma, full = (gray(pixels) if pixels.ndim == 3 else pixels), FULL[pixels.dtype]
        fixed = cv2.threshold(luma, 0.3 * full, full, code)[1]
        assert 0 < np.count_nonzero(fixed) < fixed.size
        assert np.array_equal(apply("threshold", pixels, value=0.3, invert=invert), fixed)
        step = Threshold(method="otsu", invert=invert).apply(Image(pixels))
        whole = luma if full > 1 else np.rint(luma.astype(np.float64) * 65_535).astype(np.uint16)
        found, parted = cv2.threshold(whole, 0, 255, code | cv2.THRESH_OTSU)
        assert np.array_equal(step.image.pixels, np.where(parted > 0, full, 0).astype(pixels.dtype))
        assert step.data == {"threshold": found / FULL[whole.dtype]}
        small = np.rint(luma / full * 255).astype(np.uint8)
        adaptive = cv2.adaptiveThreshold(small, 255, cv2.ADAPTIVE_THRESH_MEAN_C, code, 15, 5.1)
        result = apply("threshold", pixels, method="adaptive", radius=7, offset=0.02, invert=invert)
        assert np.array_equal(result > 0, adaptive > 0)
        assert set(np.unique(result)) == {0, full}


@pytest.mark.parametrize("colors", [12, 64])
def test_quantize_is_closer_than_median_cut_and_has_no_more_colors(colors: int, rgb: Pixels) -> None:
    cut = np.asarray(Pil.fromarray(rgb).quantize(colors, Pil.Quantize.MEDIANCUT).convert("RGB"))
    for pixels in depths(rgb):
        plain = apply("quantize", pixels, colors=colors, dither=False)
        dithered = apply("quantize", pixels, colors=colors)
        for result in (plain, dithered):
            assert 2 < len(np.unique(result.reshape(-1, result.shape[2] if result.ndim == 3 else 1), axis=0)) <= colors
        assert not np.array_equal(plain, dithered)
        assert np.array_equal(plain, apply("quantize", pixels, colors=colors, dither=False))
        if pixels.ndim == 3:
            error = np.mean((plain / FULL[pixels.dtype] - pixels / FULL[pixels.dtype]) ** 2)
            assert error < 0.75 * np.mean((cut / 255 - rgb / 255) ** 2)


@pytest.mark.parametrize("noisy", [False, True])
def test_quantize_has_a_color_for_a_small_red_dot(noisy: bool) -> None:
    rng = np.random.default_rng(0)
    luma = rng.normal(120, 25, (400, 600)) if noisy else np.tile(np.linspace(60, 200, 600), (400, 1))
    pixels = np.dstack([np.clip(luma, 0, 255).astype(np.uint8)] * 3)
    cv2.circle(pixels, (450, 300), 5, (255, 0, 0), -1)
    for dither in (False, True):
        result = apply("quantize", pixels, colors=16, dither=dither)
        assert np.abs(result[297:304, 447:454].astype(int) - (255, 0, 0)).max() < 25


def test_quantize_leaves_few_colors_as_they_are() -> None:
    palette = np.random.default_rng(2).integers(0, 256, (16, 3), np.uint8)
    pixels = palette[np.random.default_rng(3).integers(0, 16, (30, 40))]
    for dither in (False, True):
        assert np.array_equal(apply("quantize", pixels, colors=16, dither=dither), pixels)


@pytest.mark.parametrize("name", schema(operation_named("colormap"))["properties"]["map"]["enum"])
def test_colormap_is_apply_color_map_of_luma(name: str, rgb: Pixels) -> None:
    expected = cv2.applyColorMap(gray(rgb), getattr(cv2, f"COLORMAP_{name.upper()}"))[..., ::-1]
    assert np.array_equal(apply("colormap", rgb, map=name), expected)
    assert np.array_equal(apply("colormap", gray(rgb).astype(np.uint16) * 257, map=name), expected.astype(int) * 257)
    floats = apply("colormap", (gray(rgb) / 255).astype(np.float32), map=name)
    assert np.abs(floats * 255 - expected).max() < 1e-3


# -- filters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("radius", [1, 4, 50])
def test_box_is_blur(radius: int, rgb: Pixels) -> None:
    side = 2 * radius + 1
    for pixels in depths(rgb):
        expected = cv2.blur(pixels, (side, side))
        assert same(apply("box", pixels, radius=radius), fitted(expected, pixels.dtype))


@pytest.mark.parametrize("radius", [1, 2, 3, 5])
def test_median_is_median_at_every_depth(radius: int, rgb: Pixels) -> None:
    for pixels in depths(rgb[:60, :80]):
        result = apply("median", pixels, radius=radius)
        if pixels.dtype == np.uint8 or radius <= 2:
            assert np.array_equal(result, cv2.medianBlur(pixels, 2 * radius + 1))
        footprint = np.ones((2 * radius + 1, 2 * radius + 1, 1)[: pixels.ndim])
        expected: Pixels = filters.median(pixels, footprint, mode="nearest")  # type: ignore[no-untyped-call]  # it has no types
        assert np.array_equal(result, expected)


def test_a_median_of_a_wide_image_is_found_in_parts() -> None:
    wide = np.random.default_rng(5).integers(0, 65_535, (4, 5_000), dtype=np.uint16)
    expected: Pixels = filters.median(wide, np.ones((25, 25)), mode="nearest")  # type: ignore[no-untyped-call]  # it has no types
    assert np.array_equal(apply("median", wide, radius=12), expected)


@pytest.mark.parametrize(("color", "space"), [(0.1, 3.0), (0.4, 0.5)])
def test_bilateral_is_bilateral(color: float, space: float, rgb: Pixels) -> None:
    for pixels in depths(rgb):
        result = apply("bilateral", pixels, sigma_color=color, sigma_space=space)
        if pixels.dtype == np.uint16:
            floats = cv2.bilateralFilter((pixels / 65_535).astype(np.float32), 0, color, space)
            assert np.abs(result - floats.astype(np.float64) * 65_535).max() <= 1
        else:
            full = FULL[pixels.dtype]
            expected = fitted(cv2.bilateralFilter(pixels, 0, color * full, space), pixels.dtype)
            # Of floats, the table of weights does not depend on the range of samples, as it does in OpenCV.
            assert np.array_equal(result, expected) if full > 1 else np.abs(result - expected).max() < 1e-3


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
            assert same(result, fitted(expected * np.float32(scale), pixels.dtype)), direction


def test_scharr_is_scharr(rgb: Pixels) -> None:
    for pixels in depths(rgb):
        x, y = cv2.Scharr(pixels, cv2.CV_32F, 1, 0), cv2.Scharr(pixels, cv2.CV_32F, 0, 1)
        for direction, expected in {"x": np.abs(x), "y": np.abs(y), "both": length(x, y)}.items():
            result = apply("scharr", pixels, direction=direction)
            assert same(result, fitted(expected / np.float32(16), pixels.dtype)), direction


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
        assert same(apply("laplacian", pixels, aperture=size, scale=0.25), fitted(expected, pixels.dtype))


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
