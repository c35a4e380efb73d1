"""Pipelines over animations: every frame gets what it would get alone, whatever the operation and the container."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as Pil
from tiny_models import sessions

from pixelmill import Pipeline
from pixelmill.errors import CorruptImage, LimitExceeded, NotApplicable
from pixelmill.images.decode import decode
from pixelmill.images.decode_frames import open_frames
from pixelmill.images.encode_frames import encode_frames
from pixelmill.images.frames import Frame
from pixelmill.images.image import Image
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.operations.reference import EXAMPLES
from pixelmill.operations.table import operation_named
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.plan import plan

FORMATS = ["gif", "png", "webp", "avif"]
DURATIONS = [50.0, 120.0, 30.0]
LOGO = Image(np.random.default_rng(2).integers(0, 256, (20, 30, 4), dtype=np.uint8))


SMALLER = {"grabcut": "resize:80/grabcut:x=10,y=8,width=40,height=30"}  # the rest of the examples are fast enough


@pytest.fixture(scope="module")
def animations(photo: bytes) -> dict[str, bytes]:
    """Three different views of a photograph, played three times (AVIF: for ever)."""
    whole = np.asarray(decode(photo).pixels, np.uint8)
    views = [np.ascontiguousarray(whole[80 : 80 + 230, x : x + 320]) for x in (0, 90, 200)]
    frames = [Frame(Image(view), time) for view, time in zip(views, DURATIONS, strict=True)]
    return {fmt: encode_frames(frames, 3, 3, fmt) for fmt in FORMATS}


def small(frames: Sequence[NDArray[np.uint8]], fmt: str = "png", plays: int = 0) -> bytes:
    return encode_frames([Frame(Image(frame), 40.0) for frame in frames], len(frames), plays, fmt)


@pytest.mark.parametrize(
    ("name", "fmt"),
    [
        # Quick: every operation, and the containers by turns.
        pytest.param(name, fmt, marks=[] if number % len(FORMATS) == place else pytest.mark.slow)
        for number, name in enumerate(EXAMPLES)
        for place, fmt in enumerate(FORMATS)
    ],
)
def test_every_frame_is_what_the_operation_makes_of_it_alone(animations: dict[str, bytes], name: str, fmt: str) -> None:
    source, text = animations[fmt], SMALLER.get(name, EXAMPLES[name][0])
    pipeline = Pipeline.parse(f"{text}/format:png")
    images = dict.fromkeys(pipeline.images(), LOGO)
    outcome = pipeline.run(source, images=images, models=sessions())
    assert outcome.bytes is not None
    assert outcome.frames == 3
    found = open_frames(outcome.bytes)
    assert found.plays == (0 if fmt == "avif" else 3)
    assert [frame.duration for frame in found] == DURATIONS
    stills = [
        Pipeline.parse(f"frame:{n}/{text}/format:png").run(source, images=images, models=sessions()) for n in range(3)
    ]
    assert outcome.data == stills[0].data or operation_named(name).frames_agree == "union"
    for number, (frame, still) in enumerate(zip(found, stills, strict=True)):
        if number and operation_named(name).frames_agree:
            assert frame.image.size == outcome.size
            continue
        assert np.array_equal(frame.image.pixels, still.image.pixels), number


@pytest.mark.parametrize("target", ["gif", "webp,lossless=true", "png"])
@pytest.mark.parametrize("source", FORMATS)
def test_a_result_in_any_format_holds_what_its_stills_hold(
    animations: dict[str, bytes], source: str, target: str
) -> None:
    outcome = Pipeline.parse(f"resize:80/invert/format:{target}").run(animations[source])
    assert outcome.bytes is not None
    for number, frame in enumerate(open_frames(outcome.bytes)):
        still = Pipeline.parse(f"frame:{number}/resize:80/invert/format:{target}").run(animations[source])
        assert still.frames == 1
        assert np.array_equal(frame.image.pixels[..., :3], still.image.pixels[..., :3])
        assert frame.duration == DURATIONS[number]


@pytest.mark.parametrize("fmt", FORMATS)
def test_without_a_format_an_animation_stays_what_it_is(animations: dict[str, bytes], fmt: str) -> None:
    outcome = Pipeline.parse("resize:40").run(animations[fmt])
    assert outcome.bytes is not None
    assert (outcome.format, outcome.frames) == (fmt, 3)
    assert probe(outcome.bytes).frames == 3


@pytest.mark.parametrize("fmt", ["jpeg", "bmp", "tiff"])
def test_a_format_without_animations_takes_the_first_frame(animations: dict[str, bytes], fmt: str) -> None:
    outcome = Pipeline.parse(f"format:{fmt}").run(animations["gif"])
    assert outcome.frames == 1
    assert outcome.bytes == Pipeline.parse(f"frame:0/format:{fmt}").run(animations["gif"]).bytes


def test_data_alone_are_of_the_first_frame_or_the_chosen_one(animations: dict[str, bytes]) -> None:
    source = animations["png"]
    first = Pipeline.parse("phash").run(source)
    assert (first.bytes, first.frames) == (None, 0)
    assert first.data == Pipeline.parse("frame:0/phash").run(source).data
    assert first.data != Pipeline.parse("frame:2/phash").run(source).data
    assert Pipeline.parse("phash/format:png").run(source).data == first.data


@pytest.mark.parametrize("fmt", FORMATS)
def test_frame_takes_that_one_and_says_how_many_there_are(animations: dict[str, bytes], fmt: str) -> None:
    with Pil.open(io.BytesIO(animations[fmt])) as theirs:
        theirs.seek(2)
        expected = np.array(theirs.convert("RGB"))
    kept = Pipeline.parse("frame:2/format:png").run(animations[fmt])
    assert np.array_equal(kept.image.pixels[..., :3], expected)
    assert Pipeline.parse("frame:2").run(animations[fmt]).frames == 1
    with pytest.raises(NotApplicable, match="frame:2 the last") as caught:
        Pipeline.parse("frame:3").run(animations[fmt])
    assert caught.value.context == {"operation": "frame", "frame": 3, "frames": 3}


def test_stills_and_pixels_have_one_frame(photo: bytes) -> None:
    image = decode(photo)
    for source in (photo, image):
        assert Pipeline.parse("frame:0/resize:9").run(source).size == Pipeline.parse("resize:9").run(source).size
        with pytest.raises(NotApplicable, match="one picture"):
            Pipeline.parse("frame:1/resize:9").run(source)


def test_frame_takes_a_page_with_its_own_size() -> None:
    pages = [Pil.new("RGB", size, "red") for size in ((30, 20), (100, 60))]
    buffer = io.BytesIO()
    pages[0].save(buffer, "tiff", save_all=True, append_images=pages[1:])
    assert Pipeline.parse("crop:0,0,90,50").frame(1).run(buffer.getvalue()).size == (90, 50)
    assert Pipeline.parse("resize:300,enlarge=true/format:png").run(buffer.getvalue()).frames == 1
    with pytest.raises(NotApplicable):
        Pipeline.parse("frame:2").run(buffer.getvalue())


def test_trim_keeps_what_any_frame_needs() -> None:
    frames = []
    for x, y in ((4, 6), (20, 9), (11, 2)):
        frame = np.zeros((40, 50, 3), np.uint8)
        frame[y : y + 5, x : x + 7] = 200
        frames.append(frame)
    frames.append(np.zeros((40, 50, 3), np.uint8))  # nothing but border: says nothing
    outcome = Pipeline.parse("info/trim/resize:46,24,enlarge=true,interpolation=nearest/info").run(small(frames))
    assert outcome.bytes is not None
    assert outcome.data["trim"] == {"x": 4, "y": 2, "width": 23, "height": 12}
    assert list(outcome.data) == ["info", "trim", "info-2"]
    for frame, kept in zip(frames, open_frames(outcome.bytes), strict=True):
        assert np.array_equal(kept.image.pixels[::2, ::2], frame[2:14, 4:27])
    empty = Pipeline.parse("trim").run(small([frames[3]] * 2))
    assert (empty.size, empty.data["trim"]) == ((50, 40), {"x": 0, "y": 0, "width": 50, "height": 40})


def test_smart_crop_looks_at_the_first_frame() -> None:
    frames = []
    for x in (5, 60, 30):
        frame = np.zeros((60, 90, 3), np.uint8)
        frame[20:40, x : x + 20 : 2] = 255
        frames.append(frame)
    outcome = Pipeline.parse("smart_crop:30,30").run(small(frames))
    assert outcome.bytes is not None
    alone = Pipeline.parse("frame:0/smart_crop:30,30").run(small(frames))
    place = outcome.data["smart_crop"]
    assert place == alone.data["smart_crop"] != Pipeline.parse("frame:1/smart_crop:30,30").run(small(frames)).data
    for frame, kept in zip(frames, open_frames(outcome.bytes), strict=True):
        x, y = place["x"], place["y"]
        assert np.array_equal(kept.image.pixels, frame[y : y + 30, x : x + 30])


def test_limits_count_all_frames_of_source_and_result(animations: dict[str, bytes]) -> None:
    source, pixels = animations["gif"], 3 * 320 * 230
    bounds = Limits(max_pixels=pixels)
    Pipeline.parse("flip:both").run(source, limits=bounds)
    for text in ("flip:both", "frame:1/flip:both", "flip:both/format:jpeg"):
        with pytest.raises(LimitExceeded, match="all frames"):
            Pipeline.parse(text).run(source, limits=Limits(max_pixels=pixels - 1))
    with pytest.raises(LimitExceeded, match="in all 3 frames"):
        Pipeline.parse("resize:400,enlarge=true").run(source, limits=bounds)
    Pipeline.parse("frame:1/resize:400,enlarge=true").run(source, limits=bounds)


def test_a_plan_counts_frames(animations: dict[str, bytes]) -> None:
    info = probe(animations["gif"])
    pipeline = Pipeline.parse("resize:100/format:webp")
    whole, single = plan(pipeline, info), plan(pipeline.frame(2), info)
    assert (whole.frames, single.frames, single.before) == (3, 1, 2)
    assert "3, each through the steps below" in whole.explain()
    assert "2 decoded before" in single.explain()
    assert whole.seconds > 2.5 * plan(pipeline.frame(0), info).seconds
    assert single.seconds > plan(pipeline.frame(0), info).seconds
    assert plan(Pipeline.parse("resize:100/format:jpeg"), info).frames == 1


def test_an_outcome_tells_its_frames_and_old_documents_still_read(animations: dict[str, bytes]) -> None:
    outcome = Pipeline.parse("resize:20").run(animations["webp"])
    record = outcome.to_dict()
    assert Outcome.from_dict(record, outcome.bytes) == outcome
    assert outcome.image.size == (20, 14)
    assert min(outcome.timings.decode_ms, outcome.timings.apply_ms, outcome.timings.encode_ms) > 0
    del record["frames"]
    assert Outcome.from_dict(record, outcome.bytes).frames == 1
    assert Outcome.from_dict({**record, "size": None}, None).frames == 0


def test_loop_among_the_options_goes_over_the_sources(animations: dict[str, bytes]) -> None:
    for fmt in ("gif", "png", "webp"):
        outcome = Pipeline.parse(f"resize:20/format:{fmt},loop=7").run(animations["gif"])
        assert outcome.bytes is not None
        assert open_frames(outcome.bytes).plays == 7


def test_a_frame_that_can_not_be_decoded_fails_the_whole() -> None:
    frames = [np.random.default_rng(n).integers(0, 256, (30, 30, 3), dtype=np.uint8) for n in range(3)]
    broken = bytearray(small(frames))
    broken[len(broken) - 400] ^= 1
    with pytest.raises(CorruptImage):
        Pipeline.parse("resize:9").run(bytes(broken))


@pytest.mark.parametrize("fmt", ["gif", "png", "webp"])
def test_memory_does_not_grow_with_the_number_of_frames(fmt: str) -> None:
    """NumPy's arrays and bytes; what is coded grows, and is taken off."""
    base = np.tile(np.arange(240, dtype=np.uint8), (160, 1))
    pipeline = Pipeline.parse(f"resize:200/format:{fmt}")
    peaks = {}
    for count in (10, 60):
        frames = [np.dstack((np.roll(base, n, axis=1), base, base)) for n in range(count)]
        source = small(frames, fmt)
        del frames
        pipeline.run(source)  # what is loaded once
        tracemalloc.start()
        outcome = pipeline.run(source)
        peaks[count] = tracemalloc.get_traced_memory()[1] - 3 * len(outcome.bytes or b"")
        tracemalloc.stop()
    assert peaks[60] < peaks[10] + 4 * base.size * 3
