"""Operations that choose the frame (crop, smart_crop, pad, trim, perspective), and sizes that pixels decide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill.errors import InvalidParameter, LimitExceeded, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.operations.arguments import build
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import operation_named
from pixelmill.pipelines.run import planned, run
from pixelmill.pipelines.sources import info_of_pixels
from pixelmill.pipelines.spec import Pipeline


def operation(name: str, **arguments: Any) -> Operation:
    return build(operation_named(name), arguments, name, strict=True)


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (height, width, channels), np.uint8)


# -- crop -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gravity", "x", "y"),
    [("top-left", 0, 0), ("top", 15, 0), ("right", 31, 10), ("center", 15, 10), ("bottom-right", 31, 20)],
)
def test_a_crop_by_gravity_is_the_crop_at_that_corner(gravity: str, x: int, y: int) -> None:
    image = Image(noise(30, 41))
    by_gravity = operation("crop", width=10, height=10, gravity=gravity).apply(image).image.pixels
    assert np.array_equal(by_gravity, image.pixels[y : y + 10, x : x + 10])


@pytest.mark.parametrize(
    "arguments", [{}, {"x": 1}, {"y": 1}, {"x": 1, "gravity": "top"}, {"x": 0, "y": 0, "gravity": "top"}]
)
def test_a_crop_lies_at_exactly_one_place(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="x and y, or a gravity"):
        operation("crop", width=2, height=2, **arguments)


def test_a_crop_keeps_its_text_and_a_gravity_has_one() -> None:
    assert Pipeline.parse("crop:10,20,30,40").to_text() == "crop:10,20,30,40"
    assert Pipeline.parse("crop:width=3,gravity=top,height=4").to_text() == "crop:width=3,height=4,gravity=top"


def test_a_crop_larger_than_the_image_is_refused_with_any_gravity() -> None:
    with pytest.raises(NotApplicable, match="at center of 50×5 pixels does not lie within"):
        operation("crop", width=50, height=5, gravity="center").size(Size(49, 9))


# -- smart_crop -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["saliency", "edges"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_smart_crop_holds_what_stands_out(attention: str, channels: int) -> None:
    pixels = np.full((300, 480, channels), 128, np.uint8)
    pixels[220:260, 380:420] = noise(40, 40, channels)
    pixels[..., 3:] = 255
    step = operation("smart_crop", width=120, height=100, attention=attention).apply(Image(np.squeeze(pixels)))
    assert step.data is not None
    x, y = step.data["x"], step.data["y"]
    assert 420 - 120 <= x <= 380
    assert 260 - 100 <= y <= 220
    assert np.array_equal(step.image.pixels, np.squeeze(pixels)[y : y + 100, x : x + 120])


@pytest.mark.parametrize("attention", ["saliency", "edges"])
def test_the_smart_crop_of_a_flat_image_is_its_center(attention: str) -> None:
    step = operation("smart_crop", width=100, height=50, attention=attention).apply(
        Image(np.zeros((60, 200), np.uint8))
    )
    assert step.data is not None
    assert abs(step.data["x"] - 50) <= 4
    assert abs(step.data["y"] - 5) <= 4


def test_the_smart_crop_holds_the_faces_that_fit_and_says_so(assets: Path) -> None:
    person = decode((assets / "photos" / "portrait_astronaut_512x512.jpg").read_bytes()).pixels
    ((x, y, width, height),) = operation("faces").apply(Image(person)).data["boxes"]  # type: ignore[index]  # it has
    pixels = np.zeros((600, 1400, 3), np.uint8)
    pixels[20:532, 860:1372] = person
    half = cv2.resize(person, (256, 256), interpolation=cv2.INTER_AREA)
    pixels[300:556, 10:266] = half
    step = operation("smart_crop", width=300, height=300, attention="faces").apply(Image(pixels))
    assert step.data is not None
    assert (step.data["attention"], step.data["faces"]) == ("faces", 2)
    assert abs(step.data["x"] + 150 - (860 + x + width / 2)) < width / 5  # around the larger one
    assert step.data["y"] <= 20 + y
    assert 20 + y + height <= step.data["y"] + 300
    wide = operation("smart_crop", width=1200, height=500, attention="faces").apply(Image(pixels))
    assert wide.data is not None
    assert wide.data["x"] <= 10 + x / 2
    assert 860 + x + width <= wide.data["x"] + 1200


def test_without_a_face_the_smart_crop_goes_by_saliency_and_says_so() -> None:
    image = Image(noise(90, 140, 3))
    by_faces = operation("smart_crop", width=50, height=40, attention="faces").apply(image)
    by_saliency = operation("smart_crop", width=50, height=40).apply(image)
    assert by_faces.data == {**(by_saliency.data or {}), "attention": "saliency", "faces": 0, "detector": "haar"}
    assert np.array_equal(by_faces.image.pixels, by_saliency.image.pixels)


def test_a_smart_crop_larger_than_the_image_is_refused() -> None:
    with pytest.raises(NotApplicable, match="smart_crop: 9×9 pixels can't be cut"):
        operation("smart_crop", width=9, height=9).apply(Image(noise(8, 20)))


# -- pad ------------------------------------------------------------------------------------------------------------


def test_padding_to_a_size_centers_and_leaves_longer_sides() -> None:
    image = Image(noise(10, 31))
    done = operation("pad", width=20, height=21, background="0a141e").apply(image).image.pixels
    expected = np.full((21, 31, 3), (10, 20, 30), np.uint8)
    expected[5:15] = image.pixels
    assert np.array_equal(done, expected)


def test_padding_by_margins_puts_them_where_they_were_asked() -> None:
    image = Image(noise(4, 5, 4))
    done = operation("pad", left=1, top=2, right=3, bottom=4).apply(image).image.pixels
    assert done.shape == (10, 9, 4)
    assert np.array_equal(done[2:6, 1:6], image.pixels)
    assert int(done.astype(int).sum()) == int(image.pixels.astype(int).sum())  # the rest is transparent


@pytest.mark.parametrize(("depth", "full"), [("uint16", 65_535), ("float32", 1.0)])
def test_padding_knows_the_depth_and_makes_gray_rgb_for_a_color(depth: str, full: float) -> None:
    image = Image(np.zeros((2, 2), depth))
    done = operation("pad", right=1, background="ff0000").apply(image).image
    assert done.pixels.dtype == depth
    assert done.pixels[0, 2].tolist() == [full, 0, 0]
    assert operation("pad", right=1, background="ffffff").apply(image).image.pixels[0].tolist() == [0, 0, full]


@pytest.mark.parametrize("arguments", [{}, {"width": 5, "left": 1}, {"position": "top"}])
def test_padding_is_to_a_size_or_by_margins(arguments: dict[str, Any]) -> None:
    with pytest.raises(InvalidParameter, match="width or height, or margins"):
        operation("pad", **arguments)


# -- trim -----------------------------------------------------------------------------------------------------------


def framed(channels: int = 3, depth: str = "uint8") -> NDArray[Any]:
    full = {"uint8": 255, "uint16": 65_535, "float32": 1}[depth]
    pixels = np.full((40, 60, channels), 0.5 * full, depth)
    pixels[10:25, 5:50] = full
    return np.squeeze(pixels)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("depth", ["uint8", "uint16", "float32"])
def test_trim_cuts_off_exactly_the_border(channels: int, depth: str) -> None:
    pixels = framed(channels, depth)
    step = operation("trim").apply(Image(pixels))
    assert step.data == {"x": 5, "y": 10, "width": 45, "height": 15}
    assert np.array_equal(step.image.pixels, pixels[10:25, 5:50])


def test_the_tolerance_of_trim_is_exact() -> None:
    pixels = framed()
    pixels[0, 30] = 127 + 10
    assert operation("trim", tolerance=10 / 255).apply(Image(pixels)).image.size == Size(45, 15)
    assert operation("trim", tolerance=9 / 255).apply(Image(pixels)).image.size == Size(45, 25)


def test_trim_does_not_see_hidden_colors_and_leaves_a_flat_image() -> None:
    pixels = noise(20, 20, 4)
    pixels[..., 3] = 0
    pixels[4:9, 3:5] = 255
    assert operation("trim").apply(Image(pixels)).data == {"x": 3, "y": 4, "width": 2, "height": 5}
    flat = Image(np.full((7, 9), 33, np.uint8))
    assert operation("trim").apply(flat).image.size == flat.size


def test_trim_of_a_given_color_leaves_another_border() -> None:
    assert operation("trim", color="000000").apply(Image(framed())).image.size == Size(60, 40)
    assert operation("trim", color="7f7f7f").apply(Image(framed())).image.size == Size(45, 15)


def test_what_follows_trim_works_on_what_was_kept() -> None:
    outcome = run(Pipeline.parse("trim/resize:15/format:png"), Image(framed()))
    assert outcome.size == Size(15, 5)  # and not 15x10, nor distorted
    assert outcome.data["trim"]["width"] == 45
    assert outcome.bytes is not None
    assert decode(outcome.bytes).pixels.min() == 255
    plan = planned(Pipeline.parse("trim/resize:15/format:png"), info_of_pixels(Image(framed())))
    assert [step.unsure for step in plan.steps] == [True, True]
    assert "about 60×40" in plan.explain()


def test_limits_hold_behind_trim() -> None:
    pixels = np.zeros((100, 10), np.uint8)
    pixels[50, :] = 255
    limits = Limits(max_pixels=1_000)
    with pytest.raises(LimitExceeded, match="Step 2: resize would make an image of 400×40") as caught:
        run(Pipeline.parse("trim/resize:height=40,enlarge=true"), Image(pixels), limits=limits)
    assert caught.value.context["step"] == 2
    made = run(Pipeline.parse("trim/resize:30,enlarge=true"), Image(pixels), limits=limits)
    assert made.size == Size(30, 3)  # by its estimate, 30x300, it would not be allowed


def test_a_step_that_does_not_fit_behind_trim_is_named() -> None:
    with pytest.raises(NotApplicable, match="Step 2: crop"):
        run(Pipeline.parse("trim/crop:0,0,60,40"), Image(framed()))


# -- perspective ----------------------------------------------------------------------------------------------------


def corners(*places: float) -> dict[str, float]:
    return dict(zip(("x1", "y1", "x2", "y2", "x3", "y3", "x4", "y4"), places, strict=True))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_the_corners_of_the_image_give_the_image(channels: int) -> None:
    image = Image(np.squeeze(noise(30, 41, channels)))
    if channels == 4:
        image.pixels[..., 3] = 255
    done = operation("perspective", **corners(0, 0, 41, 0, 41, 30, 0, 30)).apply(image).image
    assert np.abs(done.pixels.astype(int) - image.pixels.astype(int)).max() <= 1


def test_corners_turned_by_one_turn_the_image() -> None:
    image = Image(noise(30, 41))
    done = operation("perspective", **corners(41, 0, 41, 30, 0, 30, 0, 0)).apply(image).image
    expected = cv2.rotate(image.pixels, cv2.ROTATE_90_COUNTERCLOCKWISE)
    assert np.abs(done.pixels.astype(int) - expected.astype(int)).max() <= 1


@pytest.mark.parametrize("factor", [1, 5])
def test_a_page_seen_askew_is_straightened(factor: int) -> None:
    page = np.full((120 * factor, 80 * factor), 255, np.uint8)
    page[: 40 * factor] = 100
    source = np.array([(0, 0), (80, 0), (80, 120), (0, 120)], np.float32) * factor
    seen = np.array([(20, 15), (110, 25), (125, 140), (5, 120)], np.float32) * factor
    matrix = cv2.getPerspectiveTransform(source - 0.5, seen - 0.5)
    photo = cv2.warpPerspective(page, matrix, (150 * factor, 160 * factor))
    arguments = corners(*(float(value) for value in seen.ravel()))
    done = operation("perspective", **arguments, width=80, height=120).apply(Image(photo)).image.pixels
    assert done.shape == (120, 80)
    assert np.abs(done[3:37, 3:-3].astype(int) - 100).max() <= 3
    assert np.abs(done[43:-3, 3:-3].astype(int) - 255).max() <= 3


@pytest.mark.parametrize(
    "places",
    [
        (0, 0, 10, 0, 20, 0, 0, 10),  # three on one line
        (0, 0, 10, 10, 10, 0, 0, 10),  # crossed
        (0, 0, 0, 10, 10, 10, 10, 0),  # counterclockwise
        (5, 5, 5, 5, 5, 5, 5, 5),
        (0, 0, 10, 0, 3, 3, 0, 10),  # a dent
    ],
)
def test_corners_of_no_convex_quadrilateral_are_refused(places: tuple[float, ...]) -> None:
    with pytest.raises(InvalidParameter, match="no convex quadrilateral"):
        operation("perspective", **corners(*places))


def test_a_corner_outside_the_image_is_refused() -> None:
    with pytest.raises(NotApplicable, match=r"the corner \(41\.5, 0\)"):
        operation("perspective", **corners(0, 0, 41.5, 0, 41, 30, 0, 30)).apply(Image(noise(30, 41)))
