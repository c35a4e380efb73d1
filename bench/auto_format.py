"""``format:auto`` against JPEG of quality 80: bytes, likeness, and CPU time, on photographs and on drawings.

Likeness is the structural similarity of ``auto_quality.py`` (1 is the same picture). Photographs are shrunk to a width
and height of at most 1600 and 400; drawings are made here.

``PIXELMILL_TEST_ASSETS=/path/to/assets PYTHONPATH=src:bench python bench/auto_format.py``
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pil
from PIL import ImageDraw, ImageFont

from auto_quality import ssim
from pixelmill import Pipeline
from pixelmill.images.decode import decode
from pixelmill.images.image import Image

FORMS = {
    "jpeg:80": "format:jpeg,quality=80",
    "auto": "format:auto",
    "auto, jpeg:png": "format:auto,accept=jpeg:png",
    "auto, with avif": "format:auto,accept=jpeg:png:webp:avif",
}


def photographs(folder: Path, side: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Names and pixels, in color."""
    for path in sorted(folder.glob("*.jpg")):
        done = Pipeline.parse(f"resize:{side},{side},fit=inside/format:png").run(path)
        pixels = decode(done.bytes or b"").pixels
        yield path.stem, pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)


def drawings() -> Iterator[tuple[str, NDArray[Any]]]:
    """A chart, a sign, a page of text with buttons, a gradient, thin circles, a checkerboard."""
    random = np.random.default_rng(1)

    def canvas(width: int, height: int, color: str) -> tuple[Pil.Image, ImageDraw.ImageDraw]:
        picture = Pil.new("RGB", (width * 4, height * 4), color)
        return picture, ImageDraw.Draw(picture)

    def color() -> tuple[int, ...]:
        return tuple(int(value) for value in random.integers(0, 255, 3))

    def soft(picture: Pil.Image) -> NDArray[Any]:
        return np.array(picture.resize((picture.width // 4, picture.height // 4), Pil.Resampling.LANCZOS))

    picture, draw = canvas(640, 400, "white")
    for index in range(12):
        left = 200 + index * 180
        draw.rectangle([left, 1500 - int(random.integers(100, 1300)), left + 130, 1500], fill=color())
    yield "chart", soft(picture)
    picture, draw = canvas(256, 256, "#204080")
    draw.ellipse([100, 100, 900, 900], fill="#f0a020")
    draw.polygon([(512, 200), (800, 760), (220, 760)], fill="white")
    yield "sign", soft(picture)
    picture, draw = canvas(800, 600, "#f4f4f6")
    text = "The quick brown fox jumps over the lazy dog. 0123456789"
    for line in range(14):
        draw.text((160, 320 + line * 140), text, fill="#222222", font=ImageFont.load_default(56))
        draw.rounded_rectangle([2600, 300 + line * 140, 3000, 400 + line * 140], 40, fill="#3b82f6")
    yield "page of text", soft(picture)
    ramp = np.linspace(0, 255, 600)[np.newaxis, :, np.newaxis] * np.array([1, 0.5, 0.2])
    yield "gradient", np.repeat(ramp, 400, axis=0).astype(np.uint8)
    picture, draw = canvas(512, 512, "black")
    for _ in range(60):
        (x, y), radius = random.integers(0, 2000, 2), int(random.integers(60, 400))
        draw.ellipse([int(x) - radius, int(y) - radius, int(x) + radius, int(y) + radius], outline=color(), width=12)
    yield "thin circles", soft(picture)
    board = np.zeros((300, 300, 3), np.uint8)
    board[::2, ::2] = 255
    yield "checkerboard", board


def measured(pixels: NDArray[Any], form: str) -> tuple[str, int, float, float]:
    """Format, bytes, likeness, and CPU milliseconds."""
    pipeline = Pipeline.parse(form)
    start = time.process_time()
    outcome = pipeline.run(Image(pixels))
    spent = (time.process_time() - start) * 1e3
    again: NDArray[Any] = decode(outcome.bytes or b"").pixels
    again = np.dstack([again] * 3) if again.ndim == 2 else np.ascontiguousarray(again[..., :3])
    return str(outcome.format), len(outcome.bytes or b""), ssim(pixels, again), spent


def table(title: str, pictures: Iterator[tuple[str, NDArray[Any]]], *, each: bool) -> None:
    """A row a picture where ``each``, and the sums."""
    cv2.setNumThreads(1)
    rows = [(name, [measured(pixels, form) for form in FORMS.values()]) for name, pixels in pictures]
    print(f"\n{title}\n| | " + " | ".join(FORMS) + " |\n|---|" + "---|" * len(FORMS))
    for name, cells in rows if each else []:
        print(f"| {name} | " + " | ".join(f"{fmt} {size:,} ({like:.3f})" for fmt, size, like, _ in cells) + " |")
    columns = list(zip(*(cells for _, cells in rows), strict=True))
    print("| bytes, all | " + " | ".join(f"{sum(cell[1] for cell in column):,}" for column in columns) + " |")
    print(
        "| likeness, median | "
        + " | ".join(f"{statistics.median(cell[2] for cell in column):.4f}" for column in columns)
        + " |"
    )
    print(
        "| CPU ms a picture | "
        + " | ".join(f"{np.mean([cell[3] for cell in column]):.0f}" for column in columns)
        + " |"
    )
    larger = [sum(a[1] > b[1] for a, b in zip(column, columns[0], strict=True)) for column in columns]
    print("| larger than jpeg:80 | " + " | ".join(f"{count} of {len(rows)}" for count in larger) + " |")


if __name__ == "__main__":
    folder = Path(os.environ["PIXELMILL_TEST_ASSETS"]) / "photos"
    table("Photographs, at most 1600 pixels a side", photographs(folder, 1600), each=False)
    table("Photographs, at most 400 pixels a side", photographs(folder, 400), each=False)
    table("Drawings", drawings(), each=True)
