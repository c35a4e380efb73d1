"""Makes docs/images/operations/NAME.webp: every operation before and after, by the program itself.

    python docs/images/operations.py [NAME...]

What is shown is the example of docs/operations.md (``EXAMPLES``) on the scene that ``SCENE`` names; an operation
without a line there is shown on the photograph, and needs none. Where the outcome is data alone, it stands in the
picture. tests/operations/test_pictures.py holds the pictures up to date, by pixels. Learned operations need weights:
``PIXELMILL_TEST_ASSETS`` names the folder of test assets, which has them in ``models``; captions are those of the tiny
captioner that the tests train.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import json
import os
import re
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.encode import encode
from pixelmill.images.image import Image
from pixelmill.models.folder import ModelFolder
from pixelmill.models.sessions import Sessions
from pixelmill.operations.reference import EXAMPLES, FORMAT_EXAMPLES
from pixelmill.operations.table import TABLE, operation_named
from pixelmill.pipelines.outcome import Outcome
from pixelmill.pipelines.spec import Pipeline
from scenes import HEIGHT, SCENES, WIDTH, logo, streets_askew
from weights import INSTEAD, make_folder, tiny_captioner

ASSETS: Path | None = None
"""The folder of test assets, where the variable does not name it."""
FOLDER = Path(__file__).with_name("operations")
GAP, CAPTION = 8, 18
PAPER = 246
"""Gray of what lies below pictures that don't fill their place, and of data."""

SCENE: Mapping[str, str] = {
    **dict.fromkeys(("erode", "dilate", "opening", "closing", "morph_gradient"), "letters"),
    **dict.fromkeys(("watershed", "components"), "coins"),
    **dict.fromkeys(("sharpen", "unsharp"), "soft"),
    **dict.fromkeys(("features", "match"), "streets"),
    "autocontrast": "hazy",
    "bilateral": "noisy",
    "clahe": "shaded",
    "codes": "codes",
    "denoise": "noisy",
    "equalize": "hazy",
    "gamma": "dark",
    "grabcut": "fruit",
    "remove_background": "fruit",
    "classify": "fruit",
    "auto_tag": "fruit",
    "caption": "shapes",
    "median": "speckled",
    "perspective": "sheet",
    "smart_crop": "moonrise",
    "threshold": "sheet",
    "trim": "framed",
    "white_balance": "warm",
}
"""Where another scene than the photograph shows it better."""

FORMATS = {f"format-{name}": text for name, text in FORMAT_EXAMPLES.items()}
"""Output steps; a detail is shown, three times enlarged."""
DETAIL = "crop:110,12,96,64/"


def second_images(pipeline: Pipeline) -> dict[str, Image]:
    """What stands for each image that the pipeline refers to: a mark, or another view of the same motif."""
    return {name: Image(logo() if "logo" in name else streets_askew()) for name in pipeline.image_references}


def learned(name: str) -> bool:
    """Whether an operation's picture needs weights."""
    return name in TABLE and operation_named(name).family == "learned"


