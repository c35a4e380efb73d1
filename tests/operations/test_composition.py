"""Marks in tiles and blend modes, text, borders, round corners: what they do to pixels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageChops

from pixelmill.errors import InvalidParameter
from pixelmill.images.image import Image, Size
from pixelmill.operations.arguments import build
from pixelmill.operations.blending import over
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import operation_named
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.sources import info_of_pixels
from pixelmill.pipelines.spec import Pipeline


def operation(name: str, **arguments: Any) -> Operation:
    return build(operation_named(name), arguments, name, strict=True)


def made(name: str, pixels: NDArray[Any], **arguments: Any) -> NDArray[Any]:
    return operation(name, **arguments).apply(Image(pixels)).image.pixels


def noise(height: int, width: int, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (height, width, channels), np.uint8)


# -- watermark ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blend", "by_pillow"),
    [("multiply", ImageChops.multiply), ("screen", ImageChops.screen), ("overlay", ImageChops.overlay)],
)
def test_blend_modes_are_pillows(blend: str, by_pillow: Any) -> None:
    below, above = noise(40, 60), noise(40, 60)[::-1].copy()
    mark = {"image": Image(above), "scale": 1.0, "margin": 0.0, "opacity": 1.0, "blend": blend}
    expected = np.asarray(by_pillow(PillowImage.fromarray(below), PillowImage.fromarray(above)))
    assert np.abs(made("watermark", below, **mark).astype(int) - expected.astype(int)).max() <= 2  # Pillow truncates


def test_blend_modes_know_transparency() -> None:
    below = np.full((10, 10, 4), (200, 100, 40, 255), np.uint8)
    below[5:, :, 3] = 0
    white = Image(np.full((10, 10), 255, np.uint8))
    done = made("watermark", below, image=white, scale=1.0, margin=0.0, opacity=1.0, blend="multiply")
    assert done[0, 0].tolist() == [200, 100, 40, 255]
    assert done[9, 9].tolist() == [255, 255, 255, 255]  # nothing below to multiply with
    half = made("watermark", below, image=white, scale=1.0, margin=0.0, opacity=0.5, blend="screen")
    assert half[0, 0].tolist() == [228, 178, 148, 255]


def test_tiles_repeat_the_one_mark_where_it_would_be() -> None:
    below = np.full((50, 70), 100, np.uint8)
    arguments = {"image": Image(noise(8, 14, 1)[..., 0]), "scale": 0.2, "margin": 0.04, "opacity": 1.0}
    one = made("watermark", below, **arguments, position="center")
    tiled = made("watermark", below, **arguments, position="center", tile=True)
    y, x, high, wide, gap = 21, 28, 8, 14, 2
    assert np.array_equal(tiled[y : y + high, x : x + wide], one[y : y + high, x : x + wide])
    assert (tiled[y + high : y + high + gap] == 100).all()
    assert (tiled[:, x + wide : x + wide + gap] == 100).all()
    assert np.array_equal(tiled[: -(high + gap)], tiled[high + gap :])
    assert np.array_equal(tiled[:, : -(wide + gap)], tiled[:, wide + gap :])


def test_tiles_over_many_bands_of_rows_have_no_seams() -> None:
    below = np.full((900, 300, 3), 100, np.uint8)  # several bands
    mark = Image(noise(7, 30))
    tiled = made("watermark", below, image=mark, scale=0.1, margin=0.0, opacity=0.5, tile=True)
    assert np.array_equal(tiled[:-7], tiled[7:])


def test_a_mark_that_multiplies_needs_color() -> None:
    info = info_of_pixels(Image(noise(40, 40)))
    assert plan(Pipeline.parse("watermark:a.png,blend=multiply/grayscale"), info).need.color
    assert not plan(Pipeline.parse("watermark:a.png/grayscale"), info).need.color


def test_blending_in_bands_of_rows_is_blending_at_once() -> None:
    base, color = noise(300, 700, 4), noise(300, 700).astype(np.float32)
    alpha = noise(300, 700, 1) / np.float32(255)
    whole = over(color, alpha, base, "screen")
    for rows in (np.s_[:50], np.s_[260:]):  # less than one band
        assert np.array_equal(over(color[rows], alpha[rows], base[rows], "screen"), whole[rows])


# -- text -----------------------------------------------------------------------------------------------------------


def ink(pixels: NDArray[Any], background: int = 0) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of what was written."""
    ys, xs = np.nonzero(pixels.reshape(*pixels.shape[:2], -1).max(axis=2) != background)
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


