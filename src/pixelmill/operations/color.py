"""Operations on the color of each pixel alone, from grayscale and brightness to sepia and hue.

What looks at the whole image first is in ``tones.py``, palettes are in ``palette.py``.
"""

from __future__ import annotations

from typing import Any, ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from pixelmill.images.image import Image, Need, Size
from pixelmill.operations.operation import Facts, Operation, Pointwise, Step
from pixelmill.operations.parameters import Color
from pixelmill.operations.pixels import (
    as_gray,
    channels_of_color,
    fit_depth,
    full_scale,
    gray_of,
    on_colors,
    pointwise,
    transformed,
)

_LUMA = (0.299, 0.587, 0.114)
_SEPIA = ((0.393, 0.769, 0.189), (0.349, 0.686, 0.168), (0.272, 0.534, 0.131))


class Grayscale(Operation):
    """Keep luma only (ITU-R BT.601: 0.299 R + 0.587 G + 0.114 B). Transparency is kept.

    A JPEG that is gray from the start of the pipeline is decoded without its color, as OpenCV's IMREAD_GRAYSCALE does.
    """

    name: ClassVar[str] = "grayscale"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Remove color"

    def facts(self) -> Facts:
        """One weighted sum a pixel."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.1, memory_factor=0.4)

    def channels(self, channels: int) -> int:
        """Gray, or RGBA where there is transparency."""
        return 4 if channels == 4 else 1

    def need(self, after: Need, size: Size) -> Need:
        """Luma is enough, and averages of luma are the luma of averages."""
        del size
        return Need(color=False, least=after.least)

    def apply(self, image: Image) -> Step:
        """Convert; RGBA stays RGBA, with equal colors."""
        pixels = image.pixels
        if pixels.ndim == 2:
            return Step(image)
        gray = gray_of(pixels)
        if not image.has_alpha:
            return Step(as_gray(image, gray))
        spread: NDArray[Any] = np.dstack((gray, gray, gray, pixels[..., 3]))
        return Step(Image(spread))


class Brightness(Pointwise):
    """Add a part of the full range to each color sample; what leaves the range is cut off."""

    name: ClassVar[str] = "brightness"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker by a fixed amount"
    example: ClassVar[str] = "0.2"

    amount: float = Field(
        ge=-1, le=1, description="What is added: 0.1 is a tenth of the range", json_schema_extra={"unit": "full range"}
    )

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``x + amount``."""
        return x + self.amount


class Contrast(Pointwise):
    """Stretch the color samples around middle gray; what leaves the range is cut off."""

    name: ClassVar[str] = "contrast"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "More or less contrast around middle gray"
    example: ClassVar[str] = "1.5"

    factor: float = Field(ge=0, le=100, description="1 changes nothing, 0 gives flat gray, 2 doubles the differences")

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``(x - 0.5) * factor + 0.5``."""
        return (x - 0.5) * self.factor + 0.5


class Gamma(Pointwise):
    """Raise each color sample to the power 1 / gamma: above 1 lightens the middle tones, below 1 darkens them."""

    name: ClassVar[str] = "gamma"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Lighter or darker middle tones; black and white stay"
    example: ClassVar[str] = "1.8"

    gamma: float = Field(ge=0.05, le=20, description="1 changes nothing; 2.2 lightens, 0.45 darkens")

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``x ** (1 / gamma)``."""
        result: NDArray[Any] = x ** (1.0 / self.gamma)
        return result


class Invert(Pointwise):
    """The negative: light becomes dark, each color its opposite."""

    name: ClassVar[str] = "invert"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Negative colors"

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """``1 - x``."""
        return 1.0 - x

    def need(self, after: Need, size: Size) -> Need:
        """A straight line that cuts nothing off commutes with averages and with luma."""
        del size
        return after


