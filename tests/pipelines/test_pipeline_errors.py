"""What is wrong with a pipeline is said in words that help, and nothing but an error of ours ever comes out."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pixelmill.errors import InvalidParameter, PipelineError, PipelineSyntaxError, UnknownOperation
from pixelmill.operations.table import OPERATIONS
from pixelmill.pipelines.spec import Pipeline
from pixelmill.pipelines.text import MAX_STEPS, MAX_TEXT


@pytest.mark.parametrize(
    ("form", "kind", "words"),
    [
        ("resise:5", UnknownOperation, ["'resise'", "resize"]),
        ("GRAYSCALE", PipelineSyntaxError, ["character 1", "GRAYSCALE"]),
        ("resize:5/blurr", UnknownOperation, ["'blurr'"]),
        ("resize:0", InvalidParameter, ["resize", "width=0", "at least 1", "at most 65535", "px"]),
        ("resize:70000", InvalidParameter, ["resize", "width=70000", "at most 65535"]),
        ("resize:abc", InvalidParameter, ["resize", "width=abc", "whole number"]),
        ("resize:1:2", InvalidParameter, ["resize", "width=1:2", "whole number"]),
        ("resize", InvalidParameter, ["resize", "width, height"]),
        ("resize:5,5,fit=coverr", InvalidParameter, ["fit=coverr", "inside | contain | cover", "Did you mean cover?"]),
        ("resize:5,widht=4", InvalidParameter, ["resize", "'widht'", "Did you mean width"]),
        ("resize:5,width=4", InvalidParameter, ["resize has width twice"]),
        ("resize:1,2,3,4,5,6,7", InvalidParameter, ["resize has 7 arguments", "at most 6"]),
        ("invert:1", InvalidParameter, ["invert has 1 arguments", "none"]),
        ("gaussian", InvalidParameter, ["gaussian needs sigma", "at least 0.1", "at most 100", "px"]),
        ("gaussian:nan", InvalidParameter, ["gaussian", "sigma=nan"]),
        ("gaussian:1e999", InvalidParameter, ["gaussian", "sigma=1e999"]),
        ("rotate:5,background=red", InvalidParameter, ["rotate", "background=red"]),
        ("canny:300,200", InvalidParameter, ["canny", "low (300)", "high (200)"]),
        ("canny:aperture=4", InvalidParameter, ["aperture=4", "3 | 5 | 7"]),
        ("resize:name=3", InvalidParameter, ["resize", "'name'"]),
        ("resize:self=3", InvalidParameter, ["resize", "'self'"]),
        ("format:jpeg,name=3", InvalidParameter, ["format:jpeg", "'name'"]),
        ("format:jpeg,quality=0", InvalidParameter, ["format:jpeg", "quality=0", "at least 1", "at most 100"]),
        ("format:jpeg,subsampling=411", InvalidParameter, ["subsampling=411", "420 | 422 | 444"]),
        ("format:jpge", UnknownOperation, ["'jpge'", "jpeg"]),
        ("format", PipelineSyntaxError, ["format needs a name"]),
        ("format:png/resize:5", PipelineSyntaxError, ["format comes last", "resize"]),
        ("format:png/format:png", PipelineSyntaxError, ["has a format already"]),
        ("preset:small", UnknownOperation, ["preset", "not supported yet"]),
        ("", PipelineSyntaxError, ["empty"]),
        ("resize:5//invert", PipelineSyntaxError, ["character 10"]),
        ("resize:5, 6", PipelineSyntaxError, ["character 10", "' '", "~20"]),
        ("resize:5,é", PipelineSyntaxError, ["'é'", "~C3~A9"]),
        ("watermark:~FF", PipelineSyntaxError, ["UTF-8"]),
        ("watermark:~C", PipelineSyntaxError, ["'~'"]),
        ("resize:fit=fill,5", PipelineSyntaxError, ["'5'", "without a name"]),
        ("resize:,", PipelineSyntaxError, ["a value is missing"]),
        ("resize:width=5,width=6", PipelineSyntaxError, ["width twice"]),
        ("{", PipelineSyntaxError, ["not JSON"]),
        ('{"steps": []}', PipelineSyntaxError, ['"operations"']),
        ('{"operations": {}}', PipelineSyntaxError, ['"operations" is a list']),
        ('{"operations": [5]}', PipelineSyntaxError, ["Operation 1"]),
        ('{"operations": [{"name": "invert"}, {"width": 5}]}', PipelineSyntaxError, ["Operation 2"]),
        ('{"output": {"quality": 5}}', PipelineSyntaxError, ['"output"']),
        ('{"operations": [{"name": "gaussian", "sigma": NaN}]}', InvalidParameter, ["sigma=nan"]),
        ('{"operations": [{"name": "gaussian", "sigma": 1e999}]}', InvalidParameter, ["sigma=inf"]),
        ('{"operations": [{"name": "gaussian", "sigma": true}]}', InvalidParameter, ["sigma=True", "a number"]),
        ('{"operations": [{"name": "canny", "aperture": [3]}]}', InvalidParameter, ["aperture=[3]"]),
        ('{"operations": [{"name": "watermark", "image": "\\ud800"}]}', InvalidParameter, ["watermark", "\\ud800"]),
        ('{"operations": [{"name": "watermark", "image": ""}]}', InvalidParameter, ["at least 1 characters"]),
        ('{"operations": [{"name": "invert", "self": 1}]}', InvalidParameter, ["invert", "'self'"]),
    ],
)
def test_an_error_names_what_is_wrong_and_what_would_be_right(
    form: str, kind: type[PipelineError], words: list[str]
) -> None:
    with pytest.raises(kind) as caught:
        Pipeline.parse(form)
    for word in words:
        assert word in caught.value.detail
    json.dumps(caught.value.context)
    caught.value.detail.encode("utf-8")


def test_errors_of_the_text_form_know_their_position_and_those_of_json_their_step() -> None:
    for form, position in {"invert/resize:0": 7, "invert/nope": 7, "invert/flip:x y": 13, "flip/crop:1": 5}.items():
        with pytest.raises(PipelineError) as caught:
            Pipeline.parse(form)
        assert caught.value.context["position"] == position
    with pytest.raises(InvalidParameter) as wrong:
        Pipeline.parse({"operations": [{"name": "invert"}, {"name": "resize", "width": 0}]})
    assert wrong.value.context["step"] == 2
    assert wrong.value.context["operation"] == "resize"
    assert wrong.value.context["parameter"] == "width"
    assert "at least 1" in wrong.value.context["allowed"]


def test_the_bounds_on_steps_and_characters_hold_in_every_form() -> None:
    most = "/".join(["invert"] * MAX_STEPS)
    assert len(Pipeline.parse(most).operations) == MAX_STEPS
    with pytest.raises(PipelineSyntaxError, match="65 steps; the limit is 64"):
        Pipeline.parse(most + "/invert")
    with pytest.raises(PipelineSyntaxError, match="at most 64"):
        Pipeline.parse({"operations": [{"name": "invert"}] * 65})
    with pytest.raises(PipelineSyntaxError, match="at most 64"):
        Pipeline.parse(most).invert()
    for long in ("invert/" * MAX_TEXT, '{"operations":' + " " * MAX_TEXT + "[]}"):
        with pytest.raises(PipelineSyntaxError, match=r"characters; the limit is 8,192"):
            Pipeline.parse(long)


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"operations":[', '{"operations":[{"name":"resize","width":'])
def test_deep_json_is_refused(opening: str) -> None:
    deep = "{" + '"operations":' + opening * ((MAX_TEXT - 20) // len(opening))
    with pytest.raises(PipelineSyntaxError):
        Pipeline.parse(deep)


def test_deep_and_huge_values_from_python_are_refused() -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    for value in (deep, 10**400, 10**5000, -(10**400), float("nan"), float("inf"), "9" * 5000, b"\xff", object(), {}):
        for name, key in (("resize", "width"), ("gaussian", "sigma"), ("watermark", "image"), ("flip", "direction")):
            if name == "watermark" and value == "9" * 5000:
                value = "9" * 1025  # noqa: PLW2901
            with pytest.raises(InvalidParameter) as caught:
                Pipeline().then(name, **{key: value})
            assert len(caught.value.detail) < 500
            with pytest.raises(InvalidParameter):
                Pipeline.parse({"operations": [{"name": name, key: value}]})


def test_an_unknown_method_names_the_nearest_operation() -> None:
    with pytest.raises(AttributeError, match="resize"):
        Pipeline().resise(5)


NAMES = sorted([*OPERATIONS, "format", "preset", "frame", "nope"])
PIECES = st.sampled_from([*NAMES, "/", ":", ",", "=", "~", "~41", "~FF", "1", "-5", "1e9", "{", "width", "sigma", " "])


@given(st.text(max_size=60) | st.lists(PIECES, max_size=20).map("".join))
@example("resize:~ED~A0~80")
@example("watermark:~00")
@example("\ud800")
@example("resize:\ud800")
@example('{"operations":[{"name":"\\ud800"}]}')
@example('{"output":{"format":"\\ud800"}}')
def test_arbitrary_text_never_raises_anything_but_a_pipeline_error(text: str) -> None:
    with contextlib.suppress(PipelineError):
        Pipeline.parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(NAMES),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
STEPS = st.dictionaries(
    st.sampled_from(["name", "width", "height", "sigma", "image", "fit", "aperture", "low", "background", "amount"]),
    JSON,
    max_size=4,
)


@given(
    st.fixed_dictionaries(
        {"operations": st.lists(st.tuples(st.sampled_from(NAMES), STEPS), max_size=3), "output": JSON}
    )
)
def test_arbitrary_json_never_raises_anything_but_a_pipeline_error(record: dict[str, Any]) -> None:
    form = {**record, "operations": [{**step, "name": name} for name, step in record["operations"]]}
    for variant in (form, record):
        with contextlib.suppress(PipelineError):
            Pipeline.parse(variant)
    with contextlib.suppress(PipelineError):
        Pipeline.parse(json.dumps(form))
