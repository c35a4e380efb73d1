"""Text, JSON and Python forms are inverses of each other, and equal pipelines have one hash, for ever."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from pixelmill.images.encoders import OPTIONS
from pixelmill.operations.operation import Operation
from pixelmill.operations.table import all_operations
from pixelmill.pipelines.spec import Output, Pipeline

COLORS = st.sampled_from(["000000", "123456", "fff", "1e3", "0e00000f", "ABCDEF", "1234"])
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20) | st.sampled_from(
    ["logo.png", "/a b/ü~:,=/é.png", "sha256:00ff", "null", "true", "-1", "1e5", "{", "~", "%2F", "\n"]
)


def values(schema: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    """Valid and invalid values alike, from a parameter's JSON schema; the model sorts out the latter."""
    if "anyOf" in schema:
        return st.one_of([values(variant) for variant in schema["anyOf"]])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    low: Any = schema.get("minimum")
    high: Any = schema.get("maximum")
    match schema["type"]:
        case "null":
            return st.none()
        case "boolean":
            return st.booleans()
        case "integer":
            return st.integers(low, high)
        case "number":
            odd = [x for x in (1e-07, -1e-07, 0.1 + 0.2, -0.0, -1.5, 1e-300) if low <= x <= high]
            return st.floats(low, high) | st.sampled_from([float(low), float(high), *odd])
        case "string" if schema.get("format") == "color" or "pattern" in schema:
            return COLORS
        case "string":
            return TEXTS
    raise AssertionError(f"no strategy for {schema}")


@st.composite
def models(draw: st.DrawFn, model: type[BaseModel]) -> BaseModel:
    chosen = {}
    for key, schema in model.model_json_schema().get("properties", {}).items():
        if model.model_fields[key].is_required() or draw(st.booleans()):
            chosen[key] = draw(values(schema))
    try:
        return model.model_validate(chosen)
    except ValidationError:
        return draw(st.nothing())  # low above high, a color that does not fit: try again


@st.composite
def pipelines(draw: st.DrawFn) -> Pipeline:
    classes = st.sampled_from(all_operations())
    operations: list[Any] = draw(st.lists(classes.flatmap(models), max_size=5))
    without_output: bool = draw(st.booleans())
    if operations and without_output:
        return Pipeline(tuple(operations))
    name: str = draw(st.sampled_from(sorted(OPTIONS)))
    return Pipeline(tuple(operations), Output(name, draw(models(OPTIONS[name]))))


@given(pipelines())
def test_the_text_form_inverts_and_is_safe_in_shells_and_urls(pipeline: Pipeline) -> None:
    text = pipeline.to_text()
    assert re.fullmatch(r"[A-Za-z0-9._~:,=/-]+", text)
    parsed = Pipeline.parse(text)
    assert parsed == pipeline
    assert parsed.to_text() == text
    assert parsed.hash == pipeline.hash


@given(pipelines())
def test_the_json_form_inverts(pipeline: Pipeline) -> None:
    for form in (pipeline.to_json(), pipeline.to_dict(), json.loads(pipeline.to_json())):
        parsed = Pipeline.parse(form)
        assert parsed == pipeline
        assert parsed.to_json() == pipeline.to_json()
        assert parsed.hash == pipeline.hash


@given(pipelines())
def test_the_python_form_builds_the_same(pipeline: Pipeline) -> None:
    built = Pipeline()
    for operation in pipeline.operations:
        built = getattr(built, operation.name)(**operation.model_dump(exclude_none=True))
    if pipeline.output.format is not None:
        assert pipeline.output.options is not None
        built = built.format(pipeline.output.format, **pipeline.output.options.model_dump())
    assert built == pipeline
    assert built.hash == pipeline.hash


@given(pipelines(), pipelines())
def test_hashes_are_equal_exactly_where_pipelines_are(one: Pipeline, other: Pipeline) -> None:
    assert (one == other) == (one.hash == other.hash)
    assert one != other or hash(one) == hash(other)


