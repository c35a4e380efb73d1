"""What the planner asks of the decoder, fuses, predicts and refuses."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixelmill import Pipeline
from pixelmill.errors import LimitExceeded, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import Image, ImageInfo, Need, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.operations.operation import Pointwise
from pixelmill.pipelines.plan import Fused, plan

INFO = ImageInfo("jpeg", "image/jpeg", Size(2040, 1536), Size(2040, 1536), "rgb")
WHOLE = Need()
WHOLE_LUMA = Need(color=False)


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("", WHOLE),
        ("grayscale", WHOLE_LUMA),
        ("grayscale/resize:256,256,fit=fill", Need(False, Size(295, 295))),
        ("resize:256,256,fit=fill/grayscale", Need(False, Size(295, 295))),
        ("resize:256", Need(True, Size(295, 222))),
        ("resize:256,256,fit=cover", Need(True, Size(391, 295))),
        ("resize:1900", WHOLE),
        ("resize:9000,enlarge=true", WHOLE),
        ("resize:256,interpolation=lanczos", WHOLE),
        ("resize:256,interpolation=nearest", WHOLE),
        ("flip:horizontal/resize:256", Need(True, Size(295, 222))),
        ("rotate:90/resize:256", Need(True, Size(391, 295))),
        ("rotate:45/resize:256", WHOLE),
        ("invert/resize:256", Need(True, Size(295, 222))),
        ("invert/grayscale", WHOLE_LUMA),
        ("brightness:0.1/resize:256", WHOLE),
        ("gamma:2/grayscale/resize:256", WHOLE),
        ("grayscale/gamma:2/resize:256", WHOLE_LUMA),
        ("gaussian:2/resize:256", WHOLE),
        ("gaussian:2/grayscale", WHOLE_LUMA),
        ("sharpen/grayscale", WHOLE),
        ("crop:0,0,500,500/resize:50", WHOLE),
        ("crop:0,0,500,500/grayscale", WHOLE_LUMA),
        ("canny", WHOLE_LUMA),
        ("resize:256/canny", Need(False, Size(295, 222))),
        ("sketch:none", WHOLE),
        ("grayscale/sketch:none", WHOLE_LUMA),
        ("sketch:none/resize:256", WHOLE),
        ("resize:256/watermark:a.png", Need(True, Size(295, 222))),
        ("watermark:a.png/resize:256", WHOLE),
        ("resize:1000/resize:100", WHOLE),
        ("resize:400/resize:100", Need(True, Size(460, 347))),
    ],
)
def test_the_need_is_pushed_down(text: str, need: Need) -> None:
    assert plan(Pipeline.parse(text), INFO).need == need


def test_mirrored_pictures_are_decoded_whole_where_a_reduced_one_would_be_off() -> None:
    odd = dataclasses.replace(INFO, size=Size(2043, 1536), stored_size=Size(2043, 1536))
    assert plan(Pipeline.parse("resize:256"), odd).need.least is not None
    assert plan(Pipeline.parse("flip:horizontal/resize:256"), odd).need.least is None
    assert plan(Pipeline.parse("flip:vertical/resize:256"), odd).need.least is not None
    assert plan(Pipeline.parse("rotate:90/resize:256"), odd).need.least is not None
    assert plan(Pipeline.parse("rotate:-90/resize:256"), odd).need.least is None
    for orientation, reduced in {1: True, 2: False, 3: False, 4: True, 5: True, 6: True, 7: False, 8: False}.items():
        turned = dataclasses.replace(odd, orientation=orientation)
        assert (plan(Pipeline.parse("resize:256"), turned).need.least is not None) is reduced, orientation


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("invert/gamma:2/contrast:2", ["invert+gamma+contrast"]),
        ("invert/grayscale/gamma:2/contrast:2", ["invert", "grayscale", "gamma+contrast"]),
        ("invert", ["invert"]),
        ("resize:2040", []),
        ("resize:256,256,fit=cover/invert", ["resize", "crop", "invert"]),
    ],
)
def test_runs_of_pointwise_operations_fuse(text: str, names: list[str]) -> None:
    assert [step.action.name for step in plan(Pipeline.parse(text), INFO).steps] == names


POINTWISE = st.one_of(
    st.floats(-1, 1).map(lambda x: Pipeline().brightness(x)),
    st.floats(0, 100).map(lambda x: Pipeline().contrast(x)),
    st.floats(0.05, 20).map(lambda x: Pipeline().gamma(x)),
    st.just(Pipeline().invert()),
)


@given(st.lists(POINTWISE, min_size=2, max_size=6), st.sampled_from(["uint8", "uint16", "float32"]), st.integers(0, 99))
def test_fused_equals_unfused_to_the_bit(parts: list[Pipeline], depth: str, seed: int) -> None:
    operations = tuple(item for part in parts for item in part.operations if isinstance(item, Pointwise))
    rng = np.random.default_rng(seed)
    for channels in ((), (3,), (4,)):
        shape = (23, 31, *channels)
        pixels: Any = rng.random(shape, np.float32)
        if depth != "float32":
            pixels = (pixels * np.iinfo(depth).max).astype(depth)
        image = Image(pixels)
        fused = Fused(operations).apply(image).image
        for item in operations:
            image = item.apply(image).image
        assert np.array_equal(fused.pixels, image.pixels)


def test_every_level_of_sixteen_bits_fuses_right() -> None:
    pipeline = Pipeline.parse("gamma:2.2/contrast:1.3/brightness:-0.05/invert")
    operations = tuple(item for item in pipeline.operations if isinstance(item, Pointwise))
    image = Image(np.arange(65_536, dtype=np.uint16).reshape(256, 256))
    fused = Fused(operations).apply(image).image.pixels
    for item in operations:
        image = item.apply(image).image
    assert np.array_equal(fused, image.pixels)
    assert len(np.unique(fused)) > 10_000


def test_limits_refuse_large_results_by_step() -> None:
    with pytest.raises(
        LimitExceeded, match=r"Step 2: resize would make .*60,000×60,000.*16,384 pixels a side"
    ) as caught:
        plan(Pipeline.parse("invert/resize:60000,60000,fit=fill"), INFO)
    assert caught.value.context["maximum"] == 16_384
    with pytest.raises(LimitExceeded, match="100,000,000 pixels"):
        plan(Pipeline.parse("resize:16000,16000,fit=fill"), INFO)
    with pytest.raises(LimitExceeded):  # what is cut off again must be made first
        plan(Pipeline.parse("resize:16000,1,fit=cover,enlarge=true"), INFO)
    with pytest.raises(LimitExceeded):
        plan(Pipeline.parse("rotate:45"), INFO, Limits(max_side=2100))
    assert plan(Pipeline.parse("resize:9000"), INFO).size == (2040, 1536)


def test_a_crop_outside_is_refused_by_step_before_anything_is_decoded() -> None:
    with pytest.raises(NotApplicable, match=r"Step 2: crop: .*2,040×1,536") as caught:
        plan(Pipeline.parse("invert/crop:2000,0,41,10"), INFO)
    assert caught.value.context["step"] == 2
    assert plan(Pipeline.parse("crop:2000,0,40,10"), INFO).size == (40, 10)


@pytest.mark.parametrize(
    ("source", "text", "fmt"),
    [
        ("png", "", "png"),
        ("webp", "", "webp"),
        ("pixels", "", "png"),
        ("jpeg", "format:webp", "webp"),
        ("tiff", "", "tiff"),
        ("qoi", "", "png"),
    ],
)
def test_the_output_has_the_sources_format_unless_told(source: str, text: str, fmt: str) -> None:
    info = dataclasses.replace(INFO, format=source)
    target = plan(Pipeline.parse(text), info).target
    assert target is not None
    assert target.name == fmt


@pytest.mark.parametrize(
    ("text", "data_only"),
    [
        ("info", True),
        ("info/colors:3/phash", True),
        ("info/format:png", False),
        ("resize:64/info", False),
        ("info/resize:64", False),
        ("format:png", False),
        ("", False),
    ],
)
def test_a_pipeline_that_only_analyzes_encodes_nothing(text: str, data_only: bool) -> None:
    made = plan(Pipeline.parse(text), INFO)
    assert (made.target is None) is data_only
    assert (made.encode_seconds == 0) is data_only
    assert ("encode" in made.explain()) is not data_only


def test_estimates_grow_with_the_work() -> None:
    def seconds(text: str, **facts: Any) -> float:
        return plan(Pipeline.parse(text), dataclasses.replace(INFO, **facts)).seconds

    def memory(text: str, **facts: Any) -> int:
        return plan(Pipeline.parse(text), dataclasses.replace(INFO, **facts)).memory

    large = {"size": Size(8000, 6000), "stored_size": Size(8000, 6000)}
    assert seconds("resize:256") < seconds("gaussian:2/resize:256") < seconds("sketch")
    assert seconds("grayscale/resize:256") < seconds("resize:256")
    assert seconds("invert", **large) > 10 * seconds("invert")
    assert memory("resize:256") < memory("gaussian:2/resize:256")
    clear = {"mode": "rgba", "has_alpha": True, "format": "png"}
    assert memory("gaussian:2", **clear) > 9 * 2040 * 1536 * 4 > 2 * memory("gaussian:2", format="png")
    assert memory("gaussian:2", **clear) <= memory("gaussian:2", **clear, depth=16) < 2 * memory("gaussian:2", **clear)
    assert memory("", **large) >= 8000 * 6000 * 3
    assert memory("", format="png", depth=16) == 2 * memory("", format="png")


def test_explain_says_what_will_happen() -> None:
    text = plan(Pipeline.parse("invert/gamma:2/resize:256/format:png"), INFO).explain()
    for part in (
        "jpeg, 2,040×1,536, rgb",
        "whole, color",
        "invert+gamma",
        "2,040×1,536 → 256×193",
        "png, 256×193",
        "ms",
    ):
        assert part in text
    text = plan(Pipeline.parse("grayscale/resize:256"), INFO).explain()
    assert "reduced to 510×384, luma is enough" in text


def test_a_reduced_decode_is_what_was_planned(photo: bytes) -> None:
    plain = encode(decode(photo), "jpeg")  # without its profile, whose conversion would need color
    chosen = plan(Pipeline.parse("grayscale/resize:64"), probe(plain))
    image = decode(plain, chosen.need)
    assert image.size == chosen.decoded == (80, 54)
    assert image.channels == chosen.steps[0].channels == 1
