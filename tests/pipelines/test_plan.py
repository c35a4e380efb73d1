"""The plan: what is asked of the decoder, which steps are done, what it costs, what is refused before it starts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pixelmill.errors import LimitExceeded, NotApplicable
from pixelmill.images.image import ImageInfo, Need, Size
from pixelmill.images.limits import Limits
from pixelmill.operations.resize import Scale
from pixelmill.operations.table import OPERATIONS, example_of, operation_named
from pixelmill.pipelines.plan import Plan, plan
from pixelmill.pipelines.spec import Pipeline

PHOTO = ImageInfo("jpeg", "image/jpeg", Size(4000, 3000), Size(4000, 3000), "rgb", bytes=2_000_000)
PNG = replace(PHOTO, format="png", media_type="image/png")


def planned(text: str, info: ImageInfo = PHOTO, limits: Limits | None = None) -> Plan:
    return plan(Pipeline.parse(text), info, limits)


@pytest.mark.parametrize(
    ("text", "need"),
    [
        ("grayscale/resize:256,256,fit=fill/format:jpeg", Need(color=False, least=Size(320, 320))),
        ("resize:256,256,fit=fill/grayscale/format:jpeg", Need(color=False, least=Size(320, 320))),
        ("resize:256,256,fit=fill", Need(least=Size(320, 320))),
        ("sketch", Need()),
        ("grayscale/sketch", Need(color=False)),
        ("resize:500/sketch", Need(least=Size(625, 469))),
        ("canny", Need(color=False)),
        ("grayscale/canny", Need(color=False)),
        ("flip/invert/resize:256", Need(least=Size(320, 240))),
        ("rotate:90/resize:256,256,fit=fill", Need(least=Size(320, 320))),
        ("rotate:90/resize:300", Need(least=Size(500, 375))),
        ("rotate:30/resize:256", Need()),
        ("crop:0,0,100,100/resize:50", Need()),
        ("crop:0,0,100,100/grayscale", Need(color=False)),
        ("gamma:2/resize:256", Need()),
        ("gamma:2/grayscale", Need()),
        ("brightness:0.5/grayscale", Need()),
        ("sharpen/grayscale", Need()),
        ("grayscale/gamma:2", Need(color=False)),
        ("gaussian:2/grayscale", Need(color=False)),
        ("invert/grayscale", Need(color=False)),
        ("watermark:logo.png/grayscale", Need()),
        ("resize:100,interpolation=area", Need()),
        ("format:png", Need()),
    ],
)
def test_the_decoder_is_asked_for_what_is_needed_and_no_more(text: str, need: Need) -> None:
    assert planned(text).need == need


def test_a_png_is_decoded_whole_but_the_result_has_the_same_size() -> None:
    for text in ("resize:256,256", "resize:100,fit=cover", "grayscale/resize:333,111,fit=contain"):
        assert planned(text, PNG).size == planned(text).size == planned(text).sizes[-1]
        assert planned(text, PNG).decoded == Size(4000, 3000)
        assert planned(text).decoded < Size(4000, 3000)


def test_the_scale_knows_the_picture_it_stands_for_and_where_part_pixels_lie() -> None:
    info = replace(PHOTO, size=Size(997, 1501), stored_size=Size(997, 1501))

    def mirrored(text: str, orientation: int = 1) -> tuple[bool, bool]:
        steps = planned(text, replace(info, orientation=orientation)).steps
        return next(step.mirrored for step in steps if isinstance(step, Scale))

    assert mirrored("resize:100") == (False, False)
    assert mirrored("flip/resize:100") == (True, False)
    assert mirrored("flip:both/resize:100") == (True, True)
    assert mirrored("flip/flip/resize:100") == (False, False)
    assert mirrored("rotate:90/resize:100") == (True, False)
    assert mirrored("rotate:270/resize:100") == (False, True)
    assert mirrored("rotate:90/rotate:270/resize:100") == (False, False)
    by_orientation = [mirrored("resize:100", orientation) for orientation in range(1, 9)]
    nothing, left, top, both = (False, False), (True, False), (False, True), (True, True)
    assert by_orientation == [nothing, left, both, top, nothing, left, both, top]
    assert mirrored("flip/resize:100", 2) == nothing


@pytest.mark.parametrize(
    "text",
    [
        "resize:60000,60000,enlarge=true",
        "resize:60000,60000,fit=fill",
        "resize:60000,2,fit=contain",
        "resize:1,fit=fill,height=60000",
    ],
)
def test_a_result_beyond_the_limits_is_refused_before_anything_is_decoded(text: str) -> None:
    with pytest.raises(LimitExceeded, match=r"resize would make an image of .*60,000"):
        planned(text)


def test_a_step_in_the_middle_is_refused_too_and_own_limits_hold() -> None:
    with pytest.raises(LimitExceeded):
        planned("resize:20000,20000,fit=fill/resize:5")
    with pytest.raises(LimitExceeded, match="rotate"):
        planned("rotate:45", replace(PHOTO, size=Size(9_900, 9_900)))
    with pytest.raises(LimitExceeded):
        planned("resize:200,200,fit=fill", limits=Limits(max_pixels=39_999))
    assert planned("resize:200,200,fit=fill", limits=Limits(max_pixels=40_000)).size == Size(200, 200)


def test_a_crop_outside_says_how_large_the_picture_is() -> None:
    with pytest.raises(NotApplicable, match=r"\(4001, 10\).*4000×3000"):
        planned("crop:3901,0,100,10")
    with pytest.raises(NotApplicable, match="200×150"):
        planned("resize:200/crop:150,0,100,10")


@pytest.mark.parametrize("name", sorted(OPERATIONS))
@pytest.mark.parametrize("form", ["jpeg", "png", "webp"])
def test_estimates_grow_with_the_picture(name: str, form: str) -> None:
    text = Pipeline((example_of(operation_named(name)),)).to_text()
    sizes = [Size(200, 150), Size(800, 600), Size(4000, 3000), Size(12_000, 8_000)]
    infos = [replace(PHOTO, format=form, size=size, stored_size=size, bytes=size.pixels // 6) for size in sizes]
    plans = [planned(text, info) for info in infos]
    seconds = [one.seconds for one in plans]
    peaks = [one.peak_bytes for one in plans]
    assert seconds == sorted(seconds)
    assert peaks == sorted(peaks)
    assert 0 < seconds[0] < seconds[-1] < 600
    assert 0 < peaks[0] < peaks[-1]


def test_less_is_estimated_where_less_is_decoded() -> None:
    small, large = planned("resize:256/format:jpeg"), planned("resize:256,interpolation=area/format:jpeg")
    assert small.seconds < large.seconds
    assert small.peak_bytes < large.peak_bytes
    assert planned("grayscale/resize:256/format:jpeg").seconds < small.seconds


def test_the_format_of_the_result_is_the_sources_unless_it_can_not_be_written() -> None:
    assert planned("invert").format == "jpeg"
    assert planned("invert", PNG).format == "png"
    assert planned("invert", replace(PHOTO, format="pixels")).format == "png"
    assert planned("invert/format:webp").format == "webp"


def test_a_plan_explains_itself() -> None:
    text = planned("grayscale/gamma:2/invert/resize:256,256,fit=cover/format:jpeg").explain()
    assert text.splitlines()[0] == "decode   luma only, every pixel: gives 4000×3000"
    assert "apply    gamma + invert as one table: pointwise, cv2-exact, gives 4000×3000" in text
    assert "apply    scale width=341 height=256: geometric, self-exact, gives 341×256" in text
    assert "apply    crop x=42 y=0 width=256 height=256: geometric, cv2-exact, gives 256×256" in text
    assert "encode   jpeg 256×256" in text
    assert "ms of CPU" in text
    assert "decode   color, at least 320×240: gives 500×375" in planned("resize:256").explain()
