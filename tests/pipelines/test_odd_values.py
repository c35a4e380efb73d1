"""Values that no form should hold: every one is refused by an error of ours, short and printable."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pixelmill.errors import InvalidParameter, PipelineError
from pixelmill.images.image import Image
from pixelmill.operations.composition import Watermark
from pixelmill.operations.turning import Rotate
from pixelmill.pipelines.spec import Pipeline


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


ODD = {
    "an integer no float can hold": 10**400,
    "an integer too long to print": 10**5000,
    "no number": float("nan"),
    "infinity": float("inf"),
    "half a character": "\ud800",
    "thousands of digits": "9" * 5000,
    "a list": [3],
    "nested deeper than the stack": nested(100_000),
    "a mapping": {},
    "bytes": b"\xff",
    "an object": object(),
}
PARAMETERS = [
    ("resize", "width"),
    ("gaussian", "sigma"),
    ("watermark", "image"),
    ("flip", "direction"),
    ("canny", "aperture"),
    ("rotate", "background"),
    ("convolve", "kernel"),
]


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize(("name", "parameter"), PARAMETERS)
def test_an_odd_value_is_refused_by_name(name: str, parameter: str, value: Any) -> None:
    for write in (
        lambda: Pipeline.parse({"operations": [{"name": name, parameter: value}]}),
        lambda: getattr(Pipeline(), name)(**{parameter: value}),
    ):
        with pytest.raises(InvalidParameter) as caught:
            write()
        assert name in caught.value.detail
        assert len(caught.value.detail) < 500
        caught.value.detail.encode("utf-8")
        json.dumps(caught.value.context)


@pytest.mark.parametrize("value", ["5", "true", "null", "[1]", '{"a": 1}', "1e999", "NaN"])
def test_an_image_that_is_no_text_is_refused_in_json(value: str) -> None:
    with pytest.raises(PipelineError):
        Pipeline.parse('{"operations": [{"name": "watermark", "image": ' + value + "}]}")


def test_a_profile_of_gray_does_not_stay_with_colors() -> None:
    gray = Image(np.zeros((20, 30), np.uint16), icc=b"a profile of gray")
    red = Image(np.full((4, 4, 3), (200, 0, 0), np.uint8))
    colored = [Rotate(angle=45, background="ff0000"), Watermark(image="m").with_images({"m": red})]
    for operation in colored:
        result = operation.apply(gray).image
        assert result.channels == 3
        assert result.icc is None
    assert Rotate(angle=45).apply(gray).image.icc == gray.icc