class Posterize(Pointwise):
    """Few steps instead of smooth tones: each color sample becomes the nearest of as many levels, evenly spread."""

    name: ClassVar[str] = "posterize"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Few steps instead of smooth tones"
    example: ClassVar[str] = "4"

    levels: int = Field(default=4, ge=2, le=256, description="Levels of each channel, from black to full")

    def curve(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Parts of equal width, each to its level."""
        parts: NDArray[Any] = np.minimum(np.floor(x * self.levels), self.levels - 1)
        return parts / (self.levels - 1)


class _Mixed(Operation):
    """An operation that multiplies red, green and blue by a 3x3 matrix, as ``cv2.transform`` does."""

    family: ClassVar[str] = "color"

    def facts(self) -> Facts:
        """A matrix a pixel."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=0.2, memory_factor=2.0)

    def matrix(self) -> NDArray[np.float64]:
        """Rows give red, green and blue."""
        raise NotImplementedError

    def apply(self, image: Image) -> Step:
        """``cv2.transform``; gray becomes RGB first."""

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            rgb = cv2.cvtColor(colors, cv2.COLOR_GRAY2RGB) if colors.ndim == 2 else colors
            return transformed(rgb, self.matrix())

        return Step(on_colors(image, run))


class Saturation(_Mixed):
    """Move each color away from its luma (ITU-R BT.601), or toward it. Gray and transparency are left alone."""

    name: ClassVar[str] = "saturation"
    summary: ClassVar[str] = "Stronger or weaker colors"
    example: ClassVar[str] = "1.5"

    factor: float = Field(ge=0, le=10, description="1 changes nothing, 0 removes color, 2 doubles it")

    def matrix(self) -> NDArray[np.float64]:
        """``factor * color + (1 - factor) * luma``."""
        return self.factor * np.eye(3) + (1.0 - self.factor) * np.array([_LUMA] * 3)

    def apply(self, image: Image) -> Step:
        """Gray has no color."""
        return Step(image) if image.channels == 1 else super().apply(image)


class Sepia(_Mixed):
    """The brown of old photographs, by the usual matrix of sRGB samples. Gray becomes RGB; transparency is kept."""

    name: ClassVar[str] = "sepia"
    summary: ClassVar[str] = "The brown of old photographs"
    example: ClassVar[str] = "0.8"

    amount: float = Field(default=1.0, ge=0, le=1, description="0 changes nothing, 1 is all sepia")

    def channels(self, channels: int) -> int:
        """RGB, or RGBA."""
        return max(3, channels)

    def matrix(self) -> NDArray[np.float64]:
        """Between doing nothing and sepia."""
        return self.amount * np.array(_SEPIA) + (1.0 - self.amount) * np.eye(3)


class Tint(_Mixed):
    """Color the luma: black stays black and white becomes the color. Gray becomes RGB; transparency is kept."""

    name: ClassVar[str] = "tint"
    summary: ClassVar[str] = "Color everything with one color"
    example: ClassVar[str] = "ff8800,0.6"
    positional: ClassVar[int] = 2

    color: Color = Field(description="What white becomes; its alpha is not used")
    amount: float = Field(default=1.0, ge=0, le=1, description="0 changes nothing, 1 leaves only that color")

    def channels(self, channels: int) -> int:
        """RGB, or RGBA."""
        return max(3, channels)

    def matrix(self) -> NDArray[np.float64]:
        """Between doing nothing and the color times luma."""
        color = channels_of_color(self.color, np.dtype(np.float32))[:3]
        return self.amount * np.outer(color, _LUMA) + (1.0 - self.amount) * np.eye(3)


class Hue(Operation):
    """Turn each color on the color circle (HSV); lightest and darkest channel keep their values.

    Computed in ``float32`` at every depth. Gray and transparency are left alone.
    """

    name: ClassVar[str] = "hue"
    family: ClassVar[str] = "color"
    summary: ClassVar[str] = "Turn colors on the color circle"
    example: ClassVar[str] = "90"

    angle: float = Field(
        ge=-360,
        le=360,
        description="How far: 120 turns red to green, green to blue and blue to red",
        json_schema_extra={"unit": "degrees"},
    )

    def facts(self) -> Facts:
        """To HSV and back."""
        return Facts("pointwise", "cv2-exact", ns_per_pixel=7.0, memory_factor=14.0)

    def apply(self, image: Image) -> Step:
        """``cv2.cvtColor`` to HSV and back."""
        if image.channels == 1:
            return Step(image)

        def run(colors: NDArray[Any]) -> NDArray[Any]:
            full = np.float32(full_scale(colors.dtype))
            hsv = pointwise(lambda part: cv2.cvtColor(part, cv2.COLOR_RGB2HSV), colors.astype(np.float32) / full)
            hsv[..., 0] = np.mod(hsv[..., 0] + np.float32(self.angle), np.float32(360))
            return fit_depth(pointwise(lambda part: cv2.cvtColor(part, cv2.COLOR_HSV2RGB), hsv) * full, colors.dtype)

        return Step(on_colors(image, run))
