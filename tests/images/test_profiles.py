"""Profiles made from named color spaces say what the standards say."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image as Pil
from PIL import ImageCms

from pixelmill.images import profiles
from pixelmill.images.color import to_srgb
from pixelmill.images.profiles import ColorSpace, profile_of


def matrix(points: profiles.Points) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """RGB to XYZ below D65 (SMPTE RP 177)."""
    x, y = profiles.D65
    columns = np.array([[px, py, 1 - px - py] for px, py in points]).T
    return columns * np.linalg.solve(columns, np.array([x / y, 1, (1 - x - y) / y]))


@pytest.mark.parametrize("primaries", [profiles.P3, profiles.BT2020, profiles.BT601_525])
def test_colors_come_where_the_chromaticities_put_them(primaries: profiles.Points) -> None:
    rng = np.random.default_rng(3)
    samples = rng.integers(115, 150, (1, 500, 3), dtype=np.uint8)  # inside of sRGB whatever the primaries
    profile = profile_of(ColorSpace(primaries=primaries))
    got = to_srgb(samples, profile, "rgb")
    light = ((samples / 255 + 0.055) / 1.055) ** 2.4
    turned = light @ (np.linalg.inv(matrix(profiles.BT709)) @ matrix(primaries)).T
    wanted = np.rint(255 * (1.055 * np.clip(turned, 0.0031308, 1) ** (1 / 2.4) - 0.055))
    assert np.abs(got - wanted).max() <= 2


def test_srgb_needs_no_profile() -> None:
    assert profile_of(ColorSpace()) is None
    assert profile_of(ColorSpace(primaries=None)) is None
    assert profile_of(ColorSpace(gamma=2.2)) is not None


@pytest.mark.parametrize(
    ("space", "sample", "level"),
    [
        (ColorSpace(transfer=profiles.LINEAR), 55, 128),
        (ColorSpace(gamma=1.0), 55, 128),
        (ColorSpace(transfer=4), 128, 129),
        (ColorSpace(transfer=1), 128, 140),
        (ColorSpace(transfer=16), 148, 255),  # 203 cd/m² is 58 % of the code values (BT.2408, table 1)
        (ColorSpace(transfer=18), 191, 255),  # and 75 %
        (ColorSpace(transfer=18), 255, 255),
    ],
)
def test_curves_are_those_of_the_standards(space: ColorSpace, sample: int, level: int) -> None:
    got = to_srgb(np.full((1, 1, 3), sample, np.uint8), profile_of(space), "rgb")
    assert np.abs(got.astype(int) - level).max() <= 1


@pytest.mark.parametrize(
    "space",
    [
        ColorSpace(white=(0.3, 0.0)),
        ColorSpace(primaries=((0.3, 0.3), (0.3, 0.3), (0.3, 0.3))),
        ColorSpace(primaries=((-2.0, 2.0), (2.0, -1.9), (0.0, 0.0)), gamma=2.0),
    ],
)
def test_points_that_make_no_color_space_make_no_broken_profile(space: ColorSpace) -> None:
    profile = profile_of(space)
    if profile is not None:
        ImageCms.ImageCmsProfile(io.BytesIO(profile))


def test_other_readers_take_the_profile() -> None:
    profile = profile_of(ColorSpace(primaries=None, transfer=profiles.LINEAR))
    assert profile is not None
    gray = Pil.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
    turned = ImageCms.profileToProfile(
        gray, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
    )
    assert turned is not None
    assert np.asarray(turned)[3, 7].min() == np.asarray(turned)[3, 7].max() == 128
