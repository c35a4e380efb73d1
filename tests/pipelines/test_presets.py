"""A preset is its steps: expanded where it stands, in every form, and gone from what results."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill import Pipeline
from pixelmill.errors import InvalidParameter, PipelineError, PipelineSyntaxError, UnknownOperation
from pixelmill.images.extras import LIBRARIES
from pixelmill.images.image import ImageInfo, Size
from pixelmill.operations.table import TABLE
from pixelmill.pipelines import text as grammar
from pixelmill.pipelines.lacks import described, lacks_of
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.presets import BUILT_IN, MAX_DEPTH, MAX_PRESETS, Preset, Presets

MINE = BUILT_IN.with_users(
    {
        "small": "resize:320/format:webp,quality=70",
        "kept": "metadata:keep",
        "bare": "metadata:strip",
        "second": "frame:1/grayscale",
        "both": "preset:small/preset:kept/invert",
        "thumbnail": "resize:9,9/format:png",
    }
)


def text(form: str, presets: Presets = MINE) -> str:
    return Pipeline.parse(form, presets=presets).to_text()


@pytest.mark.parametrize(
    ("form", "steps"),
    [
        ("preset:small", "resize:320/format:webp,quality=70"),
        ("grayscale/preset:small", "grayscale/resize:320/format:webp,quality=70"),
        ("preset:preset=small", "resize:320/format:webp,quality=70"),
        ("preset:small/invert", "resize:320/invert/format:webp,quality=70"),
        ("preset:small/format:png", "resize:320/format:png"),
        ("preset:small/format:webp", "resize:320/format:webp"),
        ("preset:small/preset:thumbnail", "resize:320/resize:9,9/format:png"),
        ("preset:both", "resize:320/invert/metadata:keep/format:webp,quality=70"),
        ("preset:kept/metadata:strip", ""),
        ("preset:kept/preset:bare", ""),
        ("preset:bare/preset:kept", "metadata:keep"),
        ("preset:kept/metadata:copyright", "metadata:copyright"),
        ("preset:second/invert", "frame:1/grayscale/invert"),
        ("preset:kept/preset:second", "frame:1/grayscale/metadata:keep"),
    ],
)
def test_a_preset_is_its_steps_where_it_stands(form: str, steps: str) -> None:
    assert text(form) == steps
    assert Pipeline.parse(form, presets=MINE).hash == Pipeline.parse(steps).hash


def test_the_forms_agree() -> None:
    record = {
        "source": {"frame": 2},
        "operations": [{"name": "grayscale"}, {"name": "preset", "preset": "both"}],
        "output": {"format": "png", "metadata": {"policy": "strip"}},
    }
    in_python = Pipeline().frame(2).grayscale().preset("both", presets=MINE).format("png").metadata("strip")
    in_text = Pipeline.parse("frame:2/grayscale/preset:both/metadata:strip/format:png", presets=MINE)
    assert Pipeline.parse(record, presets=MINE) == in_python == in_text
    assert Pipeline().format("png").preset("small", presets=MINE) == Pipeline.parse("preset:small", presets=MINE)
    assert Pipeline().preset("second", presets=MINE) == Pipeline.parse("preset:second", presets=MINE)


@pytest.mark.parametrize("preset", BUILT_IN.entries, ids=lambda preset: preset.name)
def test_every_built_in_preset_can_be_planned_or_says_what_it_lacks(preset: Preset) -> None:
    name = preset.name
    assert name not in TABLE or preset.form == name, "a preset of an operation's name is that operation"
    assert preset.title
    assert preset.summary
    if (record := described(preset, BUILT_IN))["pipeline"] == preset.form and not record["available"]:
        unknown = [step.name for step in grammar.read(preset.form) if step.name not in {*TABLE, "format"}]
        expected = [{"what": f"this version has no operation {step}", "command": None} for step in unknown]
        assert unknown
        assert record["missing"] == expected
        return
    info = ImageInfo("jpeg", "image/jpeg", Size(640, 480), Size(640, 480), "rgb", 8, False)
    planned = plan(Pipeline().preset(name), info)
    assert planned.target is not None or all(step.action.facts().kind == "analysis" for step in planned.steps)


@pytest.mark.parametrize(
    ("form", "error", "words"),
    [
        ("preset:thumnail", UnknownOperation, ["Did you mean thumbnail?", "pixelmill presets"]),
        ("grayscale/preset:nothing", UnknownOperation, ["Step 2 (character 11)"]),
        ("preset", InvalidParameter, ["one argument", "preset:thumbnail"]),
        ("preset:web,avatar", InvalidParameter, ["one argument"]),
        ("preset:web:avatar", InvalidParameter, ["one argument"]),
        ("preset:name=web", InvalidParameter, ["one argument"]),
        ("grayscale/preset:second", PipelineSyntaxError, ["must be the first step"]),
        ("frame:0/preset:second", PipelineSyntaxError, ["must be the first step"]),
        ("preset:second/preset:second", PipelineSyntaxError, ["must be the first step"]),
        ("format:png/preset:web", PipelineSyntaxError, ["format is the last step"]),
    ],
)
def test_refusals_say_what_to_do(form: str, error: type[PipelineError], words: list[str]) -> None:
    with pytest.raises(error) as raised:
        Pipeline.parse(form, presets=MINE)
    assert all(word in str(raised.value) for word in words), raised.value


@pytest.mark.parametrize("step", [{"name": "preset"}, {"name": "preset", "preset": 3}, {"name": "preset", "prset": ""}])
def test_json_presets_have_a_name(step: object) -> None:
    with pytest.raises(PipelineSyntaxError, match="Step 1"):
        Pipeline.parse({"operations": [step]})


def test_a_circle_is_refused_and_shown() -> None:
    circle = Presets().with_users({"a": "grayscale/preset:b", "b": "preset:c", "c": "preset:a", "d": "preset:a"})
    for name in "abcd":
        with pytest.raises(PipelineSyntaxError, match="holds itself"):
            Pipeline.parse(f"preset:{name}", presets=circle)
    with pytest.raises(PipelineSyntaxError, match="a → b → c → a"):
        Pipeline().preset("a", presets=circle)


def test_depth_and_length_are_bounded() -> None:
    chain = {f"p{index}": f"preset:p{index + 1}" for index in range(MAX_DEPTH)} | {f"p{MAX_DEPTH}": "invert"}
    for first in ("p1", "p0"):  # whatever was asked for before
        presets = Presets().with_users(chain)
        for name in (first, "p0", "p1"):
            if name == "p1":
                assert text("preset:p1", presets) == "invert"
            else:
                with pytest.raises(PipelineSyntaxError, match=f"p0 holds presets more than {MAX_DEPTH} deep"):
                    Pipeline.parse("preset:p0", presets=presets)
    wide = {f"p{index}": "/".join([f"preset:p{index + 1}"] * 60) for index in range(6)} | {"p6": "metadata:keep"}
    assert text("preset:p0", Presets().with_users(wide)) == "metadata:keep"  # 60 to the 6th, but each is read once
    with pytest.raises(PipelineError, match="at most 64"):
        Pipeline.parse("preset:p0", presets=Presets().with_users({**wide, "p6": "invert/invert"}))


def test_a_mistake_within_a_preset_names_the_preset() -> None:
    wrong = Presets().with_users({"outer": "invert/preset:inner", "inner": "grayscale/resize:zero"})
    with pytest.raises(InvalidParameter) as raised:
        Pipeline.parse("preset:outer", presets=wrong)
    assert "In the preset inner: Step 2 (character 11): resize: width=zero" in str(raised.value)
    assert raised.value.context["preset"] == "inner"


def test_the_same_text_means_what_its_presets_say() -> None:
    # The cache of parsed texts must not mix them.
    one, two = (Presets().with_users({"x": form}) for form in ("invert", "grayscale"))
    assert [text("preset:x", presets) for presets in (one, two, one, two)] == ["invert", "grayscale"] * 2
    with pytest.raises(UnknownOperation):
        Pipeline.parse("preset:x")
    assert text('{"operations": [{"name": "preset", "preset": "x"}]}', two) == "grayscale"
    escaped = '{"operations": [{"name": "\\u0070reset", "preset": "x"}]}'
    assert text(escaped, one) == "invert"


def test_a_users_preset_takes_the_place_of_a_built_in_one() -> None:
    assert text("preset:thumbnail") == "resize:9,9/format:png"
    assert [preset.name for preset in MINE].count("thumbnail") == 1


@given(st.text(max_size=50))
def test_names_are_checked(name: str) -> None:
    good = 0 < len(name) <= 41 and name[0] in "abcdefghijklmnopqrstuvwxyz" and name.isascii()
    good = good and all(c.islower() or c.isdigit() or c in "_-" for c in name)
    if good:
        assert Presets().with_users({name: "invert"}).named(name).form == "invert"
    else:
        with pytest.raises(PipelineError, match="can't be the name"):
            Presets().with_users({name: "invert"})


def test_there_are_not_too_many() -> None:
    with pytest.raises(PipelineError, match="at most"):
        Presets().with_users({f"p{index}": "invert" for index in range(MAX_PRESETS + 1)})


def test_a_preset_of_a_missing_operation_is_a_clear_error() -> None:
    later = Presets((Preset("later", "not_yet/format:png", built_in=True, title="Later"),))
    with pytest.raises(UnknownOperation, match=r"In the preset later: .*no operation 'not_yet'"):
        Pipeline.parse("preset:later", presets=later)


def test_a_preset_is_available_by_itself_once_its_operation_exists() -> None:
    later = Presets((Preset("later", "not_yet/format:png", built_in=True, title="Later"),))
    preset = later.named("later")
    record = described(preset, later)
    assert (record["available"], record["pipeline"], record["images"]) == (False, "not_yet/format:png", [])
    assert record["missing"] == [{"what": "this version has no operation not_yet", "command": None}]
    now = Presets((replace(preset, form="invert/format:png"),))
    assert described(now.named("later"), now)["available"]


def test_what_an_image_must_be_given_for_is_told() -> None:
    assert described(BUILT_IN.named("matching"), BUILT_IN)["images"] == ["second"]


def test_a_format_whose_extra_is_not_installed_is_lacked(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.parse("grayscale/format:jxl")
    monkeypatch.setitem(LIBRARIES, "jxl", "no_such_library")
    (lack,) = lacks_of(pipeline)
    assert lack.to_dict() == {"what": "writing jxl needs the extra jxl", "command": "pip install 'pixelmill[jxl]'"}
    assert lacks_of(Pipeline.parse("grayscale/format:png")) == ()
