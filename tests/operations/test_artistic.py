"""cartoon, pixelate and vignette: what they do to pixels."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.images.image import Image
from pixelmill.operations.artistic import Cartoon, Pixelate, Vignette


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(4).integers(0, 256, (height, width, channels), np.uint8)


def smooth(height: int = 60, width: int = 80) -> NDArray[np.uint8]:
    return np.asarray(cv2.GaussianBlur(noise(height, width), (0, 0), 3), np.uint8)


def test_cartoon_is_its_chain_of_opencv_calls() -> None:
    rgb = smooth()
    expected = rgb
    for _ in range(2):
        expected = cv2.bilateralFilter(expected, 9, 0.12 * 255, 7.0)
    luma = cv2.medianBlur(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 5)
    paper = cv2.adaptiveThreshold(luma, 255, cv2.ADAPTIVE_THRESH_MEAN_C, cv2.THRESH_BINARY, 9, 0.01 * 255)
    expected = cv2.bitwise_and(expected, expected, mask=paper)
    done = Cartoon(passes=2, lines=3, contrast=0.01).apply(Image(rgb)).image.pixels
    assert np.array_equal(done, expected)
    assert 0 < (paper == 0).mean() < 0.6  # there are lines, and paper


def test_a_cartoon_of_deeper_samples_is_that_of_8_bits_but_finer() -> None:
    rgb = smooth()
    by_8 = Cartoon(lines=0).apply(Image(rgb)).image.pixels.astype(float)
    by_16 = Cartoon(lines=0).apply(Image(rgb.astype(np.uint16) * 257)).image.pixels / 257
    by_float = Cartoon(lines=0).apply(Image((rgb / 255).astype(np.float32))).image.pixels * 255
    assert np.abs(by_16 - by_8).max() < 2.5
    assert np.abs(by_float - by_8).max() < 2.5


@pytest.mark.parametrize(("height", "width"), [(12, 16), (13, 18), (3, 3), (1, 9)])
def test_each_square_is_the_mean_of_what_it_covers(height: int, width: int) -> None:
    pixels = noise(height, width)
    done = Pixelate(block=4).apply(Image(pixels)).image.pixels
    for y in range(0, height, 4):
        for x in range(0, width, 4):
            square = np.s_[y : y + 4, x : x + 4]
            mean = np.rint(pixels[square].mean(axis=(0, 1)))
            assert (done[square] == mean).all()


def test_squares_weigh_transparency() -> None:
    pixels = np.zeros((4, 4, 4), np.uint8)
    pixels[:2] = (200, 100, 50, 255)
    pixels[2:] = (0, 255, 0, 0)
    assert Pixelate(block=4).apply(Image(pixels)).image.pixels[3, 3].tolist() == [200, 100, 50, 128]


def test_a_square_of_one_pixel_changes_nothing_and_a_huge_one_leaves_one_color() -> None:
    pixels = noise(9, 7)
    assert np.array_equal(Pixelate(block=1).apply(Image(pixels)).image.pixels, pixels)
    assert len(np.unique(Pixelate(block=4096).apply(Image(pixels)).image.pixels.reshape(-1, 3), axis=0)) == 1


def test_a_vignette_leaves_the_middle_and_darkens_corners_alike() -> None:
    pixels = np.full((101, 301), 200, np.uint8)
    done = Vignette(strength=0.5, radius=0.4).apply(Image(pixels)).image.pixels
    assert done[50, 150] == 200
    assert done[50, 70] == 200  # within the radius
    assert 100 <= done[0, 0] <= 103
    assert np.array_equal(done, done[::-1])
    assert np.array_equal(done, done[:, ::-1])
    assert (np.diff(done[0, :150].astype(int)) >= 0).all()


def test_a_vignette_is_the_same_in_bands_of_rows_as_at_once() -> None:
    pixels = np.full((700, 300, 3), 1.0, np.float32)  # several bands
    done = Vignette(strength=0.8, radius=0.2).apply(Image(pixels)).image.pixels
    y, x = ((np.arange(700) + 0.5) / 350 - 1)[:, None], (np.arange(300) + 0.5) / 150 - 1
    way = np.clip((np.sqrt((x * x + y * y) / 2) - 0.2) / 0.8, 0, 1)
    assert np.abs(done[..., 1] - (1 - 0.8 * (3 * way**2 - 2 * way**3))).max() < 1e-6


def test_a_vignette_without_strength_changes_nothing() -> None:
    pixels = noise(9, 7, 4)
    assert np.array_equal(Vignette(strength=0).apply(Image(pixels)).image.pixels, pixels)
