"""Text, JSON and Python forms are inverse of each other; one hash; errors say where and what."""

from __future__ import annotations

import contextlib
import copy
import json
import pickle
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_pipelines import pipelines

from pixelmill import Pipeline
from pixelmill.errors import (
    InvalidParameter,
    PipelineError,
    PipelineSyntaxError,
    UnknownOperation,
    error_from_dict,
    error_to_dict,
)
from pixelmill.images.image import Image
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.table import TABLE
from pixelmill.pipelines import text as grammar
from pixelmill.pipelines.text import TextArgument, TextStep

# -- laws ----------------------------------------------------------------------------------------------------------


@given(pipelines())
def test_every_form_reads_back_as_the_same_pipeline(pipeline: Pipeline) -> None:
    for form in (pipeline.to_text(), pipeline.to_json(), pipeline.to_dict(), json.loads(pipeline.to_json())):
        back = Pipeline.parse(form)
        assert back == pipeline
        assert hash(back) == hash(pipeline)
        assert back.hash == pipeline.hash
        assert back.to_text() == pipeline.to_text()
        assert back.to_json() == pipeline.to_json()
    assert pickle.loads(pickle.dumps(pipeline)) == pipeline


@given(pipelines())
def test_the_text_form_is_safe_in_shells_and_url_paths(pipeline: Pipeline) -> None:
    assert re.fullmatch(r"[A-Za-z0-9._~/:,=-]*", str(pipeline))


@given(pipelines(), pipelines())
def test_different_pipelines_have_different_forms_and_hashes(left: Pipeline, right: Pipeline) -> None:
    assert (left == right) == (left.to_text() == right.to_text())
    assert (left == right) == (left.to_json() == right.to_json())
    assert (left == right) == (left.hash == right.hash)


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
GRAMMAR_ARGUMENTS = st.builds(
    TextArgument, st.lists(WORDS, min_size=1, max_size=3).map(tuple), st.none() | NAMES
).filter(lambda argument: argument.name is not None or argument.elements != ("",))
GRAMMAR_STEPS = st.builds(TextStep, NAMES, st.lists(GRAMMAR_ARGUMENTS, max_size=4).map(tuple))


@given(st.lists(GRAMMAR_STEPS, max_size=5).map(tuple))
def test_the_grammar_reads_what_it_writes(steps: tuple[TextStep, ...]) -> None:
    back = tuple(
        TextStep(step.name, tuple(TextArgument(item.elements, item.name) for item in step.arguments))
        for step in grammar.read(grammar.write(steps))
    )
    assert back == steps


@given(st.text(max_size=60) | st.text("resizefmt:,/=~0123456789AFjpg.", max_size=60))
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        pipeline = Pipeline.parse(text)
    except PipelineError:
        return  # and no other exception
    assert Pipeline.parse(pipeline.to_text()) == pipeline


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["operations", "output", "name", "format", "resize", "width", "x"]), inner)
    ),
    max_leaves=12,
)


@given(JSON)
def test_any_json_is_read_or_refused_by_name(value: Any) -> None:
    if not isinstance(value, dict):
        return
    for form in (value, json.dumps(value)):
        with contextlib.suppress(PipelineError):
            pipeline = Pipeline.parse(form)
            assert Pipeline.parse(pipeline.to_json()) == pipeline


# -- canonical forms and pinned hashes -----------------------------------------------------------------------------

PINNED = {
    "": ('{"operations":[]}', "c6c071131317f7be6f5270b85e05c6afffb0c3324f73b018cb4c74a292b72551"),
    "grayscale/resize:256,256,fit=fill/format:jpeg,quality=90": (
        (
            '{"operations":[{"name":"grayscale"},{"name":"resize","width":256,"height":256,"fit":"fill"}],'
            '"output":{"format":"jpeg","quality":90}}'
        ),
        "bbd234e3719e26fc6d779a8127312f89cf5b8898d106852bfb3366993951675c",
    ),
    "gaussian:2/watermark:sha256~3Aab12,opacity=0.25/format:png": (
        (
            '{"operations":[{"name":"gaussian","sigma":2},{"name":"watermark","image":"sha256:ab12","opacity":0.25}],'
            '"output":{"format":"png"}}'
        ),
        "5ef9a608d18d4663e089aec2fc3a867ef360f0c27e01f33a6ac710a79ba1f467",
    ),
    "sketch:fast/rotate:-12.5,background=ff880080": (
        '{"operations":[{"name":"sketch","denoise":"fast"},{"name":"rotate","angle":-12.5,"background":"ff880080"}]}',
        "227e0e567bd1413bb62d7ab99040a5c4d56dd699f0b27fc1868846cd3bf96546",
    ),
}


