"""Every operation gives over tiles what it gives of the whole image: no pixel differs, nor what it finds."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.tiling.operation_cases import CASES, UNTILED, pictures
from tests.tiling.runners import RUNNERS

from pixelmill.errors import NotApplicable, NotTileable
from pixelmill.images.image import Image, Size
from pixelmill.operations.edges import Canny
from pixelmill.operations.geometry import Resize
from pixelmill.operations.operation import Step
from pixelmill.operations.passes import Form
from pixelmill.operations.plain_opencv import one_thread, without_ipp
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.segmentation import Components, Watershed
from pixelmill.operations.table import TABLE, operation_named

NO_CHECKS = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much)


def whole(name: str, arguments: dict[str, Any], pixels: NDArray[Any]) -> Step | None:
    """None where the operation can't be applied to such an image."""
    try:
        with without_ipp(), one_thread():
            return operation_named(name)(**arguments).apply(Image(pixels))
    except NotApplicable:
        return None


def agree(name: str, runner: str, data: st.DataObject, side: int) -> None:
    pixels, arguments = data.draw(pictures(side)), data.draw(CASES[name])
    expected = whole(name, arguments, pixels)
    tile = data.draw(st.integers(24, 150))
    if expected is None:
        return
    try:
        done, found = RUNNERS[runner](operation_named(name)(**arguments), pixels, tile)
    except NotTileable:
        assert name in {"resize", "watershed"}  # for some sizes; the tests of these say which
        return
    assert done.dtype == expected.image.pixels.dtype
    assert np.array_equal(done, expected.image.pixels)
    assert found == (None if expected.data is None else dict(expected.data))


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=3, deadline=None, suppress_health_check=NO_CHECKS)
@given(data=st.data())
def test_tiles_are_the_whole(name: str, runner: str, data: st.DataObject) -> None:
    agree(name, runner, data, 130)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("name", CASES)
@settings(max_examples=60, deadline=None, suppress_health_check=NO_CHECKS)
@given(data=st.data())
def test_tiles_are_the_whole_widely(name: str, runner: str, data: st.DataObject) -> None:
    agree(name, runner, data, 330)


def test_every_operation_is_here() -> None:
    assert set(CASES) | set(UNTILED) == set(TABLE)
    assert not set(CASES) & set(UNTILED)


@pytest.mark.parametrize("name", UNTILED)
def test_what_needs_the_whole_image_says_so(name: str) -> None:
    arguments = dict(EXAMPLES[name][1])
    with pytest.raises(NotTileable, match=name):
        operation_named(name)(**arguments).tiled(Form(Size(300, 200), 3, np.dtype(np.uint8)))


@pytest.mark.parametrize("runner", RUNNERS)
@settings(max_examples=12, deadline=None, suppress_health_check=NO_CHECKS)
@given(data=st.data())
def test_linear_over_tiles_is_the_whole_at_any_simple_ratio(runner: str, data: st.DataObject) -> None:
    """Of integers: the grids of source and result meet every few pixels, in each direction at places of its own."""
    one = st.integers(1, 13)
    width, height = ((data.draw(one), data.draw(one), data.draw(st.integers(2, 24))) for _ in range(2))
    size, target = Size(width[0] * width[2], height[0] * height[2]), Size(width[1] * width[2], height[1] * height[2])
    most = data.draw(st.sampled_from((255, 65_535)))
    plane = (size.height, size.width)
    shape = data.draw(st.sampled_from((plane, (*plane, 3))))
    pixels = np.random.default_rng(data.draw(st.integers(0, 99))).integers(0, most + 1, shape)
    pixels = pixels.astype(np.uint8 if most == 255 else np.uint16)
    resize = Resize(width=target.width, height=target.height, fit="fill", interpolation="linear")
    expected = cv2.resize(pixels, target, interpolation=cv2.INTER_LINEAR_EXACT)
    done, _ = RUNNERS[runner](resize, pixels, data.draw(st.integers(16, 100)))
    assert np.array_equal(done, expected.reshape(done.shape))


def test_linear_of_floats_needs_a_ratio_that_floats_can_hold() -> None:
    pixels = np.random.default_rng(1).random((300, 400, 3)).astype(np.float32)
    half = Resize(width=200, height=150, fit="fill", interpolation="linear")
    expected = whole("resize", half.model_dump(), pixels)
    assert expected is not None
    for run in RUNNERS.values():
        assert np.array_equal(run(half, pixels, 64)[0], expected.image.pixels)
    nine_tenths = Resize(width=360, height=270, fit="fill", interpolation="linear")
    with pytest.raises(NotTileable, match="linear from 400×300"):
        nine_tenths.tiled(Form(Size(400, 300), 3, np.dtype(np.float32)))


@pytest.mark.parametrize("low", [5, 60])
@pytest.mark.parametrize("tile", [37, 64, 300])
def test_canny_over_tiles_is_the_bare_call(low: int, tile: int, photo: bytes) -> None:
    gray: NDArray[Any] = np.asarray(cv2.imdecode(np.frombuffer(photo, np.uint8), cv2.IMREAD_GRAYSCALE))
    with without_ipp(), one_thread():
        expected = cv2.Canny(gray, low, 400)
    assert np.count_nonzero(expected) > 1_000
    operation = Canny(low=low, high=400)
    for run in RUNNERS.values():
        assert np.array_equal(run(operation, gray, tile)[0], expected)


def test_a_spiral_is_one_component_and_one_edge_whatever_the_tiles() -> None:
    """A line that winds through all tiles, strong in one pixel at its very end."""
    pixels = np.zeros((200, 200), np.uint8)
    turns = np.linspace(0, 2 * np.pi * 9, 6_000)
    points = np.column_stack((100 + 10 * turns / 6.3 * np.cos(turns), 100 + 10 * turns / 6.3 * np.sin(turns)))
    cv2.polylines(pixels, [np.rint(points).astype(np.int32)], isClosed=False, color=40, thickness=3)
    pixels[98:103, 98:103] = 255
    found = Components(mode="data", foreground="bright")
    edges = Canny(low=50, high=600)
    for tile in (24, 51):
        for run in RUNNERS.values():
            assert run(found, np.where(pixels > 0, np.uint8(255), np.uint8(0)), tile)[1] is not None
            assert np.array_equal(run(edges, pixels, tile)[0], cv2.Canny(pixels, 50, 600))
    one = RUNNERS["2 threads"](found, np.where(pixels > 0, np.uint8(255), np.uint8(0)), 24)[1]
    assert one is not None
    assert one["count"] == 1


def test_an_object_as_wide_as_the_image_is_measured_along_it() -> None:
    pixels = np.full((307, 1), 210, np.uint8)
    pixels[56:75] = 100
    pixels[200:231] = 30
    expected = whole("watershed", {"mode": "labels", "opening": 0, "core": 0.5}, pixels)
    assert expected is not None
    for run in RUNNERS.values():
        done, found = run(Watershed(mode="labels", opening=0, core=0.5), pixels, 24)
        assert np.array_equal(done, expected.image.pixels)
        assert found == {"count": 2}