@pytest.mark.parametrize(
    ("position", "horizontal", "vertical"),
    [("top-left", "start", "start"), ("center", "middle", "middle"), ("bottom-right", "end", "end")],
)
def test_text_stands_where_it_was_put(position: str, horizontal: str, vertical: str) -> None:
    left, top, right, bottom = ink(
        made("text", np.zeros((200, 400), np.uint8), text="Hxg", font_size=40, position=position, margin=0.05)
    )
    for place, start, end, side in ((horizontal, left, right, 400), (vertical, top, bottom, 200)):
        expected = {"start": start - 10, "middle": (start + end - side) / 2, "end": side - 10 - end}[place]
        assert abs(expected) <= 4, place  # side bearings of the first and last letter
    assert 35 <= bottom - top <= 48


def test_text_has_its_color_and_leaves_the_rest_alone() -> None:
    done = made("text", np.full((60, 200), 7, np.uint8), text="MMM", color="ff8000", font_size=50)
    assert done.shape == (60, 200, 3)
    assert (done == (255, 128, 0)).all(axis=2).sum() > 300
    assert (done[:, :20] == 7).all()
    half = made("text", np.zeros((60, 200, 3), np.uint8), text="MMM", color="ff000080", font_size=50)
    assert half.max() == 128


@pytest.mark.parametrize(("depth", "full"), [("uint16", 65_535), ("float32", 1.0)])
def test_text_knows_the_depth(depth: str, full: float) -> None:
    done = made("text", np.zeros((60, 200, 3), depth), text="MMM", font_size=50)
    assert done.dtype == depth
    assert done.max() == full


def test_text_on_transparency_is_opaque_where_it_is() -> None:
    done = made("text", np.zeros((60, 200, 4), np.uint8), text="MMM", font_size=50)
    assert done[done[..., 3] == 255].tolist().count([255, 255, 255, 255]) > 300
    assert done[0, 0].tolist() == [0, 0, 0, 0]


def test_an_outline_lies_around_the_letters() -> None:
    plain = made("text", np.full((80, 200), 100, np.uint8), text="OX", font_size=50)
    lined = made("text", np.full((80, 200), 100, np.uint8), text="OX", font_size=50, outline="000000", outline_width=4)
    assert (plain == 0).sum() == 0
    assert (lined == 0).sum() > 300
    assert abs(int((lined == 255).sum()) - int((plain == 255).sum())) < 30
    wide, narrow = ink(lined, 100), ink(plain, 100)
    assert wide[3] - wide[1] == pytest.approx(narrow[3] - narrow[1] + 8, abs=1)
    assert wide[2] - wide[0] == pytest.approx(narrow[2] - narrow[0] + 8, abs=1)


def test_the_outlines_of_several_lines_lie_around_each_of_them() -> None:
    done = made(
        "text", np.full((240, 200), 100, np.uint8), text="O\nO\nO", font_size=50, outline="000000", outline_width=4
    )
    letters, lines = done == 255, done == 0
    for start in np.flatnonzero(np.diff(letters.any(axis=1).astype(int)) == 1) + 1:
        assert lines[start - 3, 80:120].any()  # just above each letter
        assert not letters[start - 3].any()
    assert np.count_nonzero(np.diff(letters.any(axis=1).astype(int)) == 1) == 3
    gaps = ~(letters | lines).any(axis=1)
    assert np.count_nonzero(np.diff(gaps.astype(int)) == 1) == 3  # background between the lines, and below


def test_long_lines_are_wrapped_between_words_or_cut_off() -> None:
    base = np.zeros((200, 120), np.uint8)
    words = "several words that do not fit"
    wrapped = made("text", base, text=words, font_size=20, position="top-left")
    rows = wrapped.max(axis=1) > 0
    assert np.count_nonzero(np.diff(rows.astype(int)) == 1) >= 3  # lines below each other
    assert ink(wrapped)[2] <= 120
    single = made("text", base, text=words, font_size=20, position="top-left", wrap=False)
    assert ink(single)[3] < 30
    assert ink(single)[2] == 120
    by_hand = made("text", base, text="several\nwords that\ndo not fit", font_size=20, position="top-left")
    assert np.array_equal(by_hand, wrapped)