@pytest.mark.parametrize("text", PINNED)
def test_canonical_forms_and_hashes_never_change(text: str) -> None:
    pipeline = Pipeline.parse(text)
    assert pipeline.to_text() == text
    assert pipeline.to_json() == PINNED[text][0]
    assert pipeline.hash == PINNED[text][1]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("resize:256,256", "resize:height=256,width=256"),
        ("resize:256", "resize:256,fit=contain,enlarge=false"),
        ("resize:256,256,fill", "resize:256,256,fit=fill"),
        ("format:jpg", "format:jpeg,quality=80"),
        ("format:jpeg,70", "format:jpeg,quality=70"),
        ("format:jpeg,background=FFF", "format:jpeg"),
        ("rotate:9e1", "rotate:90.0"),
        ("rotate:5,background=F80", "rotate:5,background=ff8800"),
        ("watermark:a~2fb", "watermark:a~2Fb"),
        ("  grayscale\n", "grayscale"),
        ("brightness:-0.0", "brightness:0"),
        ('{"operations": [{"width": 5, "name": "resize"}], "output": {"format": null}}', "resize:5"),
        ('{"output": null}', ""),
        ("{}", ""),
    ],
)
def test_spellings_of_the_same_pipeline_are_equal(one: str, other: str) -> None:
    assert Pipeline.parse(one) == Pipeline.parse(other)
    assert Pipeline.parse(one).hash == Pipeline.parse(other).hash
    assert Pipeline.parse(one).to_json() == Pipeline.parse(other).to_json()


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_examples_of_the_docs_are_canonical(name: str) -> None:
    text, parameters = EXAMPLES[name]
    assert Pipeline.parse(text).to_text() == text
    assert Pipeline.parse(text) == Pipeline().then(name, **parameters)


# -- Python form ---------------------------------------------------------------------------------------------------


def test_the_builder_writes_the_same_pipeline() -> None:
    built = Pipeline().grayscale().resize(256, 256, fit="fill").format("jpeg", quality=80)
    assert built == Pipeline.parse("grayscale/resize:256,256,fit=fill/format:jpeg,quality=80")
    assert built.format("png").to_text() == "grayscale/resize:256,256,fit=fill/format:png"
    assert repr(built) == "Pipeline.parse('grayscale/resize:256,256,fit=fill/format:jpeg')"
    assert eval(repr(built)) == built
    assert copy.deepcopy(built) == built


def test_the_builder_knows_its_operations() -> None:
    assert set(TABLE) <= set(dir(Pipeline()))
    with pytest.raises(AttributeError, match="Did you mean grayscale"):
        Pipeline().greyscale()
    assert not hasattr(Pipeline(), "__array__")
    with pytest.raises(InvalidParameter, match=r"too many arguments.*at most 1: sigma"):
        Pipeline().gaussian(1, 2)
    with pytest.raises(InvalidParameter, match="width is given twice"):
        Pipeline().resize(5, width=6)
    with pytest.raises(InvalidParameter, match=r"no parameter 'qualty'.*quality"):
        Pipeline().format("jpeg", qualty=3)
    with pytest.raises(UnknownOperation, match="jpeg"):
        Pipeline().format("jpgg")


def test_a_pipeline_is_a_frozen_value() -> None:
    pipeline = Pipeline.parse("invert")
    with pytest.raises(AttributeError):
        pipeline.operations = ()  # type: ignore[misc] # the test is that it can't be
    assert Pipeline.parse(pipeline) is pipeline
    assert {pipeline: 1}[Pipeline().invert()] == 1


def test_image_parameters_are_listed_and_replaced() -> None:
    pipeline = Pipeline.parse("watermark:a.png/invert/watermark:b.png/watermark:a.png")
    assert pipeline.images() == ("a.png", "b.png")
    moved = pipeline.with_images({"a.png": "sha256:11"})
    assert moved.to_text() == "watermark:sha256~3A11/invert/watermark:b.png/watermark:sha256~3A11"
    assert moved.hash != pipeline.hash
    loaded = pipeline.with_images({"a.png": Image(np.zeros((2, 2), np.uint8))})
    assert loaded.images() == ("b.png",)
    with pytest.raises(InvalidParameter, match="holds pixels"):
        loaded.to_json()
    assert "Pipeline(operations=" in repr(loaded)


