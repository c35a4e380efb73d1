"""Operations on tones that look at the image first: autocontrast, white_balance, equalize, clahe, threshold.

Transparency is left alone. OpenCV's tables are of 8 or 16 bits; floats go through 16 where it is told. What the whole
image says is counted in integers, so that tiles add up to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.images.samples import to_uint16
from pixelmill.operations.clahe_tiles import clahe_survey
from pixelmill.operations.levels import at_percentile, counted, counted_channels, equalizing, means, otsu
from pixelmill.operations.luma import luma_of, on_luma
from pixelmill.operations.operation import Facts, Kind, Operation, Step
from pixelmill.operations.passes import Array, Form, Look, Pass, Place, Survey, summed
from pixelmill.operations.pixels import as_gray, full_scale, gray8_of, gray_of, on_colors, transformed

_MAX_GAIN = 8.0


class Autocontrast(Operation):
    """Stretch the tones so that the darkest become black and the lightest white.

    Dark and light are told by luma, and all channels are stretched alike, unless per_channel is true, which also takes
    a cast away. Pixels that are wholly transparent don't count.
    """

    name: ClassVar[str] = "autocontrast"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Stretch tones from black to white"
    example: ClassVar[str] = "1"

    cutoff: float = Field(
        default=0.0,
        ge=0,
        le=49,
        description="How many of the darkest and of the lightest are cut off",
        json_schema_extra={"unit": "percent"},
    )
    per_channel: bool = Field(default=False, description="Stretch red, green and blue each by itself")

    def facts(self) -> Facts:
        """Percentiles, then a straight line."""
        return Facts("reduction", "self-exact", ns_per_pixel=3.3, memory_factor=4.0)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Counts, then a straight line."""
        return (_counting(self, form, self._counts, self._line, _scaled),)

    def apply(self, image: Image) -> Step:
        """Counts, then ``cv2.transform``."""
        return Step(_scaled(image, self._line(self._counts(image))))

    def _counts(self, image: Image) -> NDArray[np.int64]:
        seen = _seen(image)
        if not self.per_channel and seen.shape[1] == 3:
            return counted(gray_of(seen[:, None, :]) if len(seen) else seen[:, 0])[None]
        return counted_channels(seen)

    def _line(self, counts: NDArray[np.int64]) -> _Line | None:
        if not counts.any():
            return None
        low, high = (at_percentile(counts, percent).astype(float) for percent in (self.cutoff, 100 - self.cutoff))
        flat = high <= low
        gain = np.where(flat, 1.0, (counts.shape[1] - 1) / np.where(flat, 1.0, high - low))
        return gain, np.where(flat, 0.0, -low * gain) / (counts.shape[1] - 1)


class WhiteBalance(Operation):
    """Take a color cast away by a gain for red, green and blue each (von Kries). Gray is left alone.

    gray-world makes the means of the channels alike, white-patch their lightest hundredth. No gain is above 8. Pixels
    that are wholly transparent don't count.
    """

    name: ClassVar[str] = "white_balance"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Take a color cast away"
    example: ClassVar[str] = "white-patch"

    method: Literal["gray-world", "white-patch"] = Field(
        default="gray-world", description="What should be without color: the mean, or the lightest"
    )
    amount: float = Field(default=1.0, ge=0, le=1, description="0 changes nothing, 1 takes all of the cast away")

    def facts(self) -> Facts:
        """Means or percentiles, then a gain."""
        cost = 4.6 if self.method == "gray-world" else 2.6
        return Facts("reduction", "self-exact", ns_per_pixel=cost, memory_factor=4.0)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Counts, then a gain."""
        return (_counting(self, form, self._counts, self._gains, _scaled),)

    def apply(self, image: Image) -> Step:
        """Counts, then ``cv2.transform``."""
        return Step(image if image.channels == 1 else _scaled(image, self._gains(self._counts(image))))

    def _counts(self, image: Image) -> NDArray[np.int64]:
        return counted_channels(_seen(image))

    def _gains(self, counts: NDArray[np.int64]) -> _Line | None:
        if len(counts) == 1 or not counts.any():
            return None
        if self.method == "gray-world":
            own = means(counts)
            target = float(own.mean())
        else:
            own = at_percentile(counts, 99).astype(np.float64)
            target = float(own.max())
        gain = np.minimum(np.divide(target, own, out=np.ones(3), where=own > 0), _MAX_GAIN)
        return 1.0 + self.amount * (gain - 1.0), np.zeros(3)


class Equalize(Operation):
    """Spread the tones so that all are used alike (histogram equalization). Of colors, only luma is changed.

    8 bits are OpenCV's equalizeHist; 16 bits and floats get the same at 16 bits.
    """

    name: ClassVar[str] = "equalize"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Use all tones alike"

    def facts(self) -> Facts:
        """A histogram, then a table."""
        return Facts("reduction", "cv2-exact", ns_per_pixel=0.7, memory_factor=3.0)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Counts, then a table."""

        def mapped(image: Image, table: NDArray[Any] | None) -> Image:
            if table is None:
                return on_colors(image, lambda colors: on_luma(colors, lambda luma: luma))
            return on_colors(image, lambda colors: on_luma(colors, lambda luma: cv2.LUT(luma, table)))

        def counts(image: Image) -> NDArray[np.int64]:
            return counted(luma_of(image))

        return (_counting(self, form, counts, equalizing, mapped),)

    def apply(self, image: Image) -> Step:
        """``cv2.equalizeHist``, or its table for 65,536 levels."""
        return Step(on_colors(image, lambda colors: on_luma(colors, _equalized)))


