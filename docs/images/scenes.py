"""The pictures that docs/images/operations.py shows operations on: one photograph, and what is drawn here.

The photograph is of NASA (public domain, Eileen Collins, S93-35310), from scikit-image's wheel, as in gallery.py.
Everything is ``uint8`` RGB, and the same on every machine.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage
from numpy.typing import NDArray

from pixelmill.cli import samples
from pixelmill.images.decode import decode

WIDTH, HEIGHT = 288, 192
SEED = 11
QUAD = ((62, 20), (238, 44), (254, 172), (26, 160))
"""Corners of the page that lies askew, clockwise from the upper left: those of the example of `perspective`."""

RGB = NDArray[np.uint8]


def _bytes_of(values: NDArray[Any]) -> RGB:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)


def _reduced(pixels: RGB) -> RGB:
    return np.asarray(cv2.resize(pixels, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


@functools.cache
def photo() -> RGB:
    """An astronaut: skin, saturated colors, fine texture, a face."""
    whole = decode((Path(skimage.__file__).parent / "data" / "astronaut.png").read_bytes()).pixels
    return _reduced(np.ascontiguousarray(whole[10:298, 20:452]).astype(np.uint8))


def soft() -> RGB:
    """The photograph, a little out of focus."""
    return np.asarray(cv2.GaussianBlur(photo(), (0, 0), 1.3), np.uint8)


def noisy() -> RGB:
    """The photograph with the noise of a high ISO."""
    grain = np.random.default_rng(SEED).normal(0, 18, photo().shape)
    return _bytes_of(photo() + grain)


def speckled() -> RGB:
    """The photograph with specks of pure black and white."""
    chance = np.random.default_rng(SEED).random((HEIGHT, WIDTH))
    image = photo().copy()
    image[chance < 0.03], image[chance > 0.97] = 0, 255
    return image


def hazy() -> RGB:
    """The photograph with little contrast."""
    return _bytes_of(photo() * 0.5 + 64)


def dark() -> RGB:
    """The photograph, underexposed."""
    return _bytes_of(255 * (photo() / 255.0) ** 2.2)


def shaded() -> RGB:
    """The photograph, its left half in deep shadow."""
    return _bytes_of(photo() * np.linspace(0.15, 1.0, WIDTH)[None, :, None])


def warm() -> RGB:
    """The photograph below a light bulb."""
    return _bytes_of(photo() * np.array([1.0, 0.8, 0.5]))


def framed() -> RGB:
    """The photograph on a sheet that is not quite even."""
    image = _bytes_of(np.random.default_rng(SEED).normal((196, 186, 160), 1.5, (HEIGHT, WIDTH, 3)))
    image[30:158, 60:252] = cv2.resize(photo(), (192, 128), interpolation=cv2.INTER_AREA)
    return image


def streets() -> RGB:
    """The houses of `pixelmill demo`."""
    return _reduced(samples.streets(2 * WIDTH, 2 * HEIGHT))


def streets_askew() -> RGB:
    """The same houses, turned and smaller, in a dimmer light."""
    turn = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 14, 0.8)
    return _bytes_of(cv2.warpAffine(streets(), turn, (WIDTH, HEIGHT), borderValue=(90, 90, 95)) * 0.85)


def moonrise() -> RGB:
    """One bright thing, away from the middle."""
    return _reduced(samples.night(2 * WIDTH, 2 * HEIGHT))


def sheet() -> RGB:
    """A page of text that was photographed from the side."""
    table = _bytes_of(samples.marble(WIDTH, HEIGHT) * np.array([0.5, 0.36, 0.26]))
    page = np.full((420, 600, 3), 250, np.uint8)
    cv2.putText(page, "Pixelmill", (40, 90), cv2.FONT_HERSHEY_DUPLEX, 2.4, (150, 40, 30), 5, cv2.LINE_AA)
    for row, text in enumerate(("Image pipelines over", "one image or a million", "decode, apply, encode")):
        cv2.putText(page, text, (40, 180 + 84 * row), cv2.FONT_HERSHEY_SIMPLEX, 1.4, (40, 40, 50), 4, cv2.LINE_AA)
    corners = np.array([(0, 0), (600, 0), (600, 420), (0, 420)], np.float32)
    edges = np.array(QUAD, np.float32)
    edges += 2.5 * np.sign(edges - edges.mean(0))  # so that the example cuts within the page, not along its edge
    warp = cv2.getPerspectiveTransform(corners, edges.astype(np.float32))
    laid = cv2.warpPerspective(page, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    there = cv2.warpPerspective(np.full(page.shape[:2], 255, np.uint8), warp, (WIDTH, HEIGHT))[..., None] / 255.0
    light = np.linspace(1.0, 0.7, WIDTH)[None, :, None]
    return _bytes_of((there * laid + (1 - there) * table) * light)


def coins() -> RGB:
    """Round things on a table, some of which touch."""
    image = np.full((HEIGHT, WIDTH, 3), (38, 44, 58), np.float64)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    places = ((50, 52, 30), (104, 66, 27), (86, 118, 29), (170, 44, 24), (222, 60, 32), (200, 122, 33), (258, 140, 26))
    for number, (cx, cy, radius) in enumerate((*places, (36, 150, 24), (142, 152, 25))):
        color = np.array(((222, 180, 70), (200, 200, 208), (205, 128, 75))[number % 3], np.float64)
        distance = np.hypot(x - cx, y - cy)
        shade = 0.82 + 0.2 * (cx - x + cy - y) / (2 * radius) - 0.1 * (np.abs(distance - radius + 5) < 1.5)
        cover = np.clip(radius - distance, 0, 1)[..., None]
        image = image * (1 - cover) + color * shade[..., None] * cover
    return _bytes_of(image + np.random.default_rng(SEED).normal(0, 3, image.shape))


def letters() -> RGB:
    """White letters on black, with specks around and holes in them."""
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.putText(image, "Mill", (22, 134), cv2.FONT_HERSHEY_DUPLEX, 4.2, (255, 255, 255), 16, cv2.LINE_AA)
    rng = np.random.default_rng(SEED)
    for light in (0, 255):
        for x, y in zip(rng.integers(0, WIDTH, 160), rng.integers(0, HEIGHT, 160), strict=True):
            cv2.circle(image, (int(x), int(y)), 1, (light, light, light), -1)
    return image


def shapes() -> RGB:
    """Two blue squares on paper: what the tiny captioner of the tests knows."""
    image = np.full((HEIGHT, WIDTH, 3), (240, 244, 236), np.uint8)
    for x, y in ((75, 50), (225, 150)):
        cv2.rectangle(image, (x - 54, y - 37), (x + 54, y + 37), (40, 70, 220), -1)
    return image


def fruit() -> RGB:
    """An orange in front of leaves that are out of focus: an object to cut out."""
    image = cv2.GaussianBlur(samples.leaves(WIDTH, HEIGHT), (0, 0), 7).astype(np.float64)
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    distance = np.hypot(x - 144, y - 100) / 66
    light = np.clip(1.05 - 0.6 * np.hypot(x - 118, y - 70) / 110, 0, 1)[..., None]
    skin = np.array([250, 150, 30]) * light + np.random.default_rng(SEED).normal(0, 5, (HEIGHT, WIDTH, 1))
    cover = np.clip((1 - distance) * 66, 0, 1)[..., None]
    return _bytes_of(image * (1 - cover) + skin * cover)


def codes() -> RGB:
    """A QR code and a barcode (EAN-13) on one label, 576×384."""
    image = np.full((2 * HEIGHT, 2 * WIDTH, 3), (214, 196, 160), np.uint8)
    cv2.rectangle(image, (16, 16), (560, 368), (255, 255, 255), -1)
    square = cv2.QRCodeEncoder.create().encode("pixelmill")
    side = 168 // square.shape[0] * square.shape[0]
    image[40 : 40 + side, 48 : 48 + side] = cv2.resize(square, (side, side), interpolation=cv2.INTER_NEAREST)[..., None]
    bars = np.repeat(_ean13("400638133393"), 3)
    image[232:344, 200 : 200 + bars.size] = np.where(bars, 0, 255).astype(np.uint8)[None, :, None]
    cv2.putText(image, "Orange marmalade", (234, 110), cv2.FONT_HERSHEY_DUPLEX, 0.95, (190, 90, 20), 2, cv2.LINE_AA)
    cv2.putText(image, "No. 7", (234, 170), cv2.FONT_HERSHEY_DUPLEX, 1.05, (60, 60, 60), 2, cv2.LINE_AA)
    return image


def _ean13(digits: str) -> NDArray[np.int64]:
    """The 95 modules of a barcode (GS1 General Specifications, 5.2.1), 1 for dark, from its first twelve digits."""
    total = sum(int(digit) * (1, 3)[place % 2] for place, digit in enumerate(digits))
    left = (
        "0001101",
        "0011001",
        "0010011",
        "0111101",
        "0100011",
        "0110001",
        "0101111",
        "0111011",
        "0110111",
        "0001011",
    )
    right = [code.translate(str.maketrans("01", "10")) for code in left]
    sets = ("LLLLLL", "LLGLGG", "LLGGLG", "LLGGGL", "LGLLGG", "LGGLLG", "LGGGLL", "LGLGLG", "LGLGGL", "LGGLGL")
    first, *others = [int(digit) for digit in digits + str(-total % 10)]
    halves = [left[d] if kind == "L" else right[d][::-1] for d, kind in zip(others[:6], sets[first], strict=True)]
    return np.array([int(bit) for bit in f"101{''.join(halves)}01010{''.join(right[d] for d in others[6:])}101"])


def logo() -> RGB:
    """A mark with transparency, RGBA: four sails of a mill on a disc."""
    mark = np.zeros((160, 160, 4), np.uint8)
    cv2.circle(mark, (80, 80), 76, (255, 255, 255, 235), -1, cv2.LINE_AA)
    for quarter in range(4):
        turn = np.pi / 2 * quarter + 0.35
        along, across = np.array([np.cos(turn), np.sin(turn)]), np.array([-np.sin(turn), np.cos(turn)])
        sail = 80 + np.array([(0, 0) * along, 62 * along, 62 * along + 22 * across, 14 * along + 22 * across])
        cv2.fillPoly(mark, [sail.round().astype(np.int32)], (190, 60, 30, 255), cv2.LINE_AA)
    return mark


SCENES: Mapping[str, Callable[[], RGB]] = {
    scene.__name__: scene
    for scene in (
        *(photo, soft, noisy, speckled, hazy, dark, shaded, warm, framed),
        *(streets, streets_askew, moonrise, sheet, coins, letters, shapes, fruit, codes),
    )
}
"""Every scene, by name."""