def test_a_word_longer_than_the_image_is_broken() -> None:
    done = made("text", np.zeros((100, 40), np.uint8), text="m" * 12, font_size=20, position="top-left")
    assert ink(done)[3] > 60


def test_the_longest_text_in_the_largest_font_stays_within_bounds() -> None:
    for wrap in (True, False):
        done = made("text", np.zeros((30, 50), np.uint8), text="W" * 500, font_size=1000, wrap=wrap)
        assert done.shape == (30, 50)
    assert made("text", np.zeros((3, 5), np.uint8), text="\n\nx", font_size=1).shape == (3, 5)


@pytest.mark.parametrize("text", ["", " ", "\n", "a\0", "a\u200b", "x" * 501, "\ud800"])
def test_text_without_ink_or_with_control_characters_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="1 to 500 printable characters"):
        operation("text", text=text)


def test_text_has_a_text_form() -> None:
    pipeline = Pipeline().then("text", text="50 % off,\nnow: ü")
    assert pipeline.to_text() == "text:50~20~25~20off~2C~0Anow~3A~20~C3~BC"
    assert Pipeline.parse(pipeline.to_text()) == pipeline


# -- border ---------------------------------------------------------------------------------------------------------


def test_a_border_lies_around_the_image() -> None:
    pixels = noise(5, 7)
    done = made("border", pixels, thickness=3, color="102030")
    expected = np.full((11, 13, 3), (16, 32, 48), np.uint8)
    expected[3:-3, 3:-3] = pixels
    assert np.array_equal(done, expected)


@pytest.mark.parametrize("channels", [3, 4])
def test_a_border_inside_keeps_the_middle_and_blends(channels: int) -> None:
    pixels = np.full((9, 12, channels), 100, np.uint8)
    pixels[..., 3:] = 255
    done = made("border", pixels, thickness=2, color="ffffff80", inside=True)
    assert np.array_equal(done[2:-2, 2:-2], pixels[2:-2, 2:-2])
    ring = np.ones((9, 12), bool)
    ring[2:-2, 2:-2] = False
    assert (done[ring][:, :3] == 178).all()  # each pixel once, also in the corners


@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (3, 3), (5, 4)])
def test_a_border_inside_thicker_than_the_image_covers_it_once(shape: tuple[int, int]) -> None:
    done = made("border", np.full(shape, 100, np.uint8), thickness=9, color="ffffff80", inside=True)
    assert (done == 178).all()


def test_a_border_counts_against_the_size() -> None:
    assert operation("border", thickness=7).size(Size(3, 4)) == Size(17, 18)


# -- round corners --------------------------------------------------------------------------------------------------


def test_round_corners_take_the_area_of_the_arcs_away() -> None:
    done = made("round_corners", np.full((100, 140, 3), 9, np.uint8), radius=30)
    gone = 100 * 140 - done[..., 3].astype(float).sum() / 255
    assert gone == pytest.approx((4 - np.pi) * 30**2, rel=0.01)
    assert np.array_equal(done[..., 3], done[::-1, :, 3])
    assert np.array_equal(done[..., 3], done[:, ::-1, 3])
    assert (done[..., :3] == 9).all()
    assert (done[30:-30, :, 3] == 255).all()


@pytest.mark.parametrize("size", [40, 41])
def test_a_radius_too_large_makes_a_disc(size: int) -> None:
    done = made("round_corners", np.full((size, size), 9, np.uint8), radius=1000)
    assert done.shape == (size, size, 4)
    assert done[..., 3].astype(float).sum() / 255 == pytest.approx(np.pi * (size / 2) ** 2, rel=0.01)
    assert done[size // 2, size // 2].tolist() == [9, 9, 9, 255]


def test_round_corners_on_a_background_leave_the_middle() -> None:
    pixels = noise(40, 50)
    done = made("round_corners", pixels, radius=10, background="ff0000")
    assert done[0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(done[10:-10], pixels[10:-10])


def test_round_corners_never_add_to_alpha() -> None:
    pixels = noise(40, 50, 4)
    done = made("round_corners", pixels, radius=10)
    assert (done[..., 3] <= pixels[..., 3]).all()
    assert np.array_equal(done[..., :3], pixels[..., :3])
