"""Contact sheets: the grid has room for all and overlaps nothing, refusals say what fits, cells show their pictures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixelmill.errors import InvalidParameter, LimitExceeded, NotApplicable
from pixelmill.images.image import Image
from pixelmill.images.limits import Limits
from pixelmill.operations.arguments import build
from pixelmill.operations.fonts import built_in_font
from pixelmill.operations.montage import MAX_CELLS, Cell, Grid, Montage, compose, grid, label_of, shortened

SMALL = Montage(cell_width=40, cell_height=30, gap=5)
layouts = st.builds(
    Montage,
    columns=st.none() | st.integers(1, 1_000),
    cell_width=st.integers(16, 4_096),
    cell_height=st.integers(16, 4_096),
    gap=st.integers(0, 256),
    labels=st.booleans(),
    font_size=st.integers(8, 64),
)
bounds = st.builds(Limits, max_bytes=st.just(1), max_pixels=st.integers(1_000, 10**8), max_side=st.integers(50, 30_000))


def plain(color: tuple[int, ...], width: int = 60, height: int = 60) -> Image:
    return Image(np.full((height, width, len(color)), color, np.uint8))


def boxes(places: Grid, count: int) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of each cell with its label."""
    corners = (places.corner(index) for index in range(count))
    return [(x, y, x + places.cell.width, y + places.cell.height + places.label) for x, y in corners]


@given(st.integers(1, 200), layouts)
def test_cells_lie_in_the_sheet_and_apart(count: int, montage: Montage) -> None:
    try:
        places = grid(count, montage)
    except LimitExceeded:
        return
    laid = boxes(places, count)
    gap = montage.gap
    for left, top, right, bottom in laid:
        assert gap <= left < right <= places.size.width - gap
        assert gap <= top < bottom <= places.size.height - gap
    for index, (left, top, *_) in enumerate(laid[1:], 1):
        before = laid[index - 1]
        in_row = top == before[1] and left == before[2] + gap
        in_next = left == gap and top == before[3] + gap
        assert in_row or in_next
    assert (places.rows - 1) * places.columns < count <= places.rows * places.columns
    assert places.columns == min(montage.columns or places.columns, count)


def planned(count: int, montage: Montage, limits: Limits) -> Grid | LimitExceeded:
    try:
        return grid(count, montage, limits=limits)
    except LimitExceeded as error:
        return error


@settings(max_examples=300)
@given(st.integers(1, MAX_CELLS), layouts, bounds)
def test_a_sheet_is_within_the_limits_or_told_what_would_be(count: int, montage: Montage, limits: Limits) -> None:
    found = planned(count, montage, limits)
    if isinstance(found, LimitExceeded):
        assert found.context["value"] > found.context["maximum"]
        changes: dict[str, Any] = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", found.detail)}
        if not changes:  # then not even one cell of this size fits
            assert isinstance(planned(1, montage, limits), LimitExceeded)
            return
        fewer = changes.pop("limit", count)
        found = grid(fewer, montage.model_copy(update={"columns": None, **changes}), limits=limits)
    assert max(found.size) <= limits.max_side
    assert found.size.pixels <= limits.max_pixels


@given(st.integers(2, MAX_CELLS), layouts, bounds)
def test_what_fits_still_fits_when_a_cell_is_left_out(count: int, montage: Montage, limits: Limits) -> None:
    if isinstance(planned(count, montage, limits), Grid):
        assert isinstance(planned(count - 1, montage, limits), Grid)


def test_more_cells_than_a_sheet_shows_are_refused() -> None:
    with pytest.raises(LimitExceeded, match="limit=10000"):
        grid(MAX_CELLS + 1, SMALL)


def test_a_sheet_of_nothing_is_refused() -> None:
    with pytest.raises(NotApplicable):
        compose([Cell("a", None, "corrupt-image")], SMALL)


