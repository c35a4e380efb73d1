"""Watermark: the blend is Porter and Duff's over, wherever the mark lies and whatever both pictures are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.errors import InvalidParameter, NotApplicable
from pixelmill.images.image import Image
from pixelmill.operations.composition import Watermark


def random(shape: tuple[int, ...], seed: int, dtype: Any = np.uint8) -> NDArray[Any]:
    generator = np.random.default_rng(seed)
    if dtype == np.float32:
        return generator.random(shape, np.float32)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def laid(base: NDArray[Any], mark: NDArray[Any], **parameters: Any) -> NDArray[Any]:
    operation = Watermark(image="m", **parameters).with_images({"m": Image(mark)})
    return operation.apply(Image(base)).image.pixels


def over(base: NDArray[Any], mark: NDArray[Any], opacity: float) -> NDArray[Any]:
    """RGBA over RGB(A) of the same size, in float64 from 0 to 1."""
    alpha = mark[..., 3:] * opacity
    if base.shape[2] == 3:
        blended: NDArray[Any] = mark[..., :3] * alpha + base * (1 - alpha)
        return blended
    under = base[..., 3:] * (1 - alpha)
    total = alpha + under
    mixed = (mark[..., :3] * alpha + base[..., :3] * under) / np.where(total == 0, 1, total)
    return np.concatenate([mixed, total], axis=-1)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_the_blend_is_the_formula(channels: int, dtype: Any, opacity: float) -> None:
    base, mark = random((20, 30, channels), 1, dtype), random((8, 12, 4), 2)
    white = 1.0 if dtype == np.float32 else float(np.iinfo(dtype).max)
    result = laid(base, mark, scale=0, opacity=opacity, position="top-left", margin=3)
    expected = base / white
    expected[3:11, 3:15] = over(expected[3:11, 3:15], mark / 255.0, opacity)
    slack = np.full(expected.shape[2], 0.51 / 255 if dtype == np.uint8 else 1e-4)
    difference = np.abs(result / white - expected)
    if channels == 4:  # the color of what is hardly seen is rounded coarsely
        difference = difference[expected[..., 3] > 0.02]
    assert (difference <= slack).all()
    outside = np.ones(base.shape[:2], bool)
    outside[3:11, 3:15] = False
    assert np.array_equal(result[outside], base[outside])


@pytest.mark.parametrize(
    ("position", "x", "y"),
    [
        ("top-left", 2, 2), ("top", 11, 2), ("top-right", 20, 2),
        ("left", 2, 8), ("center", 11, 8), ("right", 20, 8),
        ("bottom-left", 2, 14), ("bottom", 11, 14), ("bottom-right", 20, 14),
    ],
)  # fmt: skip
def test_the_mark_lies_where_it_is_put(position: Any, x: int, y: int) -> None:
    base, mark = np.zeros((20, 30, 3), np.uint8), np.full((4, 8, 3), 255, np.uint8)
    result = laid(base, mark, scale=0, opacity=1, position=position, margin=2)
    expected = base.copy()
    expected[y : y + 4, x : x + 8] = 255
    assert np.array_equal(result, expected)


@pytest.mark.parametrize("position", ["top-left", "center", "bottom-right"])
def test_what_stands_over_the_edge_is_cut_off(position: Any) -> None:
    base, mark = np.zeros((10, 10, 3), np.uint8), random((50, 70, 3), 4)
    result = laid(base, mark, scale=0, opacity=1, position=position, margin=3)
    x, y = {"top-left": (3, 3), "center": (-30, -20), "bottom-right": (-63, -43)}[position]
    expected = base.copy()
    for row in range(10):
        for column in range(10):
            if 0 <= row - y < 50 and 0 <= column - x < 70:
                expected[row, column] = mark[row - y, column - x]
    assert np.array_equal(result, expected)


def test_a_mark_that_lies_wholly_outside_changes_nothing() -> None:
    base = random((10, 10, 3), 5)
    assert np.array_equal(laid(base, random((4, 4, 3), 6), scale=0, margin=100, position="top-left"), base)


@pytest.mark.parametrize("color", [(200, 10, 10), (10, 10, 200), (10, 200, 200)])
def test_a_gray_picture_gets_color_from_a_mark_that_has_some(color: tuple[int, int, int]) -> None:
    base = random((10, 10), 7)
    result = laid(base, np.full((2, 2, 3), color, np.uint8), scale=0, opacity=1, position="top-left", margin=0)
    assert result.shape == (10, 10, 3)
    assert (result[0, 0] == color).all()
    assert (result[5, 5] == base[5, 5]).all()


def test_a_gray_picture_stays_gray_under_a_mark_without_visible_color() -> None:
    mark = np.dstack([random((4, 4), 8)] * 3 + [np.full((4, 4), 255, np.uint8)])
    mark[0] = (255, 0, 0, 0)
    assert laid(random((10, 10), 9), mark, scale=0).shape == (10, 10)


def test_a_profile_of_gray_does_not_stay_with_color() -> None:
    operation = Watermark(image="m").with_images({"m": Image(np.full((2, 2, 3), (1, 2, 3), np.uint8))})
    assert operation.apply(Image(random((10, 10), 7), icc=b"gray profile")).image.icc is None
    assert operation.apply(Image(random((10, 10, 3), 7), icc=b"profile")).image.icc == b"profile"


def test_the_scale_is_a_share_of_the_pictures_width_for_huge_and_tiny_marks() -> None:
    base = np.zeros((100, 200, 3), np.uint8)
    for mark in (np.full((1, 1, 3), 255, np.uint8), np.full((3000, 3000, 3), 255, np.uint8)):
        result = laid(base, mark, scale=0.1, opacity=1, position="top-left", margin=0)
        assert (result[:20, :20] == 255).all()
        assert result[20:].max() == 0
        assert result[:, 20:].max() == 0


def test_a_scaled_mark_does_not_bleed_invisible_colors() -> None:
    mark = np.zeros((40, 40, 4), np.uint8)
    mark[...] = (0, 255, 0, 0)
    mark[10:30, 10:30] = (255, 0, 0, 255)
    result = laid(np.zeros((60, 60, 3), np.uint8), mark, scale=0.3, opacity=1, position="center")
    assert result[..., 0].max() == 255
    assert result[..., 1].max() <= 1


def test_a_mark_that_would_be_absurdly_high_is_refused_before_it_is_made() -> None:
    with pytest.raises(NotApplicable, match=r"pixels high.*smaller scale"):
        laid(np.zeros((100, 1000, 3), np.uint8), np.zeros((10_000, 1, 3), np.uint8), scale=1.0)


def test_without_its_pixels_it_says_which_image_is_missing() -> None:
    with pytest.raises(InvalidParameter, match="logo"):
        Watermark(image="logo.png").apply(Image(np.zeros((4, 4), np.uint8)))


def test_references_can_be_exchanged_and_are_gone_when_the_pixels_are_there() -> None:
    operation = Watermark(image="logo.png", opacity=0.25)
    other = operation.with_images({"logo.png": "sha256:00"})
    assert other == Watermark(image="sha256:00", opacity=0.25)
    loaded = operation.with_images({"logo.png": Image(np.zeros((4, 4), np.uint8))})
    assert (operation.images(), operation.loaded) == (("logo.png",), False)
    assert (loaded.images(), loaded.loaded) == ((), True)
    assert operation.with_images({"else.png": "x"}) == operation
