"""``format:auto``: which format a picture is written in, by what is in it and how large it gets.

Owns the look at the final pixels, the candidates, the one scale of quality, and the choice. A small picture is written
as every candidate and the smallest file is taken; of a large one only the best kind by rule, and JPEG beside it, which
costs a third of WebP. Lossless where it was drawn, unless that takes over three times the bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pixelmill.images.encode import encode
from pixelmill.images.encoders import AutoOptions
from pixelmill.images.formats import FORMATS
from pixelmill.images.image import Image, Size
from pixelmill.images.indexed import distinct, packed
from pixelmill.images.samples import to_uint8

SMALL = 512 * 512
"""Pixels up to which every candidate is written."""
SAMPLE = 512
"""Rows, and columns, of the part that is looked at."""
PALETTE = 256
DRAWN_COLORS = 16
"""Colors up to which a picture counts as drawn: a gray photograph has 256 at most, a scan of text some fifty."""
DRAWN_SAME, DRAWN_SOFT = 0.5, 0.6
"""Drawn is where at least this share of neighbors is the same, and at most this share of the others nearly the same.

Measured: drawings have 0.58 to 0.92 of the first and 0 to 0.57 of the second; photographs with as many equal neighbors
(0.50 to 0.78: a product before white, a sky) have 0.90 to 0.99 of the second.
"""
SMOOTH_SAME = 0.4
"""From this share of equal neighbors on a small picture is tried lossless too."""
MOVING = ("webp", "gif", "png")
"""What an animation is written in, the best first."""
NEAR = 8
"""Levels by which neighbors differ that are nearly the same."""
PATIENCE = 3.0
"""How many times the bytes of a lossy file a drawing may take to stay as it is."""

_QUALITY: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "webp": ((1, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 100), (1, 27, 39, 48, 61, 74, 79, 82, 86, 90, 96, 100)),
    "avif": ((1, 30, 40, 50, 60, 70, 75, 80, 85, 90, 95, 100), (15, 38, 43, 48, 50, 55, 59, 64, 69, 79, 88, 100)),
}
"""JPEG's quality and the one with the same structural similarity, from 30 to 95 the median over photographs
(``bench/auto_quality.py``)."""


class Candidate(NamedTuple):
    """One way to write a picture."""

    format: str
    options: Mapping[str, Any]
    lossless: bool


class Chosen(NamedTuple):
    """The format that was taken, and the file."""

    format: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Look:
    """What the choice depends on.

    ``transparent``: some pixel is not opaque. ``few``: there are at most 256 colors. ``drawn``: a drawing, a
    screenshot, text. ``smooth``: many neighbors are the same. ``frames``: more than one is an animation.
    """

    size: Size
    transparent: bool = False
    few: bool = False
    drawn: bool = False
    smooth: bool = False
    frames: int = 1

    @property
    def small(self) -> bool:
        """Whether every candidate is written."""
        return self.size.pixels <= SMALL


def encode_auto(image: Image, options: AutoOptions) -> Chosen:
    """The picture in the format that suits it, with 8 bits a sample; raises what :func:`encode` raises."""
    image = image.with_pixels(to_uint8(image.pixels))
    look = look_at(image)
    if image.has_alpha and not look.transparent:
        image = image.with_pixels(np.ascontiguousarray(image.pixels[..., :3]))
    written: list[tuple[Candidate, bytes]] = []
    for candidate in choose(look, options):
        body = encode(image, candidate.format, candidate.options)
        written = _kept([*written, (candidate, body)])
    best = _best(written, look)
    return Chosen(best[0].format, best[1])


def _kept(written: list[tuple[Candidate, bytes]]) -> list[tuple[Candidate, bytes]]:
    """The smallest lossless and the smallest lossy one: no more are held in memory."""
    kept = []
    for lossless in (True, False):
        kind = [pair for pair in written if pair[0].lossless is lossless]
        kept += [min(kind, key=lambda pair: len(pair[1]))] if kind else []
    return kept


def _best(written: Sequence[tuple[Candidate, bytes]], look: Look) -> tuple[Candidate, bytes]:
    smallest = min(written, key=lambda pair: len(pair[1]))
    exact = [pair for pair in written if pair[0].lossless]
    if look.drawn and exact and len(exact[0][1]) <= PATIENCE * len(smallest[1]):
        return exact[0]
    return smallest


def choose(look: Look, options: AutoOptions) -> tuple[Candidate, ...]:
    """The candidates, at least one; of an animation exactly one, where a format that holds frames is accepted."""
    accepted = [name for name in options.accepted if max(look.size) <= FORMATS[name].max_side]
    if not accepted:
        accepted = list(options.accepted)  # encode() says what is wrong with the size
    if look.frames > 1:
        moving = [name for name in MOVING if name in accepted]
        if moving:
            return (_lossy(moving[0], options),)
    lossless = _lossless_ones(look, accepted)
    lossy = _lossy_ones(look, options, accepted)
    if lossy and not look.drawn:
        return (*lossy, *(lossless if look.small and (look.smooth or look.few) else ()))
    if lossless:
        return (*lossless, *lossy)
    return lossy or (_lossy(accepted[0], options),)


def _lossless_ones(look: Look, accepted: Sequence[str]) -> tuple[Candidate, ...]:
    """WebP is nearly always smaller than PNG, so of a large picture only that."""
    found = []
    if "webp" in accepted:
        found.append(Candidate("webp", {"lossless": True}, lossless=True))
    if "png" in accepted and (look.small or not found):
        colors = {"colors": PALETTE} if look.few else {}
        found.append(Candidate("png", {"compression": 6, **colors}, lossless=True))
        if look.drawn and not look.few:  # about every second drawing is smaller so
            found.append(Candidate("png", {"compression": 6, "filter": "none"}, lossless=True))
    if "gif" in accepted and look.few and not look.transparent and not found:
        found.append(Candidate("gif", {}, lossless=True))
    return tuple(found)


def _lossy_ones(look: Look, options: AutoOptions, accepted: Sequence[str]) -> tuple[Candidate, ...]:
    """The smallest kind first, the quickest last."""
    names = [name for name in ("avif", "webp") if name in accepted]
    if not look.small:
        names = names[:1]
    if "jpeg" in accepted and not look.transparent:
        names.append("jpeg")
    return tuple(_lossy(name, options) for name in names)


def _lossy(name: str, options: AutoOptions) -> Candidate:
    if name == "jpeg":
        chosen: dict[str, Any] = {"progressive": True, "background": options.background}
    else:
        chosen = {}
    if name in ("jpeg", "webp", "avif"):
        chosen["quality"] = quality_of(name, options.quality)
    return Candidate(name, chosen, lossless=False)


def quality_of(name: str, quality: int) -> int:
    """The quality at which an encoder gives what JPEG gives at ``quality``."""
    if name not in _QUALITY:
        return quality
    return round(float(np.interp(quality, *_QUALITY[name])))


def look_at(image: Image) -> Look:
    """What the choice depends on, of 8-bit pixels; colors and neighbors of a bounded part spread over the picture."""
    pixels = to_uint8(image.pixels)
    transparent = image.has_alpha and bool((pixels[..., 3] < 255).any())
    if image.has_alpha and not transparent:
        pixels = pixels[..., :3]
    part = _part(pixels)
    same, soft = _neighbors(part)
    few = distinct(packed(part), PALETTE) is not None and distinct(packed(pixels), PALETTE) is not None
    drawn = distinct(packed(part), DRAWN_COLORS) is not None or (same >= DRAWN_SAME and soft <= DRAWN_SOFT)
    return Look(image.size, transparent, few, drawn, smooth=same >= SMOOTH_SAME)


def _part(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """At most ``SAMPLE`` rows and columns, in bands and whole stretches, so that neighbors stay neighbors."""
    for axis in (0, 1):
        length = pixels.shape[axis]
        if length > SAMPLE:
            bands = 16
            step, width = length // bands, SAMPLE // bands
            index = (np.arange(bands)[:, np.newaxis] * step + np.arange(width)).ravel()
            pixels = np.take(pixels, index, axis)
    return pixels


def _neighbors(part: NDArray[np.uint8]) -> tuple[float, float]:
    """The share of pixels like their right neighbor, and of the others the share that is nearly so."""
    if part.shape[1] < 2:
        return 1.0, 0.0
    difference = cv2.absdiff(np.ascontiguousarray(part[:, 1:]), np.ascontiguousarray(part[:, :-1]))
    if difference.ndim == 3:
        difference = difference.max(axis=2)
    differ = int(np.count_nonzero(difference))
    near = int(np.count_nonzero(difference <= NEAR)) - (difference.size - differ)
    return 1 - differ / difference.size, near / differ if differ else 0.0