@functools.cache
def models(assets: Path | None = None) -> Sessions:
    """The weights of the test assets, but for YuNet: faces are shown as a fresh installation finds them."""
    folder = Path(tempfile.mkdtemp(prefix="pixelmill-pictures-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    if importlib.util.find_spec("torch") is not None:
        shutil.copytree(tiny_captioner().checkpoint(), folder / "shapes")
    assets = assets or Path(os.environ.get("PIXELMILL_TEST_ASSETS", "none"))
    if (assets / "models").is_dir():
        make_folder(assets / "models", folder)
        (folder / "yunet.onnx").unlink()
    return Sessions(ModelFolder(folder), threads=1)


def outcome(text: str, source: NDArray[Any]) -> Outcome:
    """The pipeline's outcome; an image is PNG where the text does not name a format."""
    pipeline = Pipeline.parse(text)
    if pipeline.output.format is None and not _only_data(pipeline):
        pipeline = pipeline.format("png")
    pipeline = replace(pipeline, operations=tuple(item.with_models(INSTEAD) for item in pipeline.operations))
    return pipeline.run(Image(source), images=second_images(pipeline), models=models(ASSETS))


def _only_data(pipeline: Pipeline) -> bool:
    return all(operation.facts().kind == "analysis" for operation in pipeline.operations)


def panel(pixels: NDArray[Any], caption: str = "") -> NDArray[np.uint8]:
    """``pixels`` in the middle of a place of ``HEIGHT×WIDTH×3``: reduced to fit, never enlarged; alpha on a checker.

    A caption stands below.
    """
    room = HEIGHT - CAPTION if caption else HEIGHT
    fitted = outcome(f"resize:{WIDTH},{room}", pixels).image.pixels
    color = cv2.cvtColor(fitted, cv2.COLOR_GRAY2RGB) if fitted.ndim == 2 else fitted
    height, width = color.shape[:2]
    if color.shape[2] == 4:
        y, x = np.mgrid[0:height, 0:width] // 8
        below = np.where((x + y) % 2, 255, 205)[..., None]
        alpha = color[..., 3:] / 255.0
        color = (color[..., :3] * alpha + below * (1 - alpha) + 0.5).astype(np.uint8)
    place = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    top, left = (room - height) // 2, (WIDTH - width) // 2
    place[top : top + height, left : left + width] = color
    if caption:
        place[room:] = written(caption)[2 : 2 + CAPTION]
    return place


def written(text: str, lines: int = 14) -> NDArray[np.uint8]:
    """Text on paper, at most so many lines of it, by the operation of that name."""
    rows = [part for line in text.splitlines() for part in textwrap.wrap(line, 44, subsequent_indent="  ") or [""]]
    shown = "\n".join(rows[:lines] if len(rows) <= lines else [*rows[: lines - 1], "..."])
    paper = Image(np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8))
    inked = Pipeline().text(shown, font_size=12, color="202028", position="top-left", margin=0.03, wrap=False)
    return np.asarray(inked.format("png").run(paper).image.pixels, np.uint8)


def found(data: Mapping[str, Any]) -> str:
    """What was found beside an image, on one line: single values, and the texts of codes."""
    texts = [f"{code['type']}: {code['text']}" for code in data.get("codes", ())]
    single = {key: value for key, value in data.items() if type(value) in (int, float)}
    return ", ".join(texts or [f"{key}: {_short(value)}" for key, value in single.items()])


def _short(value: Any) -> str:
    return f"{value:.3g}" if type(value) is float else str(value)


def shown_data(name: str, data: Mapping[str, Any]) -> NDArray[np.uint8]:
    """What was found, drawn where that says more than its text."""
    drawn = DRAWN.get(name)
    if drawn is not None:
        return drawn(data)
    text = json.dumps(data, indent=1, ensure_ascii=False)
    # A list of numbers on one line: rounded, and without line breaks between them.
    text = re.sub(r"\[[^\[\]{}]*\]", lambda part: " ".join(part[0].split()).replace("[ ", "[").replace(" ]", "]"), text)
    return written(re.sub(r"^[{}\s,]*$\n?|[\"]|,$| \{$", "", text, flags=re.MULTILINE))


def histogram(data: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Bars of each channel, one over the other."""
    image = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    channels = {name: values for name, values in data["counts"].items() if name != "alpha"}
    top = max(max(values) for values in channels.values())
    inks = {"red": (220, 60, 50), "green": (50, 160, 60), "blue": (50, 90, 220)}
    for row, (name, values) in enumerate(channels.items()):
        foot, tall = (row + 1) * HEIGHT // len(channels) - 4, HEIGHT // len(channels) - 10
        step = (WIDTH - 16) / len(values)
        for place, value in enumerate(values):
            left, right = 8 + round(place * step), 8 + round((place + 1) * step) - 2
            high = foot - round(tall * value / top)
            cv2.rectangle(image, (left, high), (right, foot), inks.get(name, (60, 60, 60)), -1)
    return image


def swatches(data: Mapping[str, Any]) -> NDArray[np.uint8]:
    """Each color with its number, as wide as its part."""
    image = written("\n\n\n\n\n\n\n" + "\n".join(f"{item['hex']}   {item['share']:.0%}" for item in data["colors"]))
    left = 8.0
    for item in data["colors"]:
        red, green, blue = bytes.fromhex(item["hex"])
        right = left + (WIDTH - 16) * item["share"]
        cv2.rectangle(image, (round(left), 8), (round(right) - 1, 92), (red, green, blue), -1)
        left = right
    return image


def bits(data: Mapping[str, Any]) -> NDArray[np.uint8]:
    """The 64 bits as a square of 8 by 8, and the hash below."""
    image = np.full((HEIGHT, WIDTH, 3), PAPER, np.uint8)
    image[-CAPTION:] = written(data["hash"])[2 : 2 + CAPTION]
    square = np.unpackbits(np.frombuffer(bytes.fromhex(data["hash"]), np.uint8)).reshape(8, 8) * 225 + 15
    image[10:154, 72:216] = cv2.resize(square, (144, 144), interpolation=cv2.INTER_NEAREST)[..., None]
    return image


DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz#$%*+,-.:;=?@[]^_{|}~"


def placeholder(data: Mapping[str, Any]) -> NDArray[np.uint8]:
    """What a page draws for a BlurHash (https://github.com/woltapp/blurhash/blob/master/Algorithm.md), and its text."""
    text, across, down = data["hash"], data["x"], data["y"]

    def number(part: str) -> int:
        return sum(DIGITS.index(digit) * 83**place for place, digit in enumerate(reversed(part)))

    def light(value: int) -> float:
        return value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4

    largest, mean = (number(text[1]) + 1) / 166, number(text[2:6])
    waves = [np.array([light(mean >> shift & 255) for shift in (16, 8, 0)])]
    for at in range(6, len(text), 2):
        value = number(text[at : at + 2])
        parts = np.array([value // 361, value // 19 % 19, value % 19]) / 9 - 1
        waves.append(np.sign(parts) * parts**2 * largest)
    x = np.cos(np.pi * np.outer(np.arange(across), np.arange(WIDTH)) / WIDTH)
    y = np.cos(np.pi * np.outer(np.arange(down), np.arange(HEIGHT)) / HEIGHT)
    linear = np.einsum("jy,jic,ix->yxc", y, np.reshape(waves, (down, across, 3)), x).clip(0, 1)
    srgb = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    image: NDArray[np.uint8] = (srgb * 255).astype(np.uint8)
    image[164:] = PAPER
    for row, line in enumerate(textwrap.wrap(text, 32)):
        cv2.putText(image, line, (8, 176 + 12 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.36, (32, 32, 40), 1, cv2.LINE_AA)
    return image


DRAWN = {"histogram": histogram, "colors": swatches, "phash": bits, "blurhash": placeholder}


def scene_of(name: str) -> NDArray[np.uint8]:
    """What the operation or output step is shown on."""
    return SCENES[SCENE.get(name, "photo")]()


def after(name: str) -> NDArray[np.uint8]:
    """The right half."""
    if name in FORMATS:
        return _enlarged(outcome(DETAIL + FORMATS[name], scene_of(name)).image.pixels)
    done = outcome(EXAMPLES[name][0], scene_of(name))
    if done.bytes is None:
        return shown_data(name, done.data[name])
    return panel(done.image.pixels, found(done.data.get(name, {})))


def before(name: str) -> NDArray[np.uint8]:
    """The left half."""
    if name in FORMATS:
        return _enlarged(outcome(f"{DETAIL}format:png", scene_of(name)).image.pixels)
    return panel(scene_of(name))


def _enlarged(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    grown = f"resize:{WIDTH},{HEIGHT},fit=fill,interpolation=nearest"
    return panel(outcome(grown, pixels).image.pixels)


def picture(name: str) -> NDArray[np.uint8]:
    """Before and after, ``HEIGHT×(2·WIDTH+GAP)×3``."""
    gap = np.full((HEIGHT, GAP, 3), 255, np.uint8)
    return np.asarray(np.hstack((before(name), gap, after(name))), np.uint8)


def names() -> Iterator[str]:
    """Everything that has a picture: each operation, and output steps that change pixels."""
    yield from TABLE
    yield from FORMATS


def main() -> None:
    """Write the pictures: all of them, or those named."""
    FOLDER.mkdir(exist_ok=True)
    for name in sys.argv[1:] or names():
        body = encode(Image(picture(name)), "webp", {"quality": 82, "effort": 6})
        (FOLDER / f"{name}.webp").write_bytes(body)
    if not sys.argv[1:]:
        for path in FOLDER.iterdir():
            if path.stem not in set(names()):
                path.unlink()


if __name__ == "__main__":
    main()
