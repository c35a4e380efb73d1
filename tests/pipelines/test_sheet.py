"""A sheet by way of its document and thumbnails is the sheet that the library composes."""

from __future__ import annotations

import numpy as np
import pytest

from pixelmill.errors import LimitExceeded, PipelineSyntaxError, UnknownOperation
from pixelmill.images.decode import decode
from pixelmill.images.image import EVERYTHING, Image
from pixelmill.images.limits import Limits
from pixelmill.operations.montage import Cell, Montage, compose
from pixelmill.pipelines.forms import read_format
from pixelmill.pipelines.sheet import (
    SheetCell,
    run_sheet,
    sheet_limits,
    thumbnail_bytes,
    thumbnail_pipeline,
    write_sheet,
)
from pixelmill.pipelines.spec import Pipeline

LAYOUT = Montage(cell_width=48, cell_height=32, failed="mark", background="336699")


def pictures() -> list[Image]:
    """One of each kind; noise, so that every pixel tells."""
    random = np.random.default_rng(5)
    return [
        Image(random.integers(0, 256, (90, 120, 3), np.uint8)),
        Image(random.integers(0, 256, (60, 40), np.uint8)),
        Image(random.integers(0, 256, (20, 30, 4), np.uint8)),
        Image(random.integers(0, 65536, (70, 50, 3), np.uint16)),
    ]


def test_the_way_by_thumbnails_loses_nothing() -> None:
    images = pictures()
    small = [thumbnail_pipeline(LAYOUT).run(image).bytes for image in images]
    bodies = {str(index): body for index, body in enumerate(small) if body is not None}
    cells = [SheetCell(f"n{index}.png", str(index)) for index in range(4)] + [SheetCell("torn", None, "corrupt-image")]
    outcome = run_sheet(Pipeline().format("png"), write_sheet(LAYOUT, cells), limits=Limits(), images=bodies)
    expected = compose(
        [*(Cell(f"n{index}.png", image) for index, image in enumerate(images)), Cell("torn", None, "corrupt-image")],
        LAYOUT,
    )
    assert outcome.bytes is not None
    sheet = decode(outcome.bytes, EVERYTHING, Limits())
    assert sheet.size == expected.size
    assert (
        int(np.abs(sheet.pixels.astype(int) - expected.pixels.astype(int)).max()) <= 1
    )  # 16 bits are rounded once more
    assert outcome.data["montage"] == {"cells": 5, "columns": 3, "rows": 2, "marked": 1}


def test_a_thumbnail_is_never_larger_than_is_reserved() -> None:
    for side in (16, 17, 61, 64):
        montage = Montage(cell_width=side, cell_height=side)
        for image in (Image(np.zeros((300, 300, 3), np.uint8)), Image(np.zeros((300, 300), np.uint8))):
            body = thumbnail_pipeline(montage).run(image).bytes
            assert body is not None
            assert len(body) <= thumbnail_bytes(montage)


def test_a_sheet_beyond_the_limits_is_not_composed() -> None:
    cells = [SheetCell("a", None)] * 20
    with pytest.raises(LimitExceeded):
        run_sheet(Pipeline().format("png"), write_sheet(LAYOUT, cells), limits=Limits(max_side=100), images={})


def test_the_format_s_own_bounds_count() -> None:
    wide, limits = read_format("webp"), Limits(max_side=30_000)
    assert sheet_limits(wide, limits).max_side == 16_383
    assert sheet_limits(wide, limits).max_pixels < sheet_limits(read_format("png"), limits).max_pixels
    assert sheet_limits(read_format("png"), limits) == limits


def test_a_format_is_read_as_in_a_pipeline_and_alone() -> None:
    assert read_format("jpg,quality=90") == Pipeline.parse("format:jpeg,quality=90").output
    with pytest.raises(PipelineSyntaxError):
        read_format("jpeg/metadata:keep")
    with pytest.raises(UnknownOperation, match=r"^There is no format"):
        read_format("jpge")
