"""Whole or in tiles; and the library's door to runs in tiles."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image as PilImage

from pixelmill import Image, Limits, Pipeline, TiledOptions
from pixelmill.errors import Cancelled, LimitExceeded, NotApplicable, NotTileable
from pixelmill.images.decode import decode
from pixelmill.images.image import Size
from pixelmill.images.limits import RegionLimits
from pixelmill.images.profiles import P3, ColorSpace, profile_of
from pixelmill.images.region_memory import MemoryReader
from pixelmill.images.regions import Raster
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.sources import info_of
from pixelmill.pipelines.tiled_explain import explain_tiled, tiled_record
from pixelmill.pipelines.tiled_plan import plan_tiled, too_large
from pixelmill.tiling.compiler import Wishes
from pixelmill.tiling.stage import SOURCE

SMALL = TiledOptions(tile=64, workers=2)
HUGE = Raster(Size(100_000, 100_000), 1, np.dtype(np.uint8))


def pixels(width: int = 500, height: int = 300, channels: int = 3) -> NDArray[np.uint8]:
    shape = (height, width) if channels == 1 else (height, width, channels)
    noise = np.random.default_rng(11).integers(0, 256, shape, np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2)
    return np.asarray(cv2.normalize(smooth, smooth, 0, 255, cv2.NORM_MINMAX), np.uint8)


@pytest.mark.parametrize(
    "text",
    [
        "gaussian:2",
        "brightness:0.2/contrast:1.5/invert",
        "gaussian:1.5/sobel/median:5/gaussian:4",
        "equalize/gaussian:3/threshold",
        "grayscale/gaussian:1/canny/dilate:5",
        "autocontrast/unsharp/bilateral",
        "crop:10,20,300,200/gaussian:1/flip:horizontal",
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_tiles_give_what_a_whole_run_gives(text: str, channels: int) -> None:
    pipeline, source = Pipeline.parse(f"{text}/format:png"), Image(pixels(channels=channels))
    outcome = pipeline.run_tiled(source, options=SMALL)
    assert outcome.bytes is not None
    assert np.array_equal(decode(outcome.bytes).pixels, pipeline.run(source).image.pixels)
    assert sum(stage.grid.tiles for stage in outcome.stages) > 10


def test_data_come_by_the_name_of_the_operation_as_from_a_whole_run() -> None:
    source = Image(pixels(channels=1))
    pipeline = Pipeline.parse("threshold/components/format:png")
    assert dict(pipeline.run_tiled(source, options=SMALL).data) == dict(pipeline.run(source).data)


def test_a_reader_of_the_callers_stays_open_and_a_file_takes_its_format_from_its_name(tmp_path: Path) -> None:
    class Closing(MemoryReader):
        closed = False

        def close(self) -> None:
            self.closed = True

    reader = Closing(Image(pixels()))
    outcome = Pipeline.parse("gaussian:1").run_tiled(reader, tmp_path / "out.tif", SMALL)
    assert not reader.closed
    assert (outcome.path, outcome.format, outcome.bytes) == (tmp_path / "out.tif", "tiff", None)
    found = decode((tmp_path / "out.tif").read_bytes()).pixels
    assert np.array_equal(found, Pipeline.parse("gaussian:1/format:png").run(Image(pixels())).image.pixels)


@pytest.mark.parametrize("policy", ["", "/metadata:keep,icc=true"])
@pytest.mark.parametrize("name", ["out.png", "out.tif"])
def test_a_profile_is_carried_or_converted_as_in_a_whole_run(tmp_path: Path, policy: str, name: str) -> None:
    profile = profile_of(ColorSpace(primaries=P3))
    assert profile is not None
    file = io.BytesIO()
    PilImage.fromarray(pixels()).save(file, "PNG", icc_profile=profile)
    for step in ("gaussian:1", "grayscale"):  # gray can't have a profile of colors
        pipeline = Pipeline.parse(f"{step}{policy}")
        theirs = pipeline.format("png").run(file.getvalue())
        assert theirs.bytes is not None
        pipeline.run_tiled(file.getvalue(), tmp_path / name, SMALL)
        found = PilImage.open(tmp_path / name)
        assert found.info.get("icc_profile") == PilImage.open(io.BytesIO(theirs.bytes)).info.get("icc_profile")
        assert np.array_equal(np.asarray(found), np.asarray(PilImage.open(io.BytesIO(theirs.bytes))))


def test_a_run_that_is_stopped_leaves_no_file(tmp_path: Path) -> None:
    slow = TiledOptions(tile=64, workers=1)
    with pytest.raises(Cancelled):
        Pipeline.parse("denoise:10").run_tiled(Image(pixels(1500, 1000)), tmp_path / "a.tif", slow, stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_jpeg_differs_only_where_whole_runs_take_short_cuts() -> None:
    file = io.BytesIO()
    noise = np.random.default_rng(3).integers(0, 256, (300, 500, 3), np.uint8)  # colors that are cut off
    PilImage.fromarray(noise).save(file, "jpeg", quality=85)

    def both(text: str) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
        pipeline = Pipeline.parse(f"{text}/format:png")
        outcomes = pipeline.run(file.getvalue()), pipeline.run_tiled(file.getvalue(), None, SMALL)
        whole, tiled = (decode(outcome.bytes or b"").pixels.astype(np.int16) for outcome in outcomes)
        return whole, tiled

    whole, tiled = both("grayscale/invert")
    assert np.count_nonzero(whole != tiled) > 0
    whole, tiled = both("gaussian:1/unsharp")
    assert (whole == tiled).all()


def animation(fmt: str) -> bytes:
    frames = [PilImage.fromarray(np.full((90, 100, 3), value, np.uint8)) for value in (0, 100, 200)]
    file = io.BytesIO()
    frames[0].save(file, fmt, save_all=True, append_images=frames[1:], duration=100)
    return file.getvalue()


@pytest.mark.parametrize("fmt", ["gif", "webp", "png"])
def test_frames_of_an_animation_are_not_dropped_in_silence(fmt: str, tmp_path: Path) -> None:
    source = animation(fmt)
    for text, dest in (
        (f"invert/format:{fmt}", None),
        ("invert", None),
        ("invert", tmp_path / f"out.{fmt}"),
        ("invert/format:auto", None),
    ):
        with pytest.raises(NotTileable, match=r"animation of 3 frames.*frame:0"):
            Pipeline.parse(text).run_tiled(source, dest, SMALL)
    assert not list(tmp_path.iterdir())
    for text, name in (("invert/format:tiff", "out.tif"), (f"frame:0/invert/format:{fmt}", f"out.{fmt}")):
        Pipeline.parse(text).run_tiled(source, tmp_path / name, SMALL)
        assert (decode((tmp_path / name).read_bytes()).pixels[..., :3] == 255).all()
    found = Pipeline.parse("components:data").run_tiled(source, None, SMALL)
    assert found.bytes is None


def test_what_must_be_held_is_within_the_limits_of_whole_images() -> None:
    tight = replace(SMALL, whole=Limits(max_pixels=1000))
    with pytest.raises(LimitExceeded, match=r"\.tif"):
        Pipeline.parse("gaussian:1/format:webp").run_tiled(MemoryReader(Image(pixels())), options=tight)


def test_sizes_that_steps_would_make_are_bounded() -> None:
    tight = replace(SMALL, limits=RegionLimits(max_pixels=200_000))
    with pytest.raises(LimitExceeded, match="in tiles"):
        Pipeline.parse("resize:2000,enlarge=true").run_tiled(Image(pixels()), options=tight)


def test_a_step_that_does_not_apply_is_named_by_its_number() -> None:
    with pytest.raises(NotApplicable, match="Step 2"):
        Pipeline.parse("gaussian:1/crop:0,0,900,900").run_tiled(Image(pixels()), options=SMALL)


def test_a_step_that_needs_the_whole_image_says_at_which_size_it_would_fit() -> None:
    with pytest.raises(NotTileable, match="Step 2: grabcut needs the whole image") as caught:
        plan_tiled(Pipeline.parse("gaussian:1/grabcut"), HUGE, Wishes(), why="it is large")
    width, height = caught.value.context["fits"]
    fitting = Raster(Size(width, height), 1, HUGE.dtype)
    assert too_large(Pipeline.parse("gaussian:1/grabcut"), info_of(fitting), Limits(), 10**9) is None
    larger = Raster(Size(int(width * 1.1), int(height * 1.1)), 1, HUGE.dtype)
    assert too_large(Pipeline.parse("gaussian:1/grabcut"), info_of(larger), Limits(), 10**9) is not None


def test_whole_where_it_fits_and_why_not_where_it_does_not() -> None:
    pipeline = Pipeline.parse("gaussian:2")
    photo = info_of(Raster(Size(4000, 3000), 3, HUGE.dtype))
    assert too_large(pipeline, photo, Limits(), 10**9) is None
    assert "100 MB" in (too_large(pipeline, photo, Limits(), 10**8) or "")
    assert "pixels a side" in (too_large(pipeline, info_of(HUGE), Limits(), 10**9) or "")


@pytest.mark.parametrize(
    "text",
    [
        "remove_background:model=birefnet-general",
        "remove_background:matting=true",
        "caption:draw=true,model=blip-large",
    ],
)
def test_a_model_that_takes_much_memory_makes_no_image_too_large(text: str) -> None:
    """Tiles would save none of that."""
    pipeline = Pipeline.parse(text)
    photo = info_of(Raster(Size(4_000, 3_000), 3, np.dtype(np.uint8)))
    assert plan(pipeline, photo).memory > 850_000_000
    assert too_large(pipeline, photo, Limits(), 850_000_000) is None
    assert "MB" in (too_large(pipeline, photo, Limits(), 30_000_000) or "")


def test_local_steps_are_fused_and_cut_where_too_much_is_computed_twice() -> None:
    pipeline = Pipeline.parse("gaussian:1/sobel/median:5")
    light = plan_tiled(pipeline, HUGE, Wishes(), why="")
    (only,) = light.stages
    assert only.halo == sum(operation.facts().halo for operation in pipeline.operations)
    assert light.program.recomputed(only) < 0.15
    heavy = plan_tiled(Pipeline.parse("gaussian:30/gaussian:30/gaussian:30"), HUGE, Wishes(tile=512), why="")
    assert len(heavy.stages) == 3
    assert heavy.program.scratch_bytes == 2 * HUGE.bytes


def test_the_plan_keeps_to_the_memory_it_is_given() -> None:
    pipeline = Pipeline.parse("gaussian:20/unsharp/hue:30")
    color = Raster(Size(60_000, 60_000), 3, HUGE.dtype)
    tight = plan_tiled(pipeline, color, Wishes(workers=2, memory=250_000_000), why="")
    roomy = plan_tiled(pipeline, color, Wishes(workers=2, memory=4_000_000_000), why="")
    assert tight.memory <= 250_000_000
    assert roomy.seconds <= tight.seconds


def test_the_explanation_has_steps_sweeps_scratch_and_memory() -> None:
    chosen = plan_tiled(Pipeline.parse("gaussian:2/canny"), HUGE, Wishes(workers=2), why="it is large")
    text, record = explain_tiled(chosen), tiled_record(chosen)
    for part in ("in tiles: it is large", "gaussian: local, cv2-exact, halo 8", "canny: border-merge, cv2-exact",
                 "sweep 1", "sweep 2", "computed twice", "10.0 GB of intermediate pixels", "2 workers"):  # fmt: skip
        assert part in text, text
    assert [sweep["from"] for sweep in record["sweeps"]] == ["source", "scratch"]
    assert chosen.stages[0].start == SOURCE
    assert record["scratch_bytes"] == HUGE.bytes
    assert record["peak_bytes"] == chosen.memory < 1_000_000_000
