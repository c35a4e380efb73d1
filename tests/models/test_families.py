"""From pictures to what models take, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil

from pixelmill.models.families import (
    FAMILIES,
    class_scores,
    classifier_input,
    guessed,
    salient_input,
    salient_mask,
)


def picture(height: int, width: int, seed: int = 1) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("name", "side", "mean", "std"),
    [
        ("u2net", 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("isnet", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
        ("isnet-anime", 1024, (0.485, 0.456, 0.406), (1.0, 1.0, 1.0)),
        ("birefnet", 1024, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("bria-rmbg", 1024, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ],
)
def test_a_salient_object_model_gets_what_its_family_takes(
    name: str, side: int, mean: tuple[float, ...], std: tuple[float, ...]
) -> None:
    family = FAMILIES[name]
    assert family.side == side
    rgb = picture(40, 60) // 2  # the brightest sample is no 255
    small = np.asarray(Pil.fromarray(rgb).resize((side, side), Pil.Resampling.LANCZOS), np.float64)
    expected = ((small / small.max() - mean) / std).transpose(2, 0, 1)
    given = salient_input(family, rgb, side)
    assert given.dtype == np.float32
    assert np.allclose(given, expected, atol=1e-6)


def test_a_mask_is_stretched_to_its_full_range_and_scaled() -> None:
    output = np.linspace(-3, 5, 64, dtype=np.float32).reshape(1, 8, 8)
    mask = salient_mask(FAMILIES["u2net"], output, 20, 10)
    assert mask.shape == (10, 20)
    assert mask.min() == 0
    assert mask.max() >= 254
    logits = salient_mask(FAMILIES["birefnet"], output, 8, 8)
    through = 1 / (1 + np.exp(-output[0].astype(np.float64)))
    expected = (through - through.min()) / (through.max() - through.min()) * 255
    assert np.abs(logits - expected).max() <= 1.01


@pytest.mark.parametrize("value", [0.0, 0.7, np.nan, np.inf])
def test_an_output_that_tells_nothing_apart_gives_an_empty_mask(value: float) -> None:
    output = np.full((1, 8, 8), value, np.float32)
    assert not salient_mask(FAMILIES["u2net"], output, 9, 7).any()


def test_black_pictures_are_no_trouble() -> None:
    given = salient_input(FAMILIES["u2net"], np.zeros((40, 40, 3), np.uint8), 32)
    assert np.isfinite(given).all()


def test_a_classifier_sees_the_middle_in_the_order_it_asks_for() -> None:
    rgb = np.zeros((40, 80, 3), np.uint8)
    rgb[:, 20:60] = (255, 0, 0)
    rgb[:, :20] = rgb[:, 60:] = (0, 0, 255)
    first = classifier_input(FAMILIES["imagenet"], rgb, (3, 8, 8), "float32")
    last = classifier_input(FAMILIES["efficientnet-lite"], rgb, (8, 8, 3), "float32")
    raw = classifier_input(FAMILIES["imagenet"], rgb, (8, 8, 3), "uint8")
    assert first.shape == (3, 8, 8)
    assert np.allclose(first[0], (1 - 0.485) / 0.229, atol=1e-5)
    assert np.allclose(last[..., 0], (255 - 127) / 128)
    assert np.allclose(last[..., 2], -127 / 128)
    assert raw.dtype == np.uint8
    assert (raw == (255, 0, 0)).all()


def test_scores_are_probabilities_whatever_comes_out() -> None:
    def near(output: NDArray[Any], expected: NDArray[Any], scale: float = 0.0) -> bool:
        found = class_scores(output, scale)
        return found is not None and bool(np.allclose(found, expected))

    logits = np.array([[1.0, 2.0, 3.0]], np.float32)
    soft = np.exp(logits[0]) / np.exp(logits[0]).sum()
    assert near(logits, soft)
    assert near(soft.astype(np.float32), soft)
    assert near(np.array([26, 51, 179], np.uint8), np.array([26, 51, 179]) / 256)
    levels = np.array([0, 50, 100], np.uint8)
    assert class_scores(levels) is None
    assert near(levels, np.exp(levels * 0.1) / np.exp(levels * 0.1).sum(), 0.1)


def test_weights_that_do_not_tell_are_of_the_family_that_fits_what_they_take() -> None:
    assert guessed("segmentation", (3, 320, 320)) == FAMILIES["u2net"]
    assert guessed("segmentation", (3, 1024, 1024)) == FAMILIES["isnet"]
    assert guessed("classification", (3, 224, 224)) == FAMILIES["imagenet"]
    assert guessed("classification", (224, 224, 3)) == FAMILIES["efficientnet-lite"]
    assert guessed("caption", (3, 384, 384)) is None
