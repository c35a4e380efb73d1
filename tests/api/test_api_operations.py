"""A form can be drawn for every operation from what the service tells of it; held against what the operation does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
from tiny_models import loaded

from pixelmill.api.operations import operation_body
from pixelmill.api.schemas import OperationBody, OperationList
from pixelmill.images.image import Image
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import TABLE, all_operations
from pixelmill.pipelines.spec import Pipeline

OPERATIONS = pytest.mark.parametrize("cls", all_operations(), ids=lambda cls: cls.name)
PARAMETERS = [
    (cls, name, described)
    for cls in all_operations()
    for name, described in operation_body(cls)["parameters"].get("properties", {}).items()
]
BY_TYPE: dict[str, Callable[[Any], bool]] = {
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
}


def photograph() -> Image:
    noise = np.random.default_rng(3).integers(0, 256, (12, 16, 3), np.uint8)
    return Image(cv2.resize(noise, (320, 240), interpolation=cv2.INTER_CUBIC))


def test_all_are_listed(client: httpx.Client) -> None:
    listed = OperationList.model_validate(client.get("/v1/operations").json()).items
    assert [item.name for item in listed] == list(TABLE)
    assert client.get("/v1/operations/resize").json() == operation_body(all_operations()[0])


@OPERATIONS
def test_an_operation_says_what_it_is(cls: type[Operation]) -> None:
    body = OperationBody.model_validate(operation_body(cls))
    assert body.family
    assert body.summary
    assert not body.summary.endswith(".")
    assert body.description
    assert Pipeline.parse(body.examples[0]).operations[0].name == cls.name
    assert body.parameters["type"] == "object"
    assert body.parameters["additionalProperties"] is False
    required = body.parameters.get("required", [])
    assert set(required) == {name for name, field in cls.model_fields.items() if field.is_required()}


@pytest.mark.parametrize(
    ("cls", "name", "described"), PARAMETERS, ids=[f"{cls.name}.{name}" for cls, name, _ in PARAMETERS]
)
def test_a_form_field_can_be_drawn(cls: type[Operation], name: str, described: dict[str, Any]) -> None:
    assert described["title"]
    assert described["description"]
    assert described["type"] in BY_TYPE, "one type, no alternatives and no references"
    assert not {"$ref", "anyOf", "oneOf", "allOf"} & described.keys()
    fits = BY_TYPE[described["type"]]
    field = cls.model_fields[name]
    assert ("default" in described) == (not field.is_required())
    if described.get("default") is not None:
        assert fits(described["default"])
        assert described["default"] in described.get("enum", [described["default"]])
    if "enum" in described:
        assert described["enum"]
        assert all(fits(choice) for choice in described["enum"])
    elif described["type"] in {"integer", "number"}:
        low = described.get("minimum", described.get("exclusiveMinimum"))
        high = described.get("maximum", described.get("exclusiveMaximum"))
        assert low is not None
        assert high is not None
        assert low < high
        assert low <= (described.get("default") or low) <= high
    elif described["type"] == "string":
        assert described.get("format") in {"color", "image", "font"} or described["maxLength"]
    elif described["type"] == "array":
        assert described["items"]["type"] in BY_TYPE
        assert 0 < described["minItems"] <= described["maxItems"]


@OPERATIONS
def test_colors_and_images_are_marked(cls: type[Operation]) -> None:
    properties = operation_body(cls)["parameters"].get("properties", {})
    for name in cls.model_fields:
        if properties[name]["type"] == "string" and ("color" in name or name in {"background", "outline"}):
            assert properties[name].get("format") == "color", name
        if name == "image":
            assert properties[name]["format"] == "image"
    required = operation_body(cls)["parameters"].get("required", [])
    marked = [name for name in required if properties[name].get("format") == "image"]
    given = Pipeline.parse(operation_body(cls)["examples"][0]).images()
    assert len(marked) == len(given)


@OPERATIONS
def test_the_output_is_what_the_example_gives(cls: type[Operation]) -> None:
    image = photograph()
    (operation,) = Pipeline.parse(operation_body(cls)["examples"][0]).operations
    operation = operation.with_images(dict.fromkeys(operation.images(), image))
    step = loaded(operation).apply(image)
    assert (step.data is not None) == (cls.output != "image")
    assert (operation.facts().kind == "analysis") == (cls.output == "data")
