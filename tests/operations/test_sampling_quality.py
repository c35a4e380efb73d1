"""How close resize comes to a Lanczos-3 in float64, on real photographs, at every ratio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil

from pixelmill.images.image import Image, Size
from pixelmill.operations.geometry import Resize
from pixelmill.operations.resample import resample

PHOTOS = ["rocket.jpg", "astronaut.png", "coffee.png", "chelsea.png"]
SCALES: dict[Any, float] = {np.uint8: 1.0, np.uint16: 257.0, np.float32: 1 / 255}


@pytest.fixture(scope="module")
def photographs(photo_path: Path) -> list[NDArray[np.uint8]]:
    return [np.array(Pil.open(photo_path.parent / name).convert("L"), np.uint8) for name in PHOTOS]


def lanczos(pixels: NDArray[Any], size: Size) -> NDArray[np.float64]:
    """Antialiased Lanczos-3, one axis after the other, straight from its definition."""
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


# Just above a power of two is where halving too early would alias most.
@pytest.mark.parametrize("ratio", [1.1, 1.3, 1.6, 2.0, 2.1, 2.4, 2.7, 2.8, 3.2, 4.0, 4.2, 5.0, 6.0, 8.0])
def test_auto_is_at_least_as_close_to_lanczos_as_pillows_bicubic(
    ratio: float, photographs: list[NDArray[np.uint8]]
) -> None:
    for name, pixels in zip(PHOTOS, photographs, strict=True):
        size = Size(round(pixels.shape[1] / ratio), round(pixels.shape[0] / ratio))
        truth = lanczos(pixels, size)
        bicubic = np.asarray(Pil.fromarray(pixels).resize(size, Pil.Resampling.BICUBIC))
        assert psnr(resample(pixels, size, "auto"), truth) > psnr(bicubic, truth) - 0.1, name


@pytest.mark.parametrize("target", [(333, 21), (40, 270), (450, 50)])
def test_an_axis_that_shrinks_much_more_is_sampled_well_too(
    target: tuple[int, int], photographs: list[NDArray[np.uint8]]
) -> None:
    ours, bicubic = [], []
    for pixels in photographs:
        truth = lanczos(pixels, Size(*target))
        ours.append(psnr(resample(pixels, Size(*target), "auto"), truth))
        bicubic.append(psnr(np.asarray(Pil.fromarray(pixels).resize(target, Pil.Resampling.BICUBIC)), truth))
    assert np.mean(ours) > np.mean(bicubic) - 1.5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_depth_is_sampled_alike(dtype: Any, channels: int, photographs: list[NDArray[np.uint8]]) -> None:
    pixels = photographs[2]
    expected = resample(pixels, Size(150, 99), "auto").astype(float)
    deep = (pixels * SCALES[dtype]).astype(dtype)
    image = Image(deep if channels == 1 else np.dstack([deep] * channels))
    result = Resize(width=150, height=99, fit="fill", interpolation="lanczos").apply(image).image.pixels
    difference = np.abs((result if channels == 1 else result[..., 1]) / SCALES[dtype] - expected)
    assert difference.mean() < 1  # rounding to 8 bits after each step
    assert difference.max() <= 7
