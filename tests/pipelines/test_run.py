"""Runs over real photographs: a reduced decode changes nothing but the time, and failures are named."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pixelmill.errors import (
    InputError,
    InvalidParameter,
    LimitExceeded,
    NotApplicable,
    ObjectNotFound,
    PixelmillError,
    StorageDenied,
    StorageError,
    UnsupportedFormat,
)
from pixelmill.images.decode import decode
from pixelmill.images.image import Image, Size
from pixelmill.images.limits import Limits
from pixelmill.images.probe import probe
from pixelmill.operations.table import all_operations, example_of
from pixelmill.pipelines.plan import plan
from pixelmill.pipelines.spec import Pipeline


def jpeg(pixels: NDArray[Any], orientation: int = 1) -> bytes:
    target = io.BytesIO()
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(pixels).save(target, "JPEG", quality=92, exif=exif)
    return target.getvalue()


def png(pixels: NDArray[Any]) -> bytes:
    target = io.BytesIO()
    Pillow.fromarray(pixels).save(target, "PNG")
    return target.getvalue()


def psnr(one: NDArray[Any], other: NDArray[Any]) -> float:
    error = np.mean((one.astype(np.float64) - other) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))


@pytest.fixture(scope="module")
def scene(photo: bytes) -> NDArray[Any]:
    """640x427, without the noise that no two samplings agree on."""
    return np.asarray(cv2.GaussianBlur(decode(photo).pixels, (0, 0), 1.0))


REDUCING = [
    "resize:97,61,fit=fill",
    "resize:80,80",
    "resize:80,80,fit=cover",
    "resize:80,80,fit=contain,background=123456",
    "grayscale/resize:71,71,fit=fill",
    "flip/resize:90,60,fit=fill",
    "flip:vertical/resize:90,60,fit=fill",
    "flip:both/resize:33,47,fit=fill",
    "rotate:90/resize:90,60,fit=fill",
    "rotate:180/invert/resize:90,60,fit=fill",
    "rotate:270/flip/resize:50,50,fit=cover",
    "resize:120/crop:3,5,50,40/invert",
    "resize:120/resize:40/rotate:90",
]


@pytest.mark.parametrize("text", REDUCING)
@pytest.mark.parametrize("cut", [(640, 427), (637, 425), (633, 419), (641 - 2, 422)])
def test_a_reduced_decode_gives_the_same_size_and_nearly_the_same_picture(
    text: str, cut: tuple[int, int], scene: NDArray[Any]
) -> None:
    data = jpeg(np.ascontiguousarray(scene[: cut[1], : cut[0]]))
    pipeline = Pipeline.parse(f"{text}/format:png")
    planned = plan(pipeline, probe(data))
    assert planned.decoded.pixels * 3 < cut[0] * cut[1], "the decode is reduced"
    reduced = pipeline.run(data).image.pixels
    whole = pipeline.run(decode(data)).image.pixels
    assert reduced.shape == whole.shape
    assert planned.size == Size(whole.shape[1], whole.shape[0])
    assert psnr(reduced, whole) > 37


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_is_reduced_as_well_as_an_upright_one(orientation: int, scene: NDArray[Any]) -> None:
    data = jpeg(np.ascontiguousarray(scene[:419, :633]), orientation)
    for text in ("resize:70,95,fit=fill/format:png", "flip/rotate:90/resize:95,70,fit=fill/format:png"):
        pipeline = Pipeline.parse(text)
        assert plan(pipeline, probe(data)).decoded.pixels * 4 <= 640 * 427
        assert psnr(pipeline.run(data).image.pixels, pipeline.run(decode(data)).image.pixels) > 37


@given(st.integers(16, 200), st.integers(16, 200), st.integers(1, 60), st.integers(1, 60))
def test_every_odd_size_comes_out_as_planned(width: int, height: int, target_width: int, target_height: int) -> None:
    ramp = np.linspace(0, 255, width * height).reshape(height, width).astype(np.uint8)
    data = jpeg(ramp)
    for fit in ("fill", "cover", "contain", "inside", "outside"):
        pipeline = Pipeline().resize(target_width, target_height, fit=fit).format("png")
        outcome = pipeline.run(data)
        assert outcome.size == pipeline.run(Image(ramp)).size == plan(pipeline, probe(data)).size
        assert outcome.image.size == outcome.size


def test_a_batch_gives_what_single_runs_give(photo: bytes, scene: NDArray[Any]) -> None:
    sources = [photo, jpeg(scene[:99, :201]), png(scene[:50, :60]), photo]
    for operation in all_operations():
        example = example_of(operation)
        pipeline = Pipeline((example,)).format("png")
        marks = {reference: Image(np.full((5, 9, 4), 200, np.uint8)) for reference in example.images()}
        if operation.name == "sketch":
            pipeline = Pipeline.parse("resize:64/sketch/format:png")
        if operation.name == "crop":
            pipeline = Pipeline.parse("crop:1,2,30,40/format:png")
        batch = [pipeline.run(source, images=marks).bytes for source in sources]
        single = [Pipeline.parse(pipeline.to_text()).run(source, images=marks).bytes for source in reversed(sources)]
        assert batch == single[::-1]


def test_paths_strings_bytes_views_and_pixels_give_the_same(photo: bytes, photo_path: Path) -> None:
    pipeline = Pipeline.parse("invert/format:png")
    expected = pipeline.run(photo).bytes
    for source in (photo_path, str(photo_path), bytearray(photo), memoryview(photo), decode(photo)):
        assert pipeline.run(source).bytes == expected


def test_an_outcome_tells_what_was_done(photo: bytes) -> None:
    outcome = Pipeline.parse("resize:100/format:webp").run(photo)
    assert (outcome.format, outcome.media_type) == ("webp", "image/webp")
    assert (outcome.source_format, outcome.source_size) == ("jpeg", (640, 427))
    assert outcome.size == (100, 67)
    assert outcome.data == {}
    assert outcome.timings.decode_ms > 0
    assert outcome.timings.encode_ms > 0


def test_sources_that_can_not_be_read_are_named(tmp_path: Path) -> None:
    pipeline = Pipeline.parse("invert")
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("this is no image")
    os.mkfifo(tmp_path / "pipe")
    cases: list[tuple[str, type[PixelmillError], str]] = [
        (str(tmp_path / "missing.jpg"), ObjectNotFound, "missing.jpg"),
        (str(tmp_path), ObjectNotFound, "is a folder"),
        (str(tmp_path / "empty.jpg"), UnsupportedFormat, "empty"),
        (str(tmp_path / "text.jpg"), UnsupportedFormat, "not an image"),
        (str(tmp_path / "pipe"), StorageError, "no regular file"),
        ("/dev/zero", StorageError, "no regular file"),
        ("nul\0.jpg", StorageError, "can't be read"),
        ("x" * 300, StorageError, "can't be read"),
        (str(tmp_path / "text.jpg" / "deeper"), StorageError, "can't be read"),
    ]
    for source, kind, words in cases:
        with pytest.raises(kind, match=words):
            pipeline.run(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_refused(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jpg"
    secret.touch(mode=0)
    with pytest.raises(StorageDenied, match=r"secret\.jpg"):
        Pipeline.parse("invert").run(secret)


def test_a_file_above_the_limit_is_not_read(photo_path: Path) -> None:
    with pytest.raises(LimitExceeded):
        Pipeline.parse("invert").run(photo_path, limits=Limits(max_bytes=1_000))


def test_huge_results_are_refused_before_memory_is_taken(photo: bytes) -> None:
    with pytest.raises(LimitExceeded, match="60,000×60,000"):
        Pipeline.parse("resize:60000,60000,fit=fill").run(photo)
    with pytest.raises(NotApplicable, match="crop"):
        Pipeline.parse("crop:600,0,100,100").run(photo)


def test_image_parameters_come_by_path_by_bytes_and_as_pixels(photo: bytes, tmp_path: Path) -> None:
    mark = np.full((6, 8, 3), (250, 1, 2), np.uint8)
    path = tmp_path / "my logo.png"
    path.write_bytes(png(mark))
    pipeline = Pipeline().watermark(str(path), opacity=1, scale=0).format("png")
    expected = pipeline.run(photo).bytes
    named = Pipeline().watermark("logo", opacity=1, scale=0).format("png")
    for value in (path, png(mark), Image(mark)):
        assert named.run(photo, images={"logo": value}).bytes == expected
    loaded = named.with_images({"logo": Image(mark)})
    assert loaded.run(photo).bytes == expected
    assert loaded.images() == ()
    assert (Pipeline.parse("resize:5").run(expected or b"").size) == (5, 3)
    path.write_bytes(png(mark[..., ::-1].copy()))
    assert pipeline.run(photo).bytes != expected, "a file that has changed is read again"


def test_pixels_that_were_given_do_not_stay_for_the_next_run(photo: bytes) -> None:
    named = Pipeline().watermark("logo", opacity=1).format("png")
    black, white = (Image(np.full((9, 9), value, np.uint8)) for value in (0, 255))
    results = [named.with_images({"logo": mark}).run(photo).bytes for mark in (black, white, black)]
    assert results[0] == results[2] != results[1]


def test_a_bad_image_parameter_is_named(photo: bytes, tmp_path: Path) -> None:
    pipeline = Pipeline.parse("watermark:logo")
    broken = png(np.zeros((50, 50), np.uint8))[:60]
    for value, kind in ((broken, InputError), (b"", UnsupportedFormat), (b"no image", UnsupportedFormat)):
        with pytest.raises(kind, match="The image parameter logo"):
            pipeline.run(photo, images={"logo": value})
    with pytest.raises(LimitExceeded, match="The image parameter logo"):
        pipeline.run(jpeg(np.zeros((9, 9), np.uint8)), images={"logo": photo}, limits=Limits(max_pixels=1_000))
    with pytest.raises(ObjectNotFound, match=r"gone\.png"):
        pipeline.run(photo, images={"logo": tmp_path / "gone.png"})
    with pytest.raises(InvalidParameter, match="sha256:00"):
        Pipeline().watermark("sha256:00").run(photo)


def test_deep_pictures_stay_deep_through_a_pipeline() -> None:
    deep = (np.arange(64 * 48).reshape(48, 64) * 21).astype(np.uint16)
    body = cv2.imencode(".png", deep)[1].tobytes()
    result = Pipeline.parse("flip/invert/resize:32").run(body).image.pixels
    assert result.dtype == np.uint16
    assert len(np.unique(result)) > 256


def test_a_broken_photograph_fails_as_an_input(photo: bytes) -> None:
    with pytest.raises(InputError):
        Pipeline.parse("resize:100").run(photo[: len(photo) // 2])


def test_plans_are_remembered_by_what_matters_in_a_header(photo: bytes) -> None:
    pipeline = Pipeline.parse("resize:100/format:png")
    info = probe(photo)
    assert plan(pipeline, info).steps == plan(pipeline, replace(info, bytes=7)).steps
    sizes = {pipeline.run(jpeg(np.zeros((h, 200), np.uint8))).size for h in (50, 100, 200)}
    assert sizes == {(100, 25), (100, 50), (100, 100)}
