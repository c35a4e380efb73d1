"""Regions that were painted are found: as many as there are, where they are, in every depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill import Pipeline
from pixelmill.errors import NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.images.samples import to_uint16
from pixelmill.operations.arguments import build
from pixelmill.operations.operation import Step
from pixelmill.operations.table import operation_named


def run(name: str, image: Image, **arguments: Any) -> tuple[NDArray[Any], dict[str, Any]]:
    step: Step = build(operation_named(name), arguments, name, strict=True).apply(image)
    data = dict(step.data or {})
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    return step.image.pixels, data


CENTERS = [(40, 40), (72, 40), (150, 60), (60, 120), (60, 148), (160, 140)]
"""The first two discs touch, and so do the fourth and fifth."""


def discs(background: int = 30, foreground: int = 200) -> NDArray[np.uint8]:
    pixels = np.full((190, 210), background, np.uint8)
    for index, center in enumerate(CENTERS):
        cv2.circle(pixels, center, 17 if index != 5 else 6, foreground, -1)
    return pixels


@pytest.mark.parametrize("inverted", [False, True])
def test_watershed_parts_and_counts_discs_that_touch(inverted: bool) -> None:
    pixels = discs(200, 30) if inverted else discs()
    assert run("components", Image(pixels), mode="data")[1]["count"] == 4
    for image in (Image(pixels), Image(to_uint16(np.dstack([pixels] * 3))), Image((pixels / 255).astype(np.float32))):
        assert run("watershed", image, mode="count")[1] == {"count": 6}
        labels, data = run("watershed", image, mode="labels")
        assert data == {"count": 6}
        assert labels.dtype == np.uint16
        at_centers = [int(labels[y, x]) for x, y in CENTERS]
        assert sorted(at_centers) == [1, 2, 3, 4, 5, 6]
        assert labels[0, 0] == 0
        areas = [np.count_nonzero(labels == label) for label in at_centers]
        assert all(0.8 * np.pi * 17**2 < area < 1.2 * np.pi * 17**2 for area in areas[:5])
        assert areas[5] < 200


def test_overlay_paints_only_the_borders() -> None:
    pixels = np.dstack([discs()] * 3)
    drawn, _ = run("watershed", Image(pixels), mode="overlay", color="00ff00")
    painted = (drawn == (0, 255, 0)).all(axis=2)
    assert 300 < np.count_nonzero(painted) < 1500
    assert np.array_equal(drawn[~painted], pixels[~painted])
    assert run("watershed", Image(discs()), mode="overlay")[0].shape == (190, 210, 3)


@pytest.mark.parametrize("level", [0, 77, 255])
@pytest.mark.parametrize("name", ["watershed", "components"])
def test_a_flat_image_has_no_regions(name: str, level: int) -> None:
    labels, data = run(name, Image(np.full((20, 30), level, np.uint8)), mode="labels")
    assert data["count"] == 0
    assert not labels.any()


@pytest.mark.parametrize("connectivity", [4, 8])
def test_components_are_opencvs(connectivity: int) -> None:
    noise = np.random.default_rng(5).integers(0, 256, (60, 80), np.uint8)
    _, mask = cv2.threshold(noise, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    count, expected, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    labels, data = run("components", Image(noise), mode="labels", connectivity=connectivity, foreground="bright")
    assert np.array_equal(labels, expected)
    assert data["count"] == count - 1
    for item in data["components"]:
        assert [*item["box"], item["area"]] == stats[item["number"]].tolist()
    areas = [item["area"] for item in data["components"]]
    assert areas == sorted(areas, reverse=True)


def test_small_components_are_left_out_and_numbers_have_no_gaps() -> None:
    pixels = np.zeros((30, 40), np.uint8)
    pixels[2:4, 2:4] = 255
    pixels[10:20, 5:25] = 255
    pixels[25:28, 30:39] = 255
    labels, data = run("components", Image(pixels), mode="labels", min_area=5)
    assert data == {
        "count": 2,
        "components": [
            {"number": 1, "box": [5, 10, 20, 10], "area": 200, "center": [14.5, 14.5]},
            {"number": 2, "box": [30, 25, 9, 3], "area": 27, "center": [34.0, 26.0]},
        ],
    }
    assert np.unique(labels).tolist() == [0, 1, 2]
    drawn, _ = run("components", Image(pixels), mode="overlay", min_area=5, color="0000ff")
    blue = (drawn == (0, 0, 255)).all(axis=2)
    assert blue[10, 5:25].all()
    assert blue[10:20, 24].all()
    assert not blue[2:4, 2:4].any()


def test_a_list_of_components_is_bounded_and_the_count_is_not() -> None:
    pixels = np.zeros((200, 200), np.uint8)
    pixels[1::4, 1::4] = 255
    data = run("components", Image(pixels), mode="data")[1]
    assert data["count"] == 2500
    assert len(data["components"]) == 1000


def test_counting_gives_data_alone(photo: bytes) -> None:
    assert Pipeline.parse("watershed:count").run(photo).bytes is None
    assert Pipeline.parse("components:data").run(photo).bytes is None
    labels = Pipeline.parse("watershed:labels/format:png").run(photo)
    assert labels.image.pixels.dtype == np.uint16
    assert int(labels.image.pixels.max()) == labels.data["watershed"]["count"]


def scene(channels: int = 3) -> NDArray[np.uint8]:
    rng = np.random.default_rng(9)
    pixels = np.clip(rng.normal((60, 110, 60), 12, (120, 160, 3)), 0, 255).astype(np.uint8)
    disc = np.zeros((120, 160), np.uint8)
    cv2.circle(disc, (80, 60), 35, 255, -1)
    pixels[disc > 0] = np.clip(rng.normal((220, 60, 40), 12, (120, 160, 3)), 0, 255)[disc > 0]
    return np.dstack((pixels, disc)) if channels == 4 else pixels


@pytest.mark.parametrize("arguments", [{}, {"margin": 0.15}, {"x": 40, "y": 20, "width": 80, "height": 80}])
def test_grabcut_cuts_out_what_was_painted(arguments: dict[str, Any]) -> None:
    truth = scene(4)[..., 3] > 0
    for image in (Image(scene()), Image(to_uint16(scene())), Image((scene() / 255).astype(np.float32))):
        cut, data = run("grabcut", image, **arguments)
        shown = cut[..., 3] > 0
        assert np.count_nonzero(shown & truth) / np.count_nonzero(shown | truth) > 0.97
        assert np.array_equal(cut[..., :3], image.pixels)
        assert data["box"] == pytest.approx([45, 25, 71, 71], abs=2)
        assert data["share"] == pytest.approx(truth.mean(), abs=0.01)
        again, _ = run("grabcut", image, **arguments)
        assert np.array_equal(cut, again)


def test_grabcut_keeps_what_was_transparent_and_scales_up_what_is_large() -> None:
    half = np.dstack((scene(), np.full((120, 160), 128, np.uint8)))
    cut, _ = run("grabcut", Image(half))
    assert np.unique(cut[..., 3]).tolist() == [0, 128]
    large = cv2.resize(scene(), (1600, 1200), interpolation=cv2.INTER_CUBIC)
    truth = cv2.resize(scene(4)[..., 3], (1600, 1200)) > 127
    shown = run("grabcut", Image(large), iterations=2)[0][..., 3] > 127
    assert np.count_nonzero(shown & truth) / np.count_nonzero(shown | truth) > 0.97


def test_a_rectangle_outside_is_refused_and_one_around_everything_cuts_nothing() -> None:
    with pytest.raises(NotApplicable, match="160,0, outside"):
        run("grabcut", Image(scene()), x=160, y=0, width=5, height=5)
    cut, data = run("grabcut", Image(scene()), x=0, y=0, width=500, height=500)
    assert (cut[..., 3] == 255).all()
    assert data == {"box": [0, 0, 160, 120], "share": 1.0}


def test_grabcut_frees_a_product_of_a_photograph_from_its_background(assets: Path) -> None:
    image = decode((assets / "photos" / "product_mug_700x700.jpg").read_bytes())
    cut, data = run("grabcut", image, margin=0.03, iterations=3)
    assert 0.05 < data["share"] < 0.8
    assert not cut[:15, :, 3].any()
