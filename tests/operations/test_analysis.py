"""What analysis finds, against values that are known or worked out in another way; and outcomes of data alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pixelmill import Pipeline
from pixelmill.images.decode import decode
from pixelmill.images.image import Image
from pixelmill.operations.arguments import build
from pixelmill.operations.pixels import gray8_of
from pixelmill.operations.table import all_operations, operation_named

ANALYSES = ["info", "histogram", "colors", "phash", "blurhash", "sharpness"]


def found(name: str, image: Image, **arguments: Any) -> dict[str, Any]:
    step = build(operation_named(name), arguments, name, strict=True).apply(image)
    assert step.image is image
    assert step.data is not None
    return dict(step.data)


def pictures() -> list[Image]:
    rng = np.random.default_rng(3)
    shapes = [(1, 1), (1, 9), (31, 17), (31, 17, 3), (1, 1, 4), (30, 40, 4)]
    whole: list[Image] = [
        Image(rng.integers(0, np.iinfo(kind).max, shape, kind, endpoint=True))
        for shape in shapes
        for kind in ("uint8", "uint16")
    ]
    return [*whole, *(Image(rng.random(shape, np.float32)) for shape in shapes)]


@pytest.mark.parametrize("name", ANALYSES)
def test_data_are_plain_json_values_and_always_the_same(name: str) -> None:
    for image in pictures():
        data = found(name, image)
        assert json.loads(json.dumps(data, allow_nan=False)) == data
        assert found(name, image) == data


@pytest.mark.parametrize("name", ANALYSES)
def test_samples_that_are_no_numbers_give_numbers(name: str) -> None:
    pixels = np.full((8, 8, 4), np.nan, np.float32)
    pixels[:4] = np.inf
    json.dumps(found(name, Image(pixels)), allow_nan=False)


def test_info_is_what_numpy_says() -> None:
    for image in pictures():
        data = found("info", image)
        assert (data["width"], data["height"]) == image.size
        assert data["channels"] == image.channels == len(data["mean"])
        assert data["depth"] == {"uint8": 8, "uint16": 16, "float32": 32}[str(image.pixels.dtype)]
        samples = np.atleast_3d(image.pixels).astype(np.float64)
        assert list(data["mean"].values()) == pytest.approx(samples.mean((0, 1)).tolist(), abs=2e-6)
        assert list(data["std"].values()) == pytest.approx(samples.std((0, 1)).tolist(), abs=2e-6)


@pytest.mark.parametrize("bins", [2, 7, 100, 256])
def test_a_histogram_is_numpys_and_counts_every_pixel(bins: int) -> None:
    for image in pictures():
        data = found("histogram", image, bins=bins)
        samples = np.atleast_3d(image.pixels)
        top = {"float32": 1.0, "uint8": 256, "uint16": 65_536}[str(samples.dtype)]
        for channel, counts in enumerate(data["counts"].values()):
            assert counts == np.histogram(samples[..., channel], bins, (0, top))[0].tolist()
            assert sum(counts) == image.size.pixels


def test_full_intensity_is_in_the_last_bin() -> None:
    for white in (np.full((2, 2), 255, np.uint8), np.full((2, 2), 65_535, np.uint16), np.ones((2, 2), np.float32)):
        assert found("histogram", Image(white), bins=2)["counts"] == {"gray": [0, 4]}


def test_colors_are_those_that_were_painted() -> None:
    pixels = np.zeros((10, 10, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[:, :5, :3] = (255, 0, 0)
    pixels[:, 5:8, :3] = (0, 0, 255)
    pixels[:, 8:, :3] = (9, 200, 9)
    shares = {"ff0000": 0.5, "0000ff": 0.3, "09c809": 0.2}
    data = found("colors", Image(pixels), k=8)
    assert {item["hex"]: item["share"] for item in data["colors"]} == shares
    assert list(shares) == [item["hex"] for item in data["colors"]]
    assert data["colors"][2]["rgb"] == [9, 200, 9]
    pixels[:, 5:, 3] = 0
    assert [item["hex"] for item in found("colors", Image(pixels))["colors"]] == ["ff0000"]
    pixels[..., 3] = 0
    assert found("colors", Image(pixels)) == {"colors": []}


def bits(left: str, right: str) -> int:
    return (int(left, 16) ^ int(right, 16)).bit_count()


def test_phash_stays_under_size_blur_and_compression_and_tells_pictures_apart(photo: bytes) -> None:
    import skimage

    image = decode(photo).pixels
    own = found("phash", Image(image))["hash"]
    assert len(own) == 16
    small = cv2.GaussianBlur(cv2.resize(image, (300, 200), interpolation=cv2.INTER_AREA), (0, 0), 1)
    _, coarse = cv2.imencode(".jpg", small[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 30])
    assert bits(own, found("phash", decode(coarse.tobytes()))["hash"]) <= 6
    other = Path(skimage.__file__).parent / "data" / "camera.png"
    assert bits(own, found("phash", decode(other.read_bytes()))["hash"]) > 12
    flat = {found("phash", Image(np.full((50, 70), level, np.uint8)))["hash"] for level in (1, 99, 255)}
    assert len(flat) == 1


BASE83 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def linear(level: float) -> float:
    value = level / 255
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def decoded_mean_and_wave(text: str, index: int) -> tuple[list[int], list[float]]:
    """The mean color, and component number ``index`` (from 1), read as the published description of BlurHash has it."""
    numbers = [BASE83.index(character) for character in text]
    mean = numbers[2] * 83**3 + numbers[3] * 83**2 + numbers[4] * 83 + numbers[5]
    pair = numbers[4 + 2 * index] * 83 + numbers[5 + 2 * index]
    levels = [pair // 361, pair // 19 % 19, pair % 19]
    strength = (numbers[1] + 1) / 166
    return [mean >> 16, mean >> 8 & 255, mean & 255], [
        math.copysign(((level - 9) / 9) ** 2, level - 9) * strength for level in levels
    ]


def test_blurhash_of_black_is_the_published_one() -> None:
    black = Image(np.zeros((20, 30, 3), np.uint8))
    assert found("blurhash", black) == {"hash": "L00000fQfQfQfQfQfQfQfQfQfQfQ", "x": 4, "y": 3}
    assert found("blurhash", Image(np.zeros((1, 1), np.float32)), x=1, y=1)["hash"] == "000000"
    assert len(found("blurhash", pictures()[-1], x=9, y=9)["hash"]) == 166


def test_blurhash_reads_back_as_mean_and_waves() -> None:
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[:, :4] = (190, 120, 60)
    pixels[:, 4:] = (90, 120, 150)
    text = found("blurhash", Image(pixels), x=3, y=2)["hash"]
    assert BASE83.index(text[0]) == 2 + 9
    mean, wave = decoded_mean_and_wave(text, 1)
    for channel in range(3):
        row = [linear(pixels[0, x, channel]) for x in range(8)]
        assert linear(mean[channel]) == pytest.approx(sum(row) / 8, abs=0.005)
        expected = sum(2 * value * math.cos(math.pi * x / 8) for x, value in enumerate(row)) / 8
        assert wave[channel] == pytest.approx(expected, abs=0.06)
    down = sum(math.cos(math.pi * y / 6) for y in range(6)) / 6
    means = [2 * down * sum(linear(pixels[0, x, channel]) for x in range(8)) / 8 for channel in range(3)]
    assert decoded_mean_and_wave(text, 3)[1] == pytest.approx(means, abs=0.06)


def test_sharpness_falls_with_blur(photo: bytes) -> None:
    gray = gray8_of(decode(photo).pixels)
    sharp = found("sharpness", Image(gray))
    blurred = found("sharpness", Image(cv2.GaussianBlur(gray, (0, 0), 2)))
    assert sharp["laplacian"] == pytest.approx(cv2.Laplacian(gray, cv2.CV_64F).var(), rel=1e-4)
    gradient = cv2.Sobel(gray, cv2.CV_64F, 1, 0) ** 2 + cv2.Sobel(gray, cv2.CV_64F, 0, 1) ** 2
    assert sharp["tenengrad"] == pytest.approx(gradient.mean(), rel=1e-4)
    assert blurred["laplacian"] < sharp["laplacian"] / 4
    assert blurred["tenengrad"] < sharp["tenengrad"]
    assert found("sharpness", Image(np.full((9, 9), 70, np.uint8))) == {"laplacian": 0.0, "tenengrad": 0.0}


def test_a_pipeline_that_only_analyzes_gives_data_alone(photo: bytes) -> None:
    outcome = Pipeline.parse("info/phash/phash").run(photo)
    assert (outcome.bytes, outcome.format, outcome.media_type, outcome.size) == (None, None, None, None)
    assert list(outcome.data) == ["info", "phash", "phash-2"]
    assert outcome.source_size == (outcome.data["info"]["width"], outcome.data["info"]["height"])
    both = Pipeline.parse("info/format:png").run(photo)
    assert both.format == "png"
    assert both.data["info"] == outcome.data["info"]
    assert Pipeline.parse("resize:32/info").run(photo).data["info"]["width"] == 32


def test_the_family_is_analysis() -> None:
    family = [cls for cls in all_operations() if cls.family == "analysis"]
    assert [cls.name for cls in family] == ANALYSES
    assert {cls().facts().kind for cls in family} == {"analysis"}
