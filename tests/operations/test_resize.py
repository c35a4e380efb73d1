"""Sizes by every fit, and how close the resampler comes to a Lanczos-3 in full precision."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pil

from pixelmill.errors import InvalidParameter
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.fit import Fit, fitted
from pixelmill.operations.geometry import Resize, Scale
from pixelmill.operations.resample import resample

Side = st.integers(1, 3000)
FITS: list[Fit] = ["contain", "cover", "fill", "inside", "outside"]

SIZES = [
    # source, box, fit, enlarge, result
    ((1200, 800), (256, 256), "contain", False, (256, 171)),
    ((800, 1200), (256, 256), "contain", False, (171, 256)),
    ((1200, 800), (256, None), "contain", False, (256, 171)),
    ((1200, 800), (None, 256), "contain", False, (384, 256)),
    ((100, 50), (256, 256), "contain", False, (100, 50)),
    ((100, 50), (256, 256), "contain", True, (256, 128)),
    ((100, 50), (256, 256), "inside", True, (100, 50)),
    ((1200, 800), (256, 256), "inside", True, (256, 171)),
    ((1200, 800), (256, 256), "outside", False, (384, 256)),
    ((100, 50), (256, 256), "outside", False, (100, 50)),
    ((100, 50), (256, 256), "outside", True, (512, 256)),
    ((1200, 800), (256, 256), "cover", False, (256, 256)),
    ((300, 200), (256, 256), "cover", False, (256, 200)),
    ((300, 200), (256, 256), "cover", True, (256, 256)),
    ((100, 50), (256, 256), "cover", False, (100, 50)),
    ((1200, 800), (256, 256), "fill", False, (256, 256)),
    ((100, 50), (256, 256), "fill", False, (256, 256)),
    ((100, 50), (200, None), "fill", False, (200, 100)),
    ((5000, 1), (10, 10), "contain", False, (10, 1)),
]


@pytest.mark.parametrize(("source", "box", "fit", "enlarge", "result"), SIZES)
def test_sizes_are_as_documented(
    source: tuple[int, int], box: tuple[int | None, int | None], fit: Fit, enlarge: bool, result: tuple[int, int]
) -> None:
    operation = Resize(width=box[0], height=box[1], fit=fit, enlarge=enlarge)
    assert operation.size(Size(*source)) == result
    assert operation.apply(Image(np.zeros((source[1], source[0]), np.uint8))).image.size == result


@given(Side, Side, Side, Side, st.sampled_from(FITS), st.booleans())
def test_fits_keep_to_the_box(width: int, height: int, box_w: int, box_h: int, fit: Fit, enlarge: bool) -> None:
    size = Size(width, height)
    whole, left = fitted(size, box_w, box_h, fit, enlarge=enlarge)
    assert left.width <= whole.width
    assert left.height <= whole.height
    if fit == "fill":
        assert left == (box_w, box_h)
        return
    if fit in {"contain", "inside"}:
        assert left.width <= box_w
        assert left.height <= box_h
    if not enlarge or fit == "inside":
        assert whole.width <= width
        assert whole.height <= height
    if enlarge and fit == "cover":
        assert left == (box_w, box_h)
    if enlarge and fit == "outside":
        assert left.width >= box_w
        assert left.height >= box_h
    # The aspect ratio is kept: one scale gives both sides, each rounded by half a pixel at most (and never to 0).
    pairs = list(zip(whole, size, strict=True))
    low = max((Fraction(2 * side - 1, 2 * full) for side, full in pairs if side > 1), default=Fraction(0))
    high = min(Fraction(2 * side + 1, 2 * full) for side, full in pairs)
    assert low <= high


@given(Side, Side, Side, Side, st.sampled_from(FITS), st.booleans())
def test_the_need_is_never_more_than_there_is_nor_less_than_the_target(
    width: int, height: int, box_w: int, box_h: int, fit: Fit, enlarge: bool
) -> None:
    size = Size(width, height)
    operation = Resize(width=box_w, height=box_h, fit=fit, enlarge=enlarge)
    scaled, _ = fitted(size, box_w, box_h, fit, enlarge=enlarge)
    need = operation.need(Need(color=False), size)
    assert need.color is False
    if need.least is not None:
        for least, full, target in zip(need.least, size, scaled, strict=True):
            assert least <= full
            assert least >= min(target, full)


@pytest.mark.parametrize("target", [(400, 300), (256, 256), (173, 91), (64, 200), (33, 7), (5, 400), (700, 500)])
def test_auto_is_close_to_lanczos_in_full_precision(target: tuple[int, int], photo: bytes) -> None:
    gray: Any = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_GRAYSCALE)
    gray = np.ascontiguousarray(gray[:411, :507])
    reference = np.asarray(Pil.fromarray(gray.astype(np.float32)).resize(target, Pil.Resampling.LANCZOS))
    ours = resample(gray, Size(*target), "auto")
    area = cv2.resize(gray, target, interpolation=cv2.INTER_AREA)
    assert psnr(ours, reference) > (38 if min(target) > 30 else 30)
    assert psnr(ours, reference) > psnr(area, reference) or max(target) > 500


def psnr(left: Any, right: Any) -> float:
    return float(10 * np.log10(255**2 / np.mean((left.astype(float) - right.astype(float)) ** 2)))


def test_a_reduced_decode_is_sampled_by_the_extent_that_it_covers(photo: bytes) -> None:
    """Its last row and column are only partly real; taken as whole ones, everything would shift."""
    gray: Any = cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_GRAYSCALE)
    body = encode(Image(np.ascontiguousarray(gray[:425, :633])), "jpeg", {"quality": 98})
    reduced = decode(body, Need(least=Size(80, 54)))
    assert reduced.size == (80, 54)
    target = Size(64, 43)
    whole = resample(decode(body).pixels, target, "auto")
    by_extent = Scale(full=Size(633, 425), target=target, interpolation="auto").apply(reduced).image.pixels
    assert psnr(by_extent, whole) > psnr(resample(reduced.pixels, target, "auto"), whole) + 3


KERNELS = {
    "box": Pil.Resampling.BOX,
    "bilinear": Pil.Resampling.BILINEAR,
    "bicubic": Pil.Resampling.BICUBIC,
    "lanczos3": Pil.Resampling.LANCZOS,
}


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("target", [(173, 91), (41, 300), (700, 800)])
def test_a_kernel_is_pillows(kernel: Any, target: tuple[int, int], photo: bytes) -> None:
    def scaled(pixels: Any) -> Any:
        operation = Resize(width=target[0], height=target[1], fit="fill", kernel=kernel)
        return operation.apply(Image(pixels)).image.pixels

    rgb = np.ascontiguousarray(decode(photo).pixels[:301, :407])
    method = KERNELS[kernel]
    assert np.array_equal(scaled(rgb), np.asarray(Pil.fromarray(rgb).resize(target, method)))
    gray = np.ascontiguousarray(rgb[..., 1])
    assert np.array_equal(scaled(gray), np.asarray(Pil.fromarray(gray).resize(target, method)))
    opaque = np.dstack((rgb, np.full(gray.shape, 255, np.uint8)))
    assert np.array_equal(scaled(opaque)[..., :3], scaled(rgb))
    assert (scaled(opaque)[..., 3] == 255).all()
    floats = gray.astype(np.float32) / 255
    expected = np.asarray(Pil.fromarray(floats).resize(target, method))
    assert np.array_equal(scaled(floats), np.clip(expected, 0, 1))
    deep = gray.astype(np.uint16) * 257
    expected = np.asarray(Pil.fromarray(deep.astype(np.float32)).resize(target, method))
    assert np.array_equal(scaled(deep), np.rint(np.clip(expected, 0, 65_535)).astype(np.uint16))


def test_the_nearest_kernel_is_opencvs_and_premultiplies_nothing() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (40, 50, 4), np.uint8)
    expected = cv2.resize(pixels, (17, 31), interpolation=cv2.INTER_NEAREST_EXACT)
    operation = Resize(width=17, height=31, fit="fill", kernel="nearest")
    assert np.array_equal(operation.apply(Image(pixels)).image.pixels, expected)


def test_a_kernel_and_an_interpolation_contradict_each_other() -> None:
    with pytest.raises(InvalidParameter, match="can't both be meant"):
        Resize(width=9, kernel="box", interpolation="area")
    assert Resize(width=9, kernel="box").need(Need(color=False), Size(90, 90)) == Need(color=False)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (250, 3), (3, 250), (2000, 2), (64, 64)])
def test_flat_images_stay_flat(dtype: Any, size: tuple[int, int]) -> None:
    full = 1.0 if dtype == np.float32 else np.iinfo(dtype).max
    for shape in [(61, 117), (1, 700), (700, 1), (3, 3)]:
        flat = np.full((*shape, 4), full, dtype)
        result = resample(flat, Size(*size), "auto")
        assert result.shape == (size[1], size[0], 4)
        assert np.abs(result.astype(np.float64) - full).max() <= full * 1e-4
