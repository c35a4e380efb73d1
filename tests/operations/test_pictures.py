"""The pictures of docs/operations.md: each operation has one, it shows what the operation does now, and it is small."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import operations as pictures
from pixelmill.images.decode import decode
from pixelmill.operations.reference import FORMAT_EXAMPLES
from pixelmill.operations.table import TABLE
from scenes import WIDTH

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "operations"
MAX_BYTES = 1_500_000
LEAST_PSNR = 26.0
"""Decibels at half size: libraries of other versions may draw text and keypoints a little differently, no more."""


NAMES = tuple(pictures.names())


def at_half_size(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(pixels, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)


def test_every_operation_has_its_picture_and_there_is_no_other() -> None:
    expected = {*TABLE, *(f"format-{name}" for name in FORMAT_EXAMPLES)}
    assert {path.stem for path in FOLDER.iterdir()} == expected == set(NAMES), "run: python docs/images/operations.py"


def test_all_pictures_together_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < MAX_BYTES


@pytest.fixture(autouse=True)
def _weights(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of learned operations need the assets' weights."""
    if pictures.learned(request.node.callspec.params["name"] if hasattr(request.node, "callspec") else ""):
        monkeypatch.setattr(pictures, "ASSETS", request.getfixturevalue("assets"))


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_what_the_operation_does_now(name: str) -> None:
    drawn = at_half_size(pictures.picture(name))
    kept = at_half_size(decode((FOLDER / f"{name}.webp").read_bytes()).pixels.astype(np.uint8))
    assert drawn.shape == kept.shape
    half = drawn.shape[1] // 2
    for part in (np.s_[:, :half], np.s_[:, half:]):  # what has changed in one half must not hide behind the other
        assert cv2.PSNR(drawn[part], kept[part]) >= LEAST_PSNR, f"run: python docs/images/operations.py {name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_picture_shows_an_effect(name: str) -> None:
    made = pictures.picture(name)
    assert cv2.PSNR(made[:, :WIDTH], made[:, -WIDTH:]) < 30.0, "nobody would see the difference"