def test_every_picture_stands_in_its_cell_and_nothing_between() -> None:
    colors = [(200, 10 * index, 50) for index in range(7)]
    cells = [Cell(f"{'long name ' * 9}{index}.jpg", plain(color)) for index, color in enumerate(colors)]
    montage = SMALL.model_copy(update={"background": "102030"})
    sheet, places = compose(cells, montage).pixels, grid(7, montage)
    assert sheet.shape == (places.size.height, places.size.width, 3)
    free = np.ones(sheet.shape[:2], bool)
    for index, (left, top, right, bottom) in enumerate(boxes(places, 7)):
        free[top:bottom, left:right] = False
        picture = sheet[top : top + 30, left : left + 40]
        assert (picture[:, 5:35] == colors[index]).all()  # 60×60 in 40×30: 30×30, in the middle
        assert (picture[:, :5] == (0x10, 0x20, 0x30)).all()
        label = sheet[top + 30 : bottom, left:right]
        assert (label != (0x10, 0x20, 0x30)).any()
        assert (label[:, [0, -1]] == (0x10, 0x20, 0x30)).all()
    assert (sheet[free] == (0x10, 0x20, 0x30)).all()


def test_without_labels_there_is_no_room_for_them() -> None:
    bare = SMALL.model_copy(update={"labels": False})
    assert compose([Cell("a", plain((1, 2, 3)))], bare).size == (50, 40)


def test_images_of_every_kind_are_shown_alike() -> None:
    gray = np.full((20, 20), 128, np.uint8)
    kinds = [
        Image(gray),
        Image(gray.astype(np.uint16) * np.uint16(257)),
        Image(np.full((20, 20, 3), 128 / 255, np.float32)),
        plain((128, 128, 128, 255), 20, 20),
    ]
    sheet = compose(
        [Cell("", image) for image in kinds], SMALL.model_copy(update={"columns": 4, "labels": False})
    ).pixels
    for index in range(4):
        x, y = grid(4, SMALL.model_copy(update={"columns": 4, "labels": False})).corner(index)
        assert (sheet[y + 5 : y + 25, x + 10 : x + 30] == 128).all()


def test_the_background_shows_through_transparent_pixels() -> None:
    sheet = compose(
        [Cell("", plain((255, 0, 0, 0)))], SMALL.model_copy(update={"labels": False, "background": "00ff00"})
    )
    assert (sheet.pixels == (0, 255, 0)).all()


def test_what_has_no_image_is_left_out_or_marked() -> None:
    cells = [Cell("a", plain((9, 9, 9))), Cell("b", None, "corrupt-image"), Cell("c", plain((7, 7, 7)))]
    beside = SMALL.model_copy(update={"columns": 9, "labels": False})
    skipped = compose(cells, beside)
    assert (skipped.pixels == compose([cells[0], cells[2]], beside).pixels).all()
    marked = compose(cells, beside.model_copy(update={"failed": "mark"})).pixels
    x, y = grid(3, beside).corner(1)
    cross = marked[y : y + 30, x : x + 40]
    assert (cross != 255).all(axis=2).mean() > 0.9
    assert len(np.unique(cross.reshape(-1, 3), axis=0)) > 3
    assert compose(cells, beside.model_copy(update={"failed": "mark", "limit": 2})).size == grid(2, beside).size


@given(st.text(max_size=80), st.integers(1, 400), st.integers(8, 64))
def test_a_label_is_never_wider_than_its_room(name: str, width: int, font_size: int) -> None:
    label = label_of(name)
    assert label.isascii()
    short = shortened(label, width, font_size)
    font = built_in_font(font_size)
    assert font.getlength(short) <= width
    if short != label and short:
        start, _, end = short.partition("…")
        assert label.startswith(start)
        assert label.endswith(end)
    assert (short == label) == (font.getlength(label) <= width)


def test_names_lose_folders_and_accents() -> None:
    assert label_of("Ferien/Köln/Bäume é.jpg") == "Baume e.jpg"
    assert label_of("a\\b\\漢字.png") == "??.png"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"column": "3"}, "Did you mean columns"),
        ({"columns": "0"}, "from 1 to 1,000"),
        ({"cell_width": "15"}, "from 16 to 4,096 (pixels)"),
        ({"background": "ffffff80"}, "hex RRGGBB"),
        ({"failed": "hide"}, "one of skip, mark"),
        ({"limit": "10001"}, "from 1 to 10,000"),
    ],
)
def test_wrong_parameters_are_refused_like_those_of_operations(arguments: dict[str, str], why: str) -> None:
    with pytest.raises(InvalidParameter, match=re.escape(why)):
        build(Montage, arguments, "montage", strict=False)