def test_equal_values_written_differently_have_one_hash() -> None:
    groups = [
        ["rotate:0", "rotate:-0.0", "rotate:0.0", "rotate:angle=0", '{"operations":[{"name":"rotate","angle":0}]}'],
        ["resize:256,256", "resize:height=256,width=256", "resize:256,256,fit=inside", "resize:256.0,256,inside"],
        ["format:jpeg", "format:jpg", "format:jpeg,80", '{"output":{"format":"jpeg","quality":80}}'],
        ["rotate:5,background=ABC", "rotate:5,background=abc", "rotate:5,background=~23abc"],
        ["canny:100,200,aperture=5", '{"operations":[{"name":"canny","aperture":5,"low":null}]}'],
    ]
    for forms in groups:
        assert len({Pipeline.parse(form).hash for form in forms}) == 1, forms
        assert len({Pipeline.parse(form) for form in forms}) == 1, forms


# SHA-256 of the canonical JSON: jobs, caches and logs of other versions hold these.
PINNED = {
    "grayscale/resize:256,256,fit=fill/format:jpeg": (
        "3489285a85e0fce0e78c5494621d210531d79532658a98f5a2c015ee1ec3c21b"
    ),
    "resize:512,512/format:webp,quality=70": "11a7f22de206b78b936243d9c074ddb007e78a324fc34bc9b5ac2bfea0da0f94",
    "sketch:denoise=fast": "9e96aa1afc1e5cbe118c2df58eac6f2a30050c632e2da8be319c01e85d2bd1e4",
    "rotate:-12.5,background=000000/format:png,compression=9": (
        "53af671da2fa5f7cf0deef9a298736a0cc51cd3ea3a79c37f7fb51b231a029fb"
    ),
    "brightness:1e-07/contrast:1.5/gamma:2.2/invert": (
        "6641e1128696a6467df4a1e12c29ab0c2874b28dd427179f96480574ed8781cd"
    ),
    "watermark:~2Flogos~2F~C3~BC.png,position=top,opacity=0.25": (
        "4cb11dbdb56023bad865a45b4a3800fa3368772ace71dc69f565078ebce0b6dd"
    ),
    "flip": "68c24489c9d71b996d223071e6339f6ced923a643e312b218e96112c7a0d1be6",
    "canny:50,150,aperture=5,l2=true": "932df7251f010848151714be07fd39849a47c1a0c965f44cd5884a314acdebae",
    "crop:1,2,3,4/gaussian:0.7/sharpen:2": "b7b9f9cd375c0d781ec0c09e2533c65c587451e51733ec872d3046a55e1d0052",
}


@pytest.mark.parametrize(("text", "expected"), PINNED.items())
def test_hashes_do_not_change_from_version_to_version(text: str, expected: str) -> None:
    assert Pipeline.parse(text).hash == expected
    assert Pipeline.parse(text).to_text() == text


def test_defaults_are_left_out_and_positional_arguments_come_first() -> None:
    pipeline = Pipeline().resize(256, 256, fit="fill").canny(low=100, high=250).format("jpeg", quality=81)
    assert pipeline.to_text() == "resize:256,256,fit=fill/canny:high=250/format:jpeg,quality=81"
    assert str(pipeline) == pipeline.to_text()
    assert pipeline.to_json() == (
        '{"operations":[{"fit":"fill","height":256,"name":"resize","width":256},{"high":250.0,"name":"canny"}],'
        '"output":{"format":"jpeg","quality":81}}'
    )


def test_a_path_is_written_with_every_odd_character_escaped() -> None:
    pipeline = Pipeline().watermark("/my logos/ü,1:2~.png")
    assert pipeline.to_text() == "watermark:~2Fmy~20logos~2F~C3~BC~2C1~3A2~7E.png"


@pytest.mark.parametrize("operation", all_operations(), ids=lambda operation: operation.name)
def test_every_operation_is_a_method_of_pipeline(operation: type[Operation]) -> None:
    assert operation.name in dir(Pipeline())
    assert callable(getattr(Pipeline(), operation.name))


def test_pipelines_are_values_that_can_be_pickled_and_keep_their_hash() -> None:
    import pickle

    pipeline = Pipeline.parse("resize:10/format:png")
    assert pipeline.hash
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy == pipeline
    assert copy.hash == pipeline.hash


def test_adding_a_step_leaves_the_first_pipeline_as_it_was() -> None:
    first = Pipeline().resize(10)
    second = first.invert()
    assert [operation.name for operation in first.operations] == ["resize"]
    assert [operation.name for operation in second.operations] == ["resize", "invert"]
    assert first.hash != second.hash


def test_safe_characters_are_all_kept_as_they_are() -> None:
    name = string.ascii_letters + string.digits + "._-"
    assert Pipeline().watermark(name).to_text() == f"watermark:{name}"
