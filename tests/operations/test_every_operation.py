"""What holds for every operation of the table, on every kind of image: generated from the table and the models."""

from __future__ import annotations

import itertools
from typing import Any, get_args, get_origin

import numpy as np
import pytest

from pixelmill.errors import NotApplicable
from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Kind, Operation, Tier
from pixelmill.operations.resize import Resize
from pixelmill.operations.table import OPERATIONS, example_of, operation_named

SIZES = [Size(1, 1), Size(1, 9), Size(9, 1), Size(2, 2), Size(31, 17), Size(200, 133)]
DTYPES = [np.uint8, np.uint16, np.float32]
CHANNELS = [1, 3, 4]
KINDS = list(itertools.product(SIZES, DTYPES, CHANNELS))


def picture(size: Size, dtype: Any, channels: int, seed: int = 0) -> Image:
    random = np.random.default_rng(seed)
    shape = (size.height, size.width) if channels == 1 else (size.height, size.width, channels)
    if dtype == np.float32:
        return Image(random.random(shape, np.float32))
    return Image(random.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True))


def variants(name: str) -> list[Operation]:
    """The example, and one more for each choice of each parameter that has choices."""
    cls: Any = operation_named(name)
    example = example_of(cls)
    found = [example]
    for key, field in type(example).model_fields.items():
        annotation: Any = field.annotation
        choices: tuple[Any, ...] = (True, False) if annotation is bool else ()
        if get_origin(annotation) is not None and type(None) not in get_args(annotation):
            choices = get_args(annotation)
        found += [type(example).model_validate({**example.model_dump(), key: choice}) for choice in choices]
    if name == "rotate":
        found += [cls(angle=angle) for angle in (0, 180, 270, -90, 360, 45, -12.5)]
    if name == "crop":
        found.append(cls(x=0, y=0, width=1, height=1))
    if name == "resize":
        found += [cls(width=3), cls(height=300, enlarge=True)]
    mark = picture(Size(7, 5), np.uint8, 4, seed=1)
    return [operation.with_images(dict.fromkeys(operation.images(), mark)) for operation in found]


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_result_is_a_valid_image_of_the_predicted_size_and_the_input_is_not_written_to(name: str) -> None:
    for operation, (size, dtype, channels) in itertools.product(variants(name), KINDS):
        image = picture(size, dtype, channels)
        before = image.pixels.copy()
        image.pixels.flags.writeable = False
        what = f"{operation!r} on {size}, {dtype.__name__}, {channels} channels"
        try:
            expected = operation.size(size)
        except NotApplicable:
            with pytest.raises(NotApplicable):
                operation.apply(image)
            continue
        result = operation.apply(image).image
        assert isinstance(result, Image), what
        assert result.size == expected, what
        assert result.pixels.dtype in (image.pixels.dtype, np.uint8), what
        assert np.array_equal(image.pixels, before), what
        if result.pixels.dtype == np.float32:
            assert np.isfinite(result.pixels).all(), what
            assert result.pixels.min() >= 0, what
            assert result.pixels.max() <= 1, what


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_the_resolved_steps_give_what_the_operation_gives(name: str) -> None:
    for operation, (size, dtype, channels) in itertools.product(variants(name), KINDS[::4]):
        image = picture(size, dtype, channels)
        try:
            steps = operation.resolve(size)
            whole = operation.apply(image).image
        except NotApplicable:
            continue
        result = image
        for step in steps:
            result = step.apply(result).image
        assert np.array_equal(result.pixels, whole.pixels)


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_facts_are_of_the_known_kinds_and_positive(name: str) -> None:
    for operation in variants(name):
        facts = operation.facts()
        assert facts.kind in get_args(Kind)
        assert facts.tier in get_args(Tier)
        assert facts.halo >= 0
        assert facts.ns_per_pixel > 0
        assert facts.memory_factor > 0


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_an_operation_never_asks_for_less_than_it_promises_to_give(name: str) -> None:
    full = Size(1200, 800)
    for operation in variants(name):
        need = operation.need(Need(), full)
        if need.least is not None:
            # What a fit pads needs no pixels.
            result = operation.scaled(full) if isinstance(operation, Resize) else operation.size(full)
            assert need.least.width >= min(result.width, full.width), operation
            assert need.least.height >= min(result.height, full.height), operation


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_a_need_for_luma_only_is_right_because_luma_first_gives_the_same(name: str) -> None:
    """Where an operation before `grayscale` says that luma is enough, both orders must agree up to rounding."""
    grayscale = operation_named("grayscale")()
    # Samples near white and black, where clipping shows.
    image = picture(Size(64, 48), np.uint8, 3, seed=3)
    for operation in variants(name):
        if operation.need(grayscale.need(Need(), image.size), image.size).color:
            continue
        try:
            after = grayscale.apply(operation.apply(image).image).image.pixels
        except NotApplicable:
            continue
        first = operation.apply(grayscale.apply(image).image).image.pixels
        difference = np.abs(after.astype(int) - first.astype(int))
        # Cubic and Lanczos kernels overshoot on noise, and are then clipped.
        assert difference.mean() < 2.5, operation


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_alpha_is_kept_or_used_but_opaque_pictures_stay_opaque(name: str) -> None:
    image = picture(Size(40, 30), np.uint8, 4)
    image.pixels[..., 3] = 255
    for operation in variants(name):
        try:
            result = operation.apply(image).image
        except NotApplicable:
            continue
        if result.has_alpha:
            assert result.pixels[..., 3].min() == 255, operation


@pytest.mark.parametrize("name", sorted(OPERATIONS))
def test_every_parameter_has_a_description_and_a_schema_that_pages_can_show(name: str) -> None:
    operation = operation_named(name)
    assert operation.summary
    assert not operation.summary.endswith(".")
    assert operation.__doc__
    for key, schema in operation.model_json_schema().get("properties", {}).items():
        assert schema.get("description"), f"{name}.{key} has no description"
        assert schema.get("title"), f"{name}.{key} has no title"
        assert schema["description"][-1] not in ".,", f"{name}.{key}: a description is no sentence"
        assert {"type", "enum", "anyOf", "const"} & set(schema), f"{name}.{key} has no type"