class Clahe(Operation):
    """Equalize each part of the image by its own tones, with a limit on contrast (Zuiderveld 1994).

    Of colors, only luma is changed. Floats are equalized at 16 bits.
    """

    # At 16 bits each part has a table of 128 KiB, so 16 by 16 of them take 32 MiB.
    name: ClassVar[str] = "clahe"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "More local contrast"
    example: ClassVar[str] = "2,tiles=8"

    clip: float = Field(
        default=2.0, ge=0, le=100, description="Limit on contrast, in multiples of an even histogram; 0 is no limit"
    )
    tiles: int = Field(default=8, ge=1, le=16, description="Parts in each row and in each column")

    def facts(self) -> Facts:
        """Histograms of parts, then tables between which is interpolated."""
        return Facts("reduction", "cv2-exact", ns_per_pixel=1.5, memory_factor=3.0)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Histograms of parts by tile, then tables between which is interpolated."""
        return (clahe_survey(form, self.clip, self.tiles),)

    def apply(self, image: Image) -> Step:
        """``cv2.createCLAHE``."""

        def run(luma: NDArray[Any]) -> NDArray[Any]:
            return cv2.createCLAHE(self.clip, (self.tiles, self.tiles)).apply(luma)

        return Step(on_colors(image, lambda colors: on_luma(colors, run)))


class Threshold(Operation):
    """Black and white: luma above a threshold becomes white. Transparency is kept.

    otsu finds the threshold that parts the tones best (Otsu 1979) and gives it as data. adaptive compares each pixel
    with the mean around it, at 8 bits.
    """

    name: ClassVar[str] = "threshold"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Black and white by a threshold"
    output: ClassVar[Literal["image", "data", "both"]] = "both"
    example: ClassVar[str] = "otsu"

    method: Literal["fixed", "otsu", "adaptive"] = Field(default="fixed", description="Where the threshold comes from")
    value: float = Field(
        default=0.5, ge=0, le=1, description="The threshold of fixed", json_schema_extra={"unit": "full range"}
    )
    radius: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Reach of the square around each pixel of adaptive",
        json_schema_extra={"unit": "pixels"},
    )
    offset: float = Field(
        default=0.01,
        ge=-1,
        le=1,
        description="How far below the mean the threshold of adaptive lies",
        json_schema_extra={"unit": "full range"},
    )
    invert: bool = Field(default=False, description="White where it would be black")

    def facts(self) -> Facts:
        """Each method its own kind."""
        kinds: dict[str, tuple[Kind, int, float]] = {
            "fixed": ("pointwise", 0, 0.2),
            "otsu": ("reduction", 0, 0.3),
            "adaptive": ("local", self.radius, 0.5),
        }
        kind, halo, cost = kinds[self.method]
        return Facts(kind, "cv2-exact", halo=halo, ns_per_pixel=cost, memory_factor=2.0)

    def channels(self, channels: int) -> int:
        """Gray, or RGBA where there is transparency."""
        return 4 if channels == 4 else 1

    def need(self, after: Need, size: Size) -> Need:
        """Every pixel, of luma."""
        del after, size
        return Need(color=False)

    def tiled(self, form: Form) -> tuple[Pass, ...]:
        """Otsu counts first; the others are as local as they are."""
        if self.method != "otsu":
            return super().tiled(form)

        def parted(image: Image, found: int) -> Image:
            return self._shown(image, self._parted(_levels(image), found))

        def counts(image: Image) -> NDArray[np.int64]:
            return counted(gray_of(image.pixels))

        survey = _counting(self, form, counts, otsu, parted)
        full = full_scale(np.dtype(np.uint8 if form.dtype == np.uint8 else np.uint16))
        return (replace(survey, data=lambda found: {"threshold": found / full}),)

    def apply(self, image: Image) -> Step:
        """``cv2.threshold`` or ``cv2.adaptiveThreshold``."""
        gray = gray_of(image.pixels)
        full = full_scale(gray.dtype)
        code = cv2.THRESH_BINARY_INV if self.invert else cv2.THRESH_BINARY
        if self.method == "adaptive":
            side, below = 2 * self.radius + 1, self.offset * 255
            small = cv2.adaptiveThreshold(gray8_of(gray), 255, cv2.ADAPTIVE_THRESH_MEAN_C, code, side, below)
            return Step(self._shown(image, small > 0))
        if self.method == "fixed":
            return Step(self._shown(image, cv2.threshold(np.nan_to_num(gray), self.value * full, full, code)[1] > 0))
        levels = _levels(image)
        found = int(cv2.threshold(levels, 0, 1, code | cv2.THRESH_OTSU)[0])
        return Step(self._shown(image, self._parted(levels, found)), {"threshold": found / full_scale(levels.dtype)})

    def _parted(self, levels: NDArray[Any], found: int) -> NDArray[np.bool_]:
        return levels <= found if self.invert else levels > found

    def _shown(self, image: Image, white: NDArray[np.bool_]) -> Image:
        dtype = image.pixels.dtype
        parted = np.where(white, full_scale(dtype), 0.0).astype(dtype)
        if not image.has_alpha:
            return as_gray(image, parted)
        return Image(np.dstack((parted, parted, parted, image.pixels[..., 3])))


def _levels(image: Image) -> NDArray[Any]:
    """Luma of 8 or 16 bits."""
    gray = gray_of(image.pixels)
    return to_uint16(gray) if gray.dtype == np.float32 else gray


_Line: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Gain and offset of each channel, or of all; the offset on the scale from 0 to 1."""