# -- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "kind", "expected"),
    [
        ("resiz:256", UnknownOperation, ["Step 1 (character 1)", "'resiz'", "Did you mean resize"]),
        (
            "grayscale/resize:0",
            InvalidParameter,
            ["Step 2 (character 11)", "resize", "width=0", "from 1 to 65,535 (pixels)"],
        ),
        ("resize:256,fit=cver", InvalidParameter, ["fit=cver", "contain, cover", "Did you mean cover?"]),
        ("resize:256,hieght=3", InvalidParameter, ["no parameter 'hieght'", "Did you mean height"]),
        ("resize:1,2,3,4,5,6,7", InvalidParameter, ["too many arguments", "at most 6"]),
        ("grayscale:1", InvalidParameter, ["takes no arguments"]),
        ("resize:5,width=6", InvalidParameter, ["width is given twice"]),
        ("resize:width=5,6", PipelineSyntaxError, ["without a name stands behind"]),
        ("resize:5:6", PipelineSyntaxError, ["width is no list", "~3A"]),
        ("a b", PipelineSyntaxError, ["At character 2", "~20"]),
        ("watermark:ü.png", PipelineSyntaxError, ["At character 11", "~C3~BC"]),
        ("watermark:~4", PipelineSyntaxError, ["two hex digits"]),
        ("watermark:~ff", PipelineSyntaxError, ["not UTF-8"]),
        ("watermark:~00", InvalidParameter, ["image"]),
        ("resize:5,", PipelineSyntaxError, ["At character 10", "an argument is expected", "the text ends"]),
        ("resize:", PipelineSyntaxError, ["an argument is expected"]),
        ("invert//invert", PipelineSyntaxError, ["At character 8", "name of a step"]),
        ("invert/", PipelineSyntaxError, ["the text ends"]),
        ("/invert", PipelineSyntaxError, ["At character 1"]),
        ("format:jpeg/invert", PipelineSyntaxError, ["Step 1", "format is the last step"]),
        ("format:jpeg/format:png", PipelineSyntaxError, ["format is the last step"]),
        ("format", InvalidParameter, ["jpeg, png, webp"]),
        ("invert/format:tga", UnknownOperation, ["Step 2", "'tga'"]),
        ("format:jpeg,quality=101", InvalidParameter, ["quality=101", "from 1 to 100"]),
        ("format:png,quality=5", InvalidParameter, ["format:png has no parameter 'quality'", "compression"]),
        ("invert/frame:0", PipelineSyntaxError, ["Step 2", "frame is the first step"]),
        ("frame:0/frame:1", PipelineSyntaxError, ["Step 2", "frame is the first step"]),
        ("frame/invert", InvalidParameter, ["Step 1", "which frame", "frame:0"]),
        ("frame:-1/invert", InvalidParameter, ["Step 1", "frame=-1", "from 0 to 65,535"]),
        ("metadata:keep/invert", PipelineSyntaxError, ["Step 1", "metadata stands at the end"]),
        ("metadata:keep/metadata:keep", PipelineSyntaxError, ["Step 1", "one at most"]),
        ("invert/metadata:kep", InvalidParameter, ["Step 2", "Did you mean keep"]),
        ('{"source": {"frme": 1}}', InvalidParameter, ["frme", "frame"]),
        ("x" * 9000, PipelineSyntaxError, ["9,000 characters", "8,192"]),
        ("/".join(["invert"] * 65), PipelineError, ["65 operations", "at most 64"]),
        ("{", PipelineSyntaxError, ["JSON", "line 1"]),
        ('{"operations": 5}', PipelineSyntaxError, ["must be a list"]),
        ('{"operations": "invert"}', PipelineSyntaxError, ["must be a list"]),
        ('{"operations": [5]}', PipelineSyntaxError, ["Step 1", "must be an object"]),
        ('{"operations": [{"width": 3}]}', PipelineSyntaxError, ["Step 1", '"name"']),
        ('{"operation": []}', PipelineSyntaxError, ["no key 'operation'", "Did you mean operations"]),
        ('{"operations": [{"name": "resize", "width": "3"}]}', InvalidParameter, ["width='3'", "whole number"]),
        ('{"operations": [{"name": "gaussian", "sigma": NaN}]}', PipelineSyntaxError, ["NaN"]),
        ('{"operations": [{"name": "gaussian", "sigma": 1e999}]}', InvalidParameter, ["sigma=inf"]),
        ('{"operations": [], "operations": []}', PipelineSyntaxError, ["twice"]),
        ('{"output": {"quality": 5}}', InvalidParameter, ["quality needs a format"]),
        ('{"output": {"format": 5}}', PipelineSyntaxError, ["as text"]),
        ('{"output": []}', PipelineSyntaxError, ["must be an object"]),
        ('{"a":' * 30_000, PipelineSyntaxError, ["150,000 characters"]),
        ('{"a":' * 12_000 + "1" + "}" * 12_000, PipelineSyntaxError, []),
        ('{"operations": [{"name": "resize", "width": ' + "9" * 5000 + "}]}", PipelineSyntaxError, ["JSON"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else None,
)
def test_errors_say_where_and_what(form: str, kind: type[PipelineError], expected: list[str]) -> None:
    with pytest.raises(PipelineError) as caught:
        Pipeline.parse(form)
    assert type(caught.value) is kind
    for part in expected:
        assert part in str(caught.value)
    assert len(str(caught.value)) < 600
    json.dumps(error_to_dict(caught.value))
    assert str(error_from_dict(error_to_dict(caught.value))) == str(caught.value)


@pytest.mark.parametrize("form", [None, 5, b"invert", ["invert"]])
def test_what_is_no_form_is_refused(form: Any) -> None:
    with pytest.raises(PipelineSyntaxError, match="text, JSON or an object"):
        Pipeline.parse(form)


def test_a_pipeline_too_long_for_text_says_so() -> None:
    pipeline = Pipeline()
    for index in range(10):
        pipeline = pipeline.watermark(f"{index}" + "x" * 1000)
    with pytest.raises(PipelineError, match="JSON form"):
        pipeline.to_text()
    assert Pipeline.parse(pipeline.to_json()) == pipeline


def test_sixty_four_operations_are_the_most() -> None:
    longest = Pipeline.parse("/".join(["invert"] * 64) + "/format:png")
    with pytest.raises(PipelineError, match="at most 64"):
        longest.invert()
