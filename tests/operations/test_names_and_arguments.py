"""Errors name the operation, the parameter, its range, and the nearest known name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pixelmill.errors import InvalidParameter, UnknownOperation
from pixelmill.operations.arguments import build
from pixelmill.operations.reference import reference
from pixelmill.operations.table import TABLE, all_operations, operation_named

DOCS = Path(__file__).parent.parent.parent / "docs"


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("resiz", "resize"),
        ("greyscale", "grayscale"),
        ("gausian", "gaussian"),
        ("Canny", "canny"),
        ("sharp", "sharpen"),
    ],
)
def test_an_unknown_operation_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownOperation, match=nearest) as caught:
        operation_named(name)
    assert caught.value.context["nearest"][0] == nearest


def test_a_name_like_none_suggests_none() -> None:
    with pytest.raises(UnknownOperation, match="pixelmill operations"):
        operation_named("qqqqqqqq" * 1000)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("resize", {"width": 0}, ["resize", "width=0", "from 1 to 65,535 (pixels)"]),
        ("resize", {"width": "256"}, ["width='256'", "whole number"]),
        ("resize", {"width": True}, ["width=True", "whole number"]),
        ("resize", {"width": 2.5}, ["width=2.5", "whole number"]),
        ("resize", {"widht": 5}, ["no parameter 'widht'", "Did you mean width", "interpolation"]),
        ("resize", {"width": 5, "fit": "cver"}, ["fit='cver'", "contain, cover, fill", "Did you mean cover?"]),
        ("resize", {}, ["width", "height", "at least one"]),
        ("crop", {"x": 1, "y": 1, "width": 4}, ["crop", "height is missing", "from 1 to"]),
        ("gaussian", {"sigma": float("nan")}, ["sigma=nan", "from 0.1 to 100 (pixels)"]),
        ("gaussian", {"sigma": float("inf")}, ["sigma=inf"]),
        ("rotate", {"angle": 5, "background": "red"}, ["background='red'", "hex RRGGBB"]),
        ("canny", {"low": 9, "high": 3}, ["low=9 is above high=3"]),
        ("canny", {"aperture": 4}, ["aperture=4", "one of 3, 5, 7"]),
        ("watermark", {"image": ""}, ["image=''", "a path, a URI"]),
        ("watermark", {"image": "a\0b"}, ["image", "a path, a URI"]),
        ("watermark", {"image": "x" * 3000}, ["image", "..."]),
        ("watermark", {"image": "l.png", "scale": 0}, ["scale=0", "above 0, up to 1"]),
        ("convolve", {}, ["convolve: kernel is missing", "a list of 9 to 81 numbers"]),
        ("convolve", {"kernel": [1.0] * 10}, ["kernel of 10 weights", "9, 25, 49 or 81"]),
        ("convolve", {"kernel": [1.0] * 8}, ["kernel=", "a list of 9 to 81 numbers"]),
        ("convolve", {"kernel": [1.0] * 8 + [float("inf")]}, ["kernel", "a list of 9 to 81 numbers"]),
        ("convolve", {"kernel": ["x"] * 9}, ["kernel='x'", "a list of 9 to 81 numbers"]),
        ("invert", {"amount": 3}, ["invert has no parameter 'amount'", "It has none."]),
    ],
)
def test_a_bad_argument_names_operation_parameter_and_range(
    name: str, arguments: dict[str, Any], expected: list[str]
) -> None:
    with pytest.raises(InvalidParameter) as caught:
        build(operation_named(name), arguments, name, strict=True)
    for part in expected:
        assert part in str(caught.value)
    assert caught.value.context["operation"] == name
    assert "allowed" in caught.value.context
    assert len(str(caught.value)) < 500


def test_text_arguments_become_numbers_and_truth_values() -> None:
    resize = build(operation_named("resize"), {"width": "256", "enlarge": "true"}, "resize", strict=False)
    assert resize.model_dump()["width"] == 256
    assert resize.model_dump()["enlarge"] is True
    canny = build(operation_named("canny"), {"low": "1e2", "aperture": "5"}, "canny", strict=False)
    assert canny.model_dump()["low"] == 100.0
    assert canny.model_dump()["aperture"] == 5


def test_the_table_names_its_classes_rightly() -> None:
    assert [cls.name for cls in all_operations()] == list(TABLE)
    families: dict[str, set[str]] = {}
    for cls in all_operations():
        families.setdefault(TABLE[cls.name][0], set()).add(cls.family)
    assert all(len(family) == 1 for family in families.values()), "a file holds operations of one family"


def test_families_load_on_first_use() -> None:
    code = (
        "import sys; from pixelmill.operations.table import operation_named; operation_named('grayscale');"
        "print('pixelmill.operations.color' in sys.modules, 'pixelmill.operations.geometry' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "False"]


def test_the_reference_in_the_docs_is_up_to_date() -> None:
    assert (DOCS / "operations.md").read_text() == reference(), (
        "run: python -m pixelmill.operations.reference > docs/operations.md"
    )