def _counting(
    operation: Operation,
    form: Form,
    counts: Callable[[Image], NDArray[np.int64]],
    conclude: Callable[[NDArray[np.int64]], Any],
    finish: Callable[[Image, Any], Image],
) -> Survey:
    """Counts of all tiles, added up; what follows from them; and every tile by that."""
    facts = operation.facts()

    def look(pixels: Array, place: Place) -> Look:
        return Look(counts(Image(place.core.of(pixels, place.extended))))

    return Survey(
        operation.name,
        look,
        lambda told: conclude(told[0][1]),
        lambda pixels, _, concluded: finish(Image(pixels), concluded).pixels,
        join=summed,
        channels=operation.channels(form.channels),
        ns_per_pixel=facts.ns_per_pixel,
        memory_factor=facts.memory_factor,
    )


def _seen(image: Image) -> NDArray[Any]:
    """The color samples of pixels that are not wholly transparent, ``N×1`` or ``N×3``; floats from 0 to 1."""
    pixels: NDArray[Any] = image.pixels
    if image.has_alpha:
        seen: NDArray[Any] = pixels[..., :3][pixels[..., 3] > 0]
    else:
        seen = pixels.reshape(-1, image.channels)
    return np.clip(np.nan_to_num(seen), 0.0, 1.0) if seen.dtype == np.float32 else seen


def _scaled(image: Image, line: _Line | None) -> Image:
    """Each channel times its gain plus its offset; one of each serves all channels. None: as it is."""
    if line is None:
        return image
    gain, offset = line
    count = min(3, image.channels)
    shift = np.broadcast_to(offset * full_scale(image.pixels.dtype), count)
    matrix = np.column_stack((np.diag(np.broadcast_to(gain, count)), shift))
    return on_colors(image, lambda colors: transformed(colors, matrix))


def _equalized(luma: NDArray[Any]) -> NDArray[Any]:
    """``cv2.equalizeHist``, which has 8 bits only; its formula at 16 bits."""
    if luma.dtype == np.uint8:
        return cv2.equalizeHist(luma)
    table = equalizing(counted(luma))
    return luma if table is None else table[luma]
