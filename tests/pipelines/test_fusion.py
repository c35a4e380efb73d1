"""Fused runs of pointwise operations give what the operations give one by one, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from pixelmill.images.image import Image
from pixelmill.operations.color import Brightness, Contrast, Gamma, Invert
from pixelmill.operations.operation import Operation
from pixelmill.pipelines.plan import Curves, fuse
from pixelmill.pipelines.spec import Pipeline

POINTWISE = st.one_of(
    st.builds(Brightness, amount=st.floats(-1, 1)),
    st.builds(Contrast, factor=st.floats(0, 10)),
    st.builds(Gamma, gamma=st.floats(0.05, 20)),
    st.builds(Invert),
)
OTHERS = st.sampled_from(Pipeline.parse("flip/grayscale/sharpen/resize:9").operations)


def everything(dtype: Any, channels: int) -> Image:
    """A picture with every level of 8 or 16 bits in it; for floats random ones, and the ends."""
    generator = np.random.default_rng(0)
    levels: NDArray[Any]
    if dtype == np.float32:
        levels = np.concatenate([generator.random(65_534, np.float32), np.array([0, 1], np.float32)])
    else:
        levels = np.resize(np.arange(np.iinfo(dtype).max + 1, dtype=dtype), 65_536)
    planes = [generator.permutation(levels).reshape(256, 256) for _ in range(channels)]
    return Image(planes[0] if channels == 1 else np.dstack(planes))


IMAGES = {
    (dtype.__name__, channels): everything(dtype, channels)
    for dtype in (np.uint8, np.uint16, np.float32)
    for channels in (1, 3, 4)
}


@given(st.lists(POINTWISE, min_size=2, max_size=6), st.sampled_from(sorted(IMAGES)))
def test_a_fused_run_equals_its_operations_one_by_one(run: list[Operation], kind: tuple[str, int]) -> None:
    image = IMAGES[kind]
    (fused,) = fuse(run)
    expected = image
    for operation in run:
        expected = operation.apply(expected).image
    result = fused.apply(image).image.pixels
    assert result.dtype == image.pixels.dtype
    assert np.array_equal(result, expected.pixels)
    if image.has_alpha:
        assert np.array_equal(result[..., 3], image.pixels[..., 3])


@given(st.lists(POINTWISE | OTHERS, max_size=10))
def test_fusion_keeps_the_order_and_every_operation(operations: list[Operation]) -> None:
    unfolded: list[Operation] = []
    previous: Operation | None = None
    for step in fuse(operations):
        assert not (isinstance(step, Curves) and isinstance(previous, Curves)), "two runs in a row"
        if isinstance(step, Curves):
            assert len(step.run) > 1
        unfolded += step.run if isinstance(step, Curves) else [step]
        previous = step
    assert unfolded == operations


@given(st.lists(POINTWISE | OTHERS, max_size=6), st.sampled_from(sorted(IMAGES)))
def test_whole_sequences_are_the_same_to_the_bit(operations: list[Operation], kind: tuple[str, int]) -> None:
    one = other = Image(IMAGES[kind].pixels[:20, :30].copy())
    for operation in operations:
        one = operation.apply(one).image
    for step in fuse(operations):
        other = step.apply(other).image
    assert np.array_equal(one.pixels, other.pixels)
