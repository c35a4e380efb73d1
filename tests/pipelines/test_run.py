"""Whole runs: from bytes, files and pixels to encoded results; reduced decodes against whole ones; errors."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pixelmill import Pipeline
from pixelmill.errors import (
    CorruptImage,
    InvalidURI,
    LimitExceeded,
    NotApplicable,
    ObjectNotFound,
    PixelmillError,
    RunError,
    UnsupportedFormat,
)
from pixelmill.images.decode import decode
from pixelmill.images.encode import encode
from pixelmill.images.image import EVERYTHING, Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.operations.operation import Facts, Operation, Step
from pixelmill.pipelines import sources
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.run import planned
from pixelmill.pipelines.steps import apply

SEED_D = Pipeline.parse("grayscale/resize:256,256,fit=fill/format:jpeg,quality=80")


def psnr(left: NDArray[Any], right: NDArray[Any]) -> float:
    return float(10 * np.log10(255**2 / max(1e-9, np.mean((left.astype(float) - right.astype(float)) ** 2))))


def test_a_path_its_bytes_and_its_pixels_give_the_same(photo: bytes, photo_path: Path) -> None:
    pipeline = Pipeline.parse("canny/format:png")
    from_path = pipeline.run(photo_path)
    assert pipeline.run(str(photo_path)).bytes == from_path.bytes == pipeline.run(photo).bytes
    gray = decode(photo, plan(pipeline, probe(photo)).need)
    assert pipeline.run(gray).bytes == from_path.bytes


def test_an_outcome_tells_all(photo: bytes) -> None:
    outcome = SEED_D.run(photo)
    assert (outcome.format, outcome.media_type, outcome.size) == ("jpeg", "image/jpeg", (256, 256))
    assert (outcome.source_format, outcome.source_size) == ("jpeg", (640, 427))
    assert outcome.timings.total_ms > 0
    assert outcome.image.pixels.shape == (256, 256)
    assert outcome.data == {}
    assert Outcome.from_dict(outcome.to_dict(), outcome.bytes) == outcome


def test_without_a_format_the_output_has_the_sources(photo: bytes) -> None:
    assert Pipeline().run(photo).format == "jpeg"
    image = decode(photo)
    assert Pipeline().run(encode(image, "webp")).format == "webp"
    assert Pipeline().run(image).format == "png"
    assert np.array_equal(Pipeline().run(image).image.pixels, image.pixels)


SHAPES = [(640, 427), (639, 427), (1281, 853), (333, 1000), (1500, 997)]


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize(
    "text",
    [
        "resize:100",
        "resize:64,64,fit=fill",
        "resize:64,64,fit=cover",
        "resize:40,90,fit=outside",
        "grayscale/resize:77",
        "flip:both/resize:60",
        "rotate:90/resize:60",
        "rotate:-90/flip:horizontal/resize:64,64,fit=cover",
        "invert/resize:50",
        "resize:90/rotate:30/gaussian:1",
    ],
)
def test_a_reduced_decode_gives_the_size_and_nearly_the_pixels_of_a_whole_one(
    size: tuple[int, int], text: str, photo: bytes
) -> None:
    scaled: Any = cv2.resize(decode(photo).pixels, size, interpolation=cv2.INTER_CUBIC)
    source = encode(Image(scaled), "jpeg", {"quality": 95})
    pipeline = Pipeline.parse(text)
    chosen = plan(pipeline, probe(source))
    reduced, _ = apply(chosen, decode(source, chosen.need))
    whole, _ = apply(chosen, decode(source, EVERYTHING))
    assert reduced.size == whole.size == chosen.size
    left, right = reduced.pixels, whole.pixels
    assert left.shape == right.shape
    assert psnr(left, right) > 33


def test_some_of_those_were_really_reduced(photo: bytes) -> None:
    assert plan(Pipeline.parse("flip:both/resize:60"), probe(photo)).need.least is None  # 427 is odd
    assert plan(Pipeline.parse("resize:100"), probe(photo)).decoded == (160, 107)


@pytest.mark.parametrize("size", [(632, 424), (639, 427)])
def test_every_orientation_gives_the_same_picture(size: tuple[int, int], photo: bytes) -> None:
    """EXIF turns it upright whatever way it is stored, also from a reduced decode."""
    upright = decode(photo).pixels[: size[1], : size[0]]
    expected = None
    stored: dict[int, Any] = {
        1: upright,
        2: cv2.flip(upright, 1),
        3: cv2.rotate(upright, cv2.ROTATE_180),
        4: cv2.flip(upright, 0),
        5: cv2.transpose(upright),
        6: cv2.rotate(upright, cv2.ROTATE_90_COUNTERCLOCKWISE),
        7: cv2.flip(cv2.transpose(upright), -1),
        8: cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE),
    }
    for orientation, pixels in stored.items():
        body = encode(Image(np.ascontiguousarray(pixels)), "jpeg", {"quality": 95, "subsampling": "444"})
        tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0" + bytes((orientation, 0, 0, 0)) + b"\0\0\0\0"
        exif = b"Exif\0\0" + tiff
        segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
        outcome = Pipeline.parse("resize:100/format:png").run(body[:2] + segment + body[2:])
        assert outcome.source_size == size
        assert outcome.size == (100, 67)
        if expected is None:
            expected = outcome.image.pixels
        assert psnr(outcome.image.pixels, expected) > 34, orientation


def test_a_batch_in_threads_gives_the_bytes_that_each_gives_alone(photo: bytes) -> None:
    pipelines = [SEED_D, Pipeline.parse("resize:200/sketch:none"), Pipeline.parse("rotate:7/invert/gamma:2/format:png")]
    jobs = [(pipeline, photo) for pipeline in pipelines for _ in range(8)]
    alone = [pipeline.run(source).bytes for pipeline, source in jobs]
    with ThreadPoolExecutor(4) as pool:
        assert [outcome.bytes for outcome in pool.map(lambda job: job[0].run(job[1]), jobs)] == alone


def test_seed_d_makes_small_images_exactly_as_large_as_asked() -> None:
    assert SEED_D.run(Image(np.zeros((10, 20, 3), np.uint8))).size == (256, 256)


def test_plans_are_cached_by_what_they_depend_on(photo: bytes) -> None:
    info = probe(photo)
    limits = Limits()
    assert planned(SEED_D, info, limits) is planned(Pipeline.parse(SEED_D.to_json()), probe(photo + b"\0"), limits)
    assert planned(SEED_D, info, Limits(max_side=1000)) is not planned(SEED_D, info, limits)
    loaded = Pipeline().watermark(Image(np.zeros((2, 2), np.uint8)))
    assert planned(loaded, info, limits) is not planned(loaded, info, limits)


# -- images among the parameters -----------------------------------------------------------------------------------


def logo(path: Path, value: int = 255) -> bytes:
    body = encode(Image(np.full((8, 16), value, np.uint8)), "png")
    path.write_bytes(body)
    return body


def test_a_watermark_comes_from_a_path_bytes_or_pixels(photo: bytes, tmp_path: Path) -> None:
    body = logo(tmp_path / "logo with space.png")
    by_path = Pipeline().watermark(tmp_path / "logo with space.png", opacity=1).format("png")
    expected = by_path.run(photo).bytes
    assert Pipeline.parse(by_path.to_text()).run(photo).bytes == expected
    by_digest = by_path.with_images({by_path.images()[0]: "sha256:00ff"})
    for given in (body, tmp_path / "logo with space.png", decode(body)):
        assert by_digest.run(photo, images={"sha256:00ff": given}).bytes == expected
    in_place = Pipeline().watermark(decode(body), opacity=1).format("png")
    assert in_place.run(photo).bytes == expected
    assert expected != Pipeline().format("png").run(photo).bytes


def test_where_images_are_given_no_pipeline_can_name_a_file(photo: bytes, tmp_path: Path) -> None:
    logo(tmp_path / "secret.png")
    pipeline = Pipeline().watermark(str(tmp_path / "secret.png"))
    for images in ({}, {"other": b""}):
        with pytest.raises(ObjectNotFound, match="was not given"):
            pipeline.run(photo, images=images)


@pytest.mark.parametrize(
    ("reference", "images", "kind", "expected"),
    [
        ("nowhere.png", None, ObjectNotFound, "nowhere.png"),
        ("s3://bucket/logo.png", None, InvalidURI, "no local path"),
        ("sha256:00", None, InvalidURI, "hand its bytes over"),
        ("logo.png", {"logo.png": b"%PDF-1"}, UnsupportedFormat, "'logo.png' of the pipeline: .*PDF"),
        ("logo.png", {"logo.png": b"\x89PNG\r\n\x1a\n"}, CorruptImage, "'logo.png' of the pipeline"),
    ],
)
def test_errors_of_image_parameters_name_them(
    reference: str, images: Mapping[str, bytes] | None, kind: type[PixelmillError], expected: str, photo: bytes
) -> None:
    with pytest.raises(kind, match=expected):
        Pipeline().watermark(reference).run(photo, images=images)


def test_the_cache_of_decoded_images_is_bounded_and_follows_the_bytes(tmp_path: Path) -> None:
    cache = sources._Decoded(max_items=3, max_bytes=1000)
    bodies = [logo(tmp_path / "x.png", value) for value in range(6)]
    first = [cache.get(body, Limits()) for body in bodies]
    assert len(cache) == 3
    assert cache.get(bodies[5], Limits()) is first[5]
    assert cache.get(bodies[0], Limits()) is not first[0]
    assert int(cache.get(bodies[4], Limits()).pixels[0, 0]) == 4
    large = encode(Image(np.zeros((40, 40), np.uint8)), "png")
    assert cache.get(large, Limits()) is not cache.get(large, Limits())  # larger than the whole cache
    with pytest.raises(LimitExceeded):
        cache.get(bodies[5], Limits(max_side=10))


# -- errors --------------------------------------------------------------------------------------------------------


def test_sources_that_are_not_there_are_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, expected in {
        tmp_path / "none.jpg": "no file",
        tmp_path: "is a folder",
        tmp_path / "pipe": "no regular file",
        Path("/dev/null"): "no regular file",
    }.items():
        with pytest.raises(ObjectNotFound, match=expected):
            SEED_D.run(path)
    with pytest.raises(InvalidURI, match="no path"):
        SEED_D.run("a\0b")
    with pytest.raises(TypeError, match="a source is"):
        SEED_D.run(5)  # type: ignore[arg-type] # the test is that it is refused


def test_limits_hold_for_files_pixels_and_results(photo: bytes, photo_path: Path) -> None:
    for source in (photo, photo_path):
        with pytest.raises(LimitExceeded, match="bytes"):
            SEED_D.run(source, limits=Limits(max_bytes=1000))
        with pytest.raises(LimitExceeded, match="pixels"):
            SEED_D.run(source, limits=Limits(max_pixels=1000))
    with pytest.raises(LimitExceeded, match="pixels"):
        SEED_D.run(Image(np.zeros((100, 100), np.uint8)), limits=Limits(max_pixels=1000))
    with pytest.raises(LimitExceeded, match="Step 1: resize would make"):
        Pipeline.parse("resize:16000,16000,fit=fill").run(photo)


def test_a_broken_file_is_refused_whatever_the_pipeline(photo: bytes) -> None:
    with pytest.raises(CorruptImage):
        SEED_D.run(photo[: len(photo) // 2])
    with pytest.raises(UnsupportedFormat):
        SEED_D.run(b"no image at all")


def test_a_step_that_does_not_apply_is_named(photo: bytes) -> None:
    with pytest.raises(NotApplicable, match="Step 1: crop"):
        Pipeline.parse("crop:0,0,641,10").run(photo)


class Failing(Operation):
    """Calls OpenCV wrongly."""

    name = "failing"
    family = "test"
    summary = "Fails"

    def facts(self) -> Facts:
        return Facts("whole", "approximate")

    def apply(self, image: Image) -> Step:
        return Step(image.with_pixels(cv2.resize(image.pixels, (-1, 0))))


class Finding(Operation):
    """Gives data."""

    name = "finding"
    family = "test"
    summary = "Finds"

    def facts(self) -> Facts:
        return Facts("analysis", "approximate")

    def size(self, size: Size) -> Size:
        return size

    def apply(self, image: Image) -> Step:
        return Step(image, {"width": image.size.width})


def test_an_exception_of_opencv_becomes_an_error_that_names_the_step(photo: bytes) -> None:
    invert = Pipeline().invert().operations[0]
    with pytest.raises(RunError, match="Step 2: failing failed"):
        Pipeline((invert, Failing())).run(photo)


def test_data_is_collected_by_operation(photo: bytes) -> None:
    resize = Pipeline().resize(50).operations[0]
    outcome = Pipeline((Finding(), resize, Finding())).run(photo)
    assert outcome.data == {"finding": {"width": 640}, "finding-2": {"width": 50}}


def test_reading_a_pipeline_loads_no_codec() -> None:
    code = (
        "import sys; from pixelmill import Pipeline; Pipeline.parse('grayscale/resize:5/format:jpeg').hash;"
        "print(sorted({'simplejpeg', 'PIL', 'pixelmill.pipelines.run'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_real_photographs_run_through_every_kind_of_pipeline(assets: Path) -> None:
    photos = sorted((assets / "photos").glob("seed_*.jpg"))
    assert photos
    for path in photos[:3]:
        info = probe(path.read_bytes())
        for text in (
            "resize:512/format:webp",
            "canny/resize:300",
            "resize:400/sketch:fast",
            "rotate:-90/resize:128",
        ):
            pipeline = Pipeline.parse(text)
            outcome = pipeline.run(path)
            assert outcome.size == plan(pipeline, info).size == outcome.image.size
