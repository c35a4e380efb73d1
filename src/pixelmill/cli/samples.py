"""A dozen sample images drawn by the program: no download, no licence, the same on every machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

RGB: TypeAlias = NDArray[np.uint8]
"""``H×W×3``, as everywhere; turned to OpenCV's order only when it is written."""

SEED = 7


@dataclass(frozen=True, slots=True)
class Sample:
    """One picture: file name (its extension is its format), width and height in pixels, and what draws it."""

    name: str
    width: int
    height: int
    draw: Callable[[int, int], RGB]


def _grid(width: int, height: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coordinates from 0 to 1, each ``H×W``."""
    y, x = np.mgrid[0:height, 0:width]
    return x / max(1, width - 1), y / max(1, height - 1)


def _rgb(red: Any, green: Any, blue: Any) -> RGB:
    """Planes of 0 to 1 as pixels."""
    planes = np.stack(np.broadcast_arrays(red, green, blue), axis=-1)
    return np.clip(planes * 255 + 0.5, 0, 255).astype(np.uint8)


def _noise(width: int, height: int, cell: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Smooth noise from 0 to 1 whose blobs are about ``cell`` pixels wide."""
    coarse = rng.random((height // cell + 2, width // cell + 2)).astype(np.float32)
    return np.asarray(cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC), np.float64)


def _fractal(width: int, height: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise in five octaves, 0 to 1."""
    total = sum(_noise(width, height, max(2, min(width, height) >> octave), rng) / 2**octave for octave in range(1, 6))
    field = np.asarray(total)
    scaled: NDArray[np.float64] = (field - field.min()) / (np.ptp(field) or 1.0)
    return scaled


def sunrise(width: int, height: int) -> RGB:
    """A gradient sky with a sun over water."""
    x, y = _grid(width, height)
    glow = np.exp(-8 * ((x - 0.5) ** 2 * (width / height) ** 2 + (y - 0.55) ** 2))
    image = _rgb(0.25 + 0.5 * y + glow, 0.2 + 0.25 * y + 0.6 * glow, 0.5 - 0.3 * y + 0.15 * glow)
    cv2.circle(image, (width // 2, int(height * 0.55)), height // 12, (255, 244, 200), -1, cv2.LINE_AA)
    water = int(height * 0.62)
    waves = 0.75 + 0.25 * np.sin(60 * (y[water:] ** 2) + 9 * np.sin(11 * x[water:]))
    image[water:] = (image[2 * water - height : water][::-1][: height - water] * waves[..., None]).astype(np.uint8)
    return image


def hills(width: int, height: int) -> RGB:
    """Ridges that fade with distance."""
    x, y = _grid(width, height)
    image = _rgb(0.65 + 0.3 * y, 0.78 + 0.15 * y, 0.95 - 0.1 * y)
    rng = np.random.default_rng(SEED)
    for layer in range(6):
        ridge = 0.35 + 0.1 * layer + 0.06 * np.interp(x[0], np.linspace(0, 1, 9), rng.standard_normal(9))
        shade = 1 - layer / 7
        image[y > ridge] = (int(70 * shade + 20), int(105 * shade + 30), int(110 * shade + 20))
    return image


def shapes(width: int, height: int) -> RGB:
    """Discs, boxes and triangles with soft edges."""
    rng = np.random.default_rng(SEED + 1)
    image = np.full((height, width, 3), 245, np.uint8)
    for _ in range(60):
        color = tuple(int(part) for part in rng.integers(20, 230, 3))
        cx, cy, r = (int(rng.integers(0, most)) for most in (width, height, max(12, height // 6)))
        match int(rng.integers(3)):
            case 0:
                cv2.circle(image, (cx, cy), r, color, -1, cv2.LINE_AA)
            case 1:
                cv2.rectangle(image, (cx, cy), (cx + r, cy + r // 2), color, -1)
            case _:
                corners = np.array([[cx, cy - r], [cx - r, cy + r], [cx + r, cy + r]], np.int32)
                cv2.fillPoly(image, [corners], color, cv2.LINE_AA)
    return image


def page(width: int, height: int) -> RGB:
    """A page of text, as a scanner sees it."""
    image = np.full((height, width, 3), 250, np.uint8)
    lines = ("Pixelmill", "image pipelines over one image or a million", "decode - apply - encode", "0123456789")
    step = max(18, height // 28)
    for row, top in enumerate(range(2 * step, height - step, step)):
        text = " ".join(lines[(row + k) % len(lines)] for k in range(3))
        cv2.putText(image, text, (step, top), cv2.FONT_HERSHEY_SIMPLEX, step / 42, (30, 30, 40), 1, cv2.LINE_AA)
    grain = np.random.default_rng(SEED + 2).normal(0, 5, image.shape[:2])
    return np.clip(image + grain[..., None], 0, 255).astype(np.uint8)


def clouds(width: int, height: int) -> RGB:
    """White on blue, from noise in octaves."""
    field = np.clip((_fractal(width, height, np.random.default_rng(SEED + 3)) - 0.35) * 1.8, 0, 1)
    return _rgb(0.25 + 0.75 * field, 0.5 + 0.5 * field, 0.85 + 0.15 * field)


def marble(width: int, height: int) -> RGB:
    """Veins: a sine bent by noise."""
    x, y = _grid(width, height)
    veins = np.abs(np.sin(9 * (x + y) + 7 * _fractal(width, height, np.random.default_rng(SEED + 4)))) ** 0.4
    return _rgb(0.9 * veins, 0.88 * veins, 0.86 * veins + 0.05)


def plasma(width: int, height: int) -> RGB:
    """Sums of sines: saturated colors, smooth everywhere."""
    x, y = _grid(width, height)
    wave = np.sin(9 * x) + np.sin(7 * y + 3 * x) + np.sin(13 * np.hypot(x - 0.4, y - 0.6))
    return _rgb(0.5 + 0.5 * np.sin(wave), 0.5 + 0.5 * np.sin(wave + 2), 0.5 + 0.5 * np.sin(wave + 4))


def checker(width: int, height: int) -> RGB:
    """A chessboard with a lens over it: hard edges for `canny`."""
    x, y = _grid(width, height)
    dx, dy = x - 0.5, (y - 0.5) * height / width
    pull = 1 - 0.6 * np.exp(-18 * (dx**2 + dy**2))
    board = (np.floor(dx * pull * 18) + np.floor(dy * pull * 18)) % 2
    return _rgb(0.1 + 0.8 * board, 0.12 + 0.75 * board, 0.2 + 0.6 * board)


def night(width: int, height: int) -> RGB:
    """Stars and a moon: nearly all of it dark."""
    rng = np.random.default_rng(SEED + 5)
    _, y = _grid(width, height)
    image = _rgb(0.02 + 0.03 * y, 0.02 + 0.05 * y, 0.08 + 0.12 * y)
    for _ in range(width * height // 2_500):
        at = (int(rng.integers(width)), int(rng.integers(height)))
        light = int(rng.integers(90, 255))
        cv2.circle(image, at, int(rng.integers(0, 2)), (light, light, min(255, light + 15)), -1, cv2.LINE_AA)
    cv2.circle(image, (int(width * 0.75), height // 4), height // 9, (235, 232, 215), -1, cv2.LINE_AA)
    return image


def streets(width: int, height: int) -> RGB:
    """Houses with windows, some of them lit."""
    rng = np.random.default_rng(SEED + 6)
    x, y = _grid(width, height)
    image = _rgb(0.95 - 0.3 * y, 0.75 - 0.2 * y, 0.6 + 0.1 * x)
    left = 0
    while left < width:
        wide, tall = int(width * rng.uniform(0.06, 0.14)), int(height * rng.uniform(0.3, 0.75))
        shade = int(rng.integers(50, 120))
        cv2.rectangle(image, (left, height - tall), (left + wide, height), (shade, shade - 10, shade + 10), -1)
        gap = max(6, wide // 6)
        for row in range(height - tall + gap, height - gap, 2 * gap):
            for column in range(left + gap, left + wide - gap, 2 * gap):
                lit = (255, 225, 140) if rng.random() < 0.4 else (35, 35, 50)
                cv2.rectangle(image, (column, row), (column + gap // 2, row + gap), lit, -1)
        left += wide + 2
    return image


def rings(width: int, height: int) -> RGB:
    """A zone plate: every frequency up to the finest, to see what resizing does."""
    x, y = _grid(width, height)
    radius = (x - 0.5) ** 2 + ((y - 0.5) * height / width) ** 2
    wave = 0.5 + 0.5 * np.cos(np.pi * width * radius)
    return _rgb(wave, wave, wave)


def leaves(width: int, height: int) -> RGB:
    """Overlapping ellipses in greens: fine texture."""
    rng = np.random.default_rng(SEED + 7)
    image = np.full((height, width, 3), (24, 48, 22), np.uint8)
    for _ in range(width * height // 1_500):
        axes = (int(rng.integers(8, 40)), int(rng.integers(3, 14)))
        color = (int(rng.integers(30, 120)), int(rng.integers(90, 200)), int(rng.integers(20, 80)))
        at = (int(rng.integers(width)), int(rng.integers(height)))
        cv2.ellipse(image, at, axes, float(rng.integers(180)), 0, 360, color, -1, cv2.LINE_AA)
    return image


SAMPLES: Sequence[Sample] = (
    Sample("sunrise.jpg", 1600, 1000, sunrise),
    Sample("hills.jpg", 2400, 1350, hills),
    Sample("shapes.png", 1024, 768, shapes),
    Sample("page.png", 1240, 1754, page),
    Sample("clouds.jpg", 2000, 1500, clouds),
    Sample("marble.webp", 1200, 1200, marble),
    Sample("plasma.webp", 1280, 720, plasma),
    Sample("checker.png", 900, 900, checker),
    Sample("night.jpg", 1920, 1080, night),
    Sample("streets.jpg", 1500, 997, streets),
    Sample("rings.png", 800, 800, rings),
    Sample("leaves.jpg", 1200, 800, leaves),
)


# WebP above 100 is lossless in OpenCV, and slow.
_OPTIONS = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 90], ".webp": [cv2.IMWRITE_WEBP_QUALITY, 85]}


def draw_all(folder: Path) -> Iterator[Path]:
    """Draw and write the samples into a folder that exists; yields each file as it is done."""
    for sample in SAMPLES:
        pixels = sample.draw(sample.width, sample.height)
        path = folder / sample.name
        done, data = cv2.imencode(path.suffix, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), _OPTIONS.get(path.suffix, []))
        if not done:
            raise RuntimeError(f"OpenCV could not write {path.suffix}")
        path.write_bytes(data.tobytes())
        yield path
